"""`cad explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cad.cli.shell.options import daemon_options, operator_parameter

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("explain")
@click.argument("card")
@click.argument("channel", required=False)
@click.option("--operator", help="Answer only when the card is this operator's.")
@daemon_options
def command(
    card: str, channel: str | None, operator: str | None, config: Path, socket_path: Path | None, as_json: bool
) -> None:
    """Say why CARD (its printed number) can see CHANNEL or not; without CHANNEL all that it holds.

    CHANNEL is the id of a service in the settings. The answer has a sentence for the customer, what the card would
    need, and advice for whoever answers; then order, rights, and when the card's EMM was first and last sent on each
    multiplex. With --operator another operator's card is answered like one that does not exist (exit code 8).
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json
    from protocol import card_number

    number = card_number.spell(card_number.parse(card))
    parameters = ({} if channel is None else {"channel": channel}) | operator_parameter(operator)
    with daemon(config, socket_path) as client:
        found = client.get(f"/v1/explain/{number}", **parameters)
    if as_json:
        show_json(found)
        return
    if (answer := found.pop("channel", None)) is not None:
        console().print(_answer(answer))
    console().print(document(found))


def _answer(channel: dict[str, Any]) -> "RenderableType":
    """The answer about a channel: what to tell the customer first, then what is missing."""
    from cad.cli.shell.output import document

    needs = [{"needs": need["text"]} for need in channel["needs"]]
    return document(
        {
            "channel": f"{channel['name']} ({channel['service']})",
            "to the customer": channel["sentence"],
            "advice": channel["advice"],
            **{name: channel[name] for name in ("visible", "code", "products")},
            "what the card needs": needs or "nothing",
        }
    )
