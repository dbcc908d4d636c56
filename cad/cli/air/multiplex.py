"""`cad multiplex`."""

from pathlib import Path

import click

from cad.cli.shell.options import daemon_options


@click.group("multiplex")
def group() -> None:
    """Choose the multiplexer that carries a stream."""


@group.command("switch")
@click.argument("multiplex")
@click.argument("to", type=click.Choice(["main", "standby"]))
@click.option("--yes", is_flag=True, help="Do not ask.")
@daemon_options
def switch(multiplex: str, to: str, yes: bool, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Have the main or the standby multiplexer carry the stream of MULTIPLEX (its id in the settings).

    The stream is opened there first, and only then closed on the other. Where it cannot be opened within takeover_s,
    nothing is changed and the exit code is 12. The choice holds until the multiplexer fails, or the daemon restarts.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json

    if not yes:
        click.confirm(f"Is what the {to} of {multiplex} sends what receivers get?", abort=True)
    with daemon(config, socket_path) as client:
        found = client.post(f"/v1/multiplexes/{multiplex}/switch/{to}")
    if as_json:
        show_json(found)
    else:
        console().print(document(found))
