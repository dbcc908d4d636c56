"""`cad carousel top`: the carousels as they are, renewed every second."""

import time
from pathlib import Path
from typing import Any

import click

from cad.cli.shell.options import daemon_options


@click.command("top")
@click.option("--once", is_flag=True, help="Show once and end; so does --json, and output that is not a terminal.")
@click.option("--every", "every_s", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, help="Seconds.")
@daemon_options
def command(once: bool, every_s: float, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Show rate, rings and backlog of every multiplex, live; Ctrl-C ends."""
    from rich.live import Live

    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json

    out = console()
    with daemon(config, socket_path) as client:
        found: dict[str, Any] = client.get("/v1/carousel")
        if as_json:
            show_json(found)
            return
        if once or not out.is_terminal:
            out.print(document(found))
            return
        with Live(document(found), console=out, auto_refresh=False, screen=True) as live:
            try:
                while True:
                    time.sleep(every_s)
                    live.update(document(client.get("/v1/carousel")), refresh=True)
            except KeyboardInterrupt:
                return
