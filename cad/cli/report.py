"""`cad report`: what was, out of the ledger's history; and what a portal and the headend do not have in common."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from cad.cli.shell.options import (
    Decorator,
    config_option,
    daemon_options,
    json_option,
    operator_option,
    operator_parameter,
    socket_option,
)

CHANGE_COLUMNS = ("at", "operator", "card", "what", "name", "change", "command")
ACTIVE_COLUMNS = ("day", "operator", "as_of", "what", "name", "cards")

output_option: Decorator = click.option(
    "--output", "output", type=click.File("w", encoding="utf-8", atomic=True), default="-", help="A file."
)


@click.group("report")
def group() -> None:
    """Count active cards, list what was activated, or compare with a portal."""


@group.command("active")
@click.option("--day", required=True, metavar="DAY", help="As 2026-12-01, in each operator's time zone.")
@operator_option
@click.option("--csv", "as_csv", is_flag=True, help="Print lines of values with commas between.")
@daemon_options
def active(day: str, operator: str | None, as_csv: bool, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Count the cards that could open each channel, product and offer at the end of a day.

    Of a day that is not over, as it is now. A card that is suspended, lost or dead opens nothing.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json, table

    with daemon(config, socket_path) as client:
        found = client.get("/v1/reports/active", day=day, **operator_parameter(operator))
    if as_json:
        show_json(found)
    elif as_csv:
        _write_csv(sys.stdout, ACTIVE_COLUMNS, _active_rows(found))
    else:
        console().print(table([name.replace("_", " ") for name in ACTIVE_COLUMNS[1:]], _cells(_active_rows(found))))


@group.command("changes")
@click.option("--from", "first", required=True, metavar="DAY", help="The first day, as 2026-12-01.")
@click.option("--to", "last", required=True, metavar="DAY", help="The last day; it is included.")
@operator_option
@output_option
@json_option
@config_option
@socket_option
def changes(
    first: str,
    last: str,
    operator: str | None,
    output: IO[str],
    as_json: bool,
    config: Path,
    socket_path: Path | None,
) -> None:
    """List every activation and deactivation of a card, and of a channel, product or offer on a card.

    Lines of values with commas between; with --json one object a line. By operator and card, and in order of time.
    """
    from cad.cli.shell.client import daemon

    question = {"from": first, "to": last} | operator_parameter(operator)
    with daemon(config, socket_path) as client:
        lines = client.lines("/v1/reports/changes", **question)
        if as_json:
            for line in lines:
                click.echo(line, file=output)
        else:
            _write_csv(output, CHANGE_COLUMNS, (json.loads(line) for line in lines))


@group.command("snapshot")
@click.option("--operator", required=True, help="Whose cards, offers and subscriptions.")
@output_option
@config_option
@socket_option
def snapshot(operator: str, output: IO[str], config: Path, socket_path: Path | None) -> None:
    """Write all that an operator has, as of one moment: one item a line, as the portal's snapshot has them."""
    from cad.cli.shell.client import daemon

    with daemon(config, socket_path) as client:
        for line in client.lines("/v1/snapshot", operator=operator):
            click.echo(line, file=output)


@group.command("differences")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--operator", required=True, help="Whose cards, offers and subscriptions.")
@daemon_options
def differences(file: IO[str], operator: str, config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Compare FILE, a portal's view with one item a line, with what the headend has. Changes nothing.

    Items are as `cad report snapshot` writes them; of each only the fields that it names are compared. Exit code 4 when
    there are differences.
    """
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, document, show_json
    from cad.errors import CheckFailedError
    from cad.resync.comparing import compare, read_view

    view = read_view(file)
    with daemon(config, socket_path) as client:
        found = compare((json.loads(line) for line in client.lines("/v1/snapshot", operator=operator)), view)
    if as_json:
        show_json(found)
    elif any(found.values()):
        console().print(document(found))
    if any(found.values()):
        counts = ", ".join(f"{len(listed)} {name.replace('_', ' ')}" for name, listed in found.items())
        raise CheckFailedError(f"headend (here) and file (there) are not the same: {counts}")
    if not as_json:
        click.echo("no differences")


def _active_rows(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for one in found["operators"]:
        head = {"day": found["day"], "operator": one["operator"], "as_of": one["as_of"]}
        yield head | {"what": "card", "name": "", "cards": one["cards"]}
        for kind in ("service", "product", "offer"):
            for row in one[f"{kind}s"]:
                yield head | {"what": kind, "name": row[kind], "cards": row["cards"]}


def _cells(rows: Iterable[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in ACTIVE_COLUMNS[1:]] for row in rows]


def _write_csv(output: IO[str], columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
    writer = csv.DictWriter(output, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
