"""`cad explain`."""

from pathlib import Path

import click

from cad.cli.shell.options import daemon_options


@click.command("explain")
@click.argument("card")
@click.argument("channel", required=False)
@daemon_options
def command(card: str, channel: str | None, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Say why CARD (its printed number) can see CHANNEL or not; without CHANNEL all that it holds.

    CHANNEL is the id of a service in the settings.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json
    from protocol import card_number

    number = card_number.spell(card_number.parse(card))
    parameters = {} if channel is None else {"channel": channel}
    with daemon(config, socket_path) as client:
        found = client.get(f"/v1/explain/{number}", **parameters)
    if as_json:
        show_json(found)
    else:
        console().print(document(found))
