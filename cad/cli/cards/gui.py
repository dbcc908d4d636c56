"""`cad card gui`: the technician's page."""

from pathlib import Path

import click

from cad.cli.cards.technician_options import field_work, offline_option, technician_option


@click.command("gui")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8484, show_default=True, help="Port; 0 takes a free one."
)
@offline_option
@technician_option
def command(port: int, offline: bool, technician: Path) -> None:
    """Show a page in this machine's browser: put in a card, see green or red, until Ctrl-C.

    It listens on the loopback (127.0.0.1) only; no other machine reaches it.
    """
    import secrets

    import uvicorn

    from cad.field.gui.app import gui_app
    from cad.field.gui.bench import Bench
    from cad.http.server import bind_tcp
    from cards import pcsc
    from cards.readers.watch import ReaderWatch

    with field_work(technician, offline) as work:
        bench = Bench(work, pcsc.connect)
        listener = bind_tcp(f"127.0.0.1:{port}", "--port")
        config = uvicorn.Config(
            gui_app(bench, secrets.token_urlsafe(24)),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        with ReaderWatch(pcsc.Context, bench.tell):
            click.echo(f"open http://127.0.0.1:{listener.getsockname()[1]}/ in a browser; Ctrl-C ends")
            uvicorn.Server(config).run(sockets=[listener])
    click.echo("the page is closed")
