"""`cad audit`: the record of every command."""

from pathlib import Path
from typing import IO

import click

from cad.cli.shell.options import config_option, daemon_options, operator_option, operator_parameter, socket_option


@click.group("audit")
def group() -> None:
    """Verify or export the record of every command."""


@group.command("verify")
@daemon_options
def verify(config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Verify the whole chain: no record removed, changed or cut off.

    Exit code 4 when it does not verify.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json

    with daemon(config, socket_path) as client:
        found = client.get("/v1/audit/verify")
    if as_json:
        show_json(found)
    else:
        console().print(document({"verdict": "the audit chain verifies"} | found))


@group.command("export")
@operator_option
@click.option("--output", "output", type=click.File("w", encoding="utf-8", atomic=True), default="-", help="A file.")
@config_option
@socket_option
def export(operator: str | None, output: IO[str], config: Path, socket_path: Path | None) -> None:
    """Write every record as one line of JSON, in order, to standard output or to a file.

    With --operator only the records that bear its name. Such an extract is no chain, since records between are missing:
    it cannot be verified by itself, but each record has its seq and MAC, by which it is found in the whole.
    """
    from cad.cli.shell.client import daemon

    with daemon(config, socket_path) as client:
        for line in client.lines("/v1/audit/export", **operator_parameter(operator)):
            click.echo(line, file=output)
