"""`cad message`: what is shown on the screens of subscribers."""

from pathlib import Path
from typing import Any

import click

from cad.cli.shell.options import daemon_options


@click.group("message")
def group() -> None:
    """See the messages and fingerprints that are on the air."""


@group.command("list")
@daemon_options
def list_command(config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Show each message on the air or to come: whose, to whom, until when, and how often it was sent where.

    "to all" is when it had been sent once to all that it is for, on every multiplex.

    The text is not shown: it is the operator's and the subscriber's. Sending is counted from the daemon's start.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json, table

    with daemon(config, socket_path) as client:
        found = client.get("/v1/messages")
    if as_json:
        show_json(found)
        return
    columns = ["network", "operator", "message", "to", "EMMs", "from", "until", "every", "sent"]
    rows = [_row(one) for one in found["messages"]]
    console().print(table(columns, rows, "messages") if rows else "no message is on the air or to come")


def _row(one: dict[str, Any]) -> list[Any]:
    sent = [
        f"{each['multiplex']}: {each['emms_sent']}, last {each['last_sent_at'] or 'never'}"
        for each in one["multiplexes"]
    ]
    if one["sent_to_all_at"] is not None:
        sent.append(f"to all: {one['sent_to_all_at']}")
    window = [one["starts_at"], one["ends_at"]]
    whose = [one["network"], one["operator"], one["message"], one["to"], one["emms"]]
    return [*whose, *window, f"{one['repeat_s']} s", "\n".join(sent)]
