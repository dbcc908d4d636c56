"""`cad clock`."""

from pathlib import Path

import click

from cad.cli.shell.options import daemon_options


@click.command("clock")
@click.option("--believe", is_flag=True, help="Take the machine's clock as it is from now on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@daemon_options
def command(believe: bool, yes: bool, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Show the daemon's time and whether it believes the machine's clock.

    A clock that jumps is not believed, because a time that has gone to the cards cannot be taken back: a card ignores
    everything older. Look at the machine's clock first; only then --believe.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json

    with daemon(config, socket_path) as client:
        if believe:
            if not yes:
                click.confirm("Is the machine's clock right? Cards cannot be set back.", abort=True)
            found = client.post("/v1/clock/believe")
        else:
            conditions = client.get("/v1/status")["health"]["conditions"]
            found = next((one for one in conditions if one["name"] == "clock"), {"name": "clock", "ok": False})
    if as_json:
        show_json(found)
    else:
        console().print(document(found))
