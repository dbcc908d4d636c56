"""`cad serve`: the daemon."""

from pathlib import Path

import click

from cad.cli.shell.options import config_option


@click.command("serve")
@config_option
def command(config: Path) -> int:
    """Run the daemon in the foreground until SIGTERM.

    SIGHUP reads the settings again. A second SIGTERM leaves at once; nothing that was answered is lost by that.
    """
    from cad.frame import logs
    from config.load import load

    settings = load(config)
    logs.configure(settings.log.level, settings.log.format)
    from cad.app import serve

    return serve(settings, config)
