"""`cad field`: work without network: take an extract along, hand in afterwards what was done."""

from collections.abc import Iterable
from pathlib import Path

import click

from cad.cli.cards.technician_options import load_file, technician_option
from cad.cli.shell.options import json_option


@click.group("field")
def group() -> None:
    """Work on cards without network: take an extract along, hand in what was done."""


@group.command("fetch")
@click.option("--card", "numbers", multiple=True, metavar="NUMBER", help="Only this card; may be given repeatedly.")
@click.option(
    "--cards",
    "file",
    type=click.File(),
    default=None,
    help="Only the cards in this file, a number a line; `-` is standard input.",
)
@technician_option
@json_option
def fetch_command(numbers: tuple[str, ...], file: Iterable[str] | None, technician: Path, as_json: bool) -> None:
    """Take a signed extract of the ledger along; it expires by itself. Without --card: all cards of the operator."""
    from cad.cli.shell.output import console, document, show_json
    from cad.field.api import HeadendApi
    from cad.field.laptop import Laptop
    from cad.frame import clock as clocks
    from cad.frame.clock import SystemClock
    from protocol import card_number

    listed = [line.strip() for line in file or () if line.strip() and not line.startswith("#")]
    wanted = [card_number.spell(card_number.parse(one)) for one in [*numbers, *listed]]
    if file is not None and not wanted:
        raise click.UsageError("the file names no card")
    settings = load_file(technician)
    api, laptop = HeadendApi(settings), Laptop(settings.state_dir)
    try:
        me = api.me()
        signed = api.extract(wanted or None)
        extract = laptop.keep_extract(signed, me.extract_key, SystemClock().now())
    finally:
        api.close()
    found = {one.card.number for one in extract.cards}
    told = {
        "operator": extract.operator,
        "serial": extract.serial,
        "cards": len(extract.cards),
        "not_there": sorted(set(wanted) - found),
        "made_at": clocks.spell(extract.made_at),
        "expires_at": clocks.spell(extract.expires_at),
    }
    if as_json:
        show_json(told)
    else:
        console().print(document(told))


@group.command("send")
@technician_option
@json_option
def send_command(technician: Path, as_json: bool) -> int:
    """Hand in what was done without network. Exit code 4 when the ledger now says otherwise about a card.

    A conflict is shown, and nothing is overwritten: the ledger is changed by orders alone.
    """
    from cad.cli.shell.exit_codes import ExitCode
    from cad.cli.shell.output import console, show_json, table
    from cad.field.api import HeadendApi
    from cad.field.laptop import Laptop

    settings = load_file(technician)
    api, laptop = HeadendApi(settings), Laptop(settings.state_dir)
    try:
        waiting = {one.seq: one for one in laptop.waiting()}
        answer = laptop.hand_in(api.visits)
    finally:
        api.close()
    if as_json:
        show_json(answer.model_dump(mode="json"))
    elif not answer.visits:
        click.echo("nothing waits to be sent")
    else:
        rows = [
            (
                waiting[one.seq].card if one.seq in waiting else "-",
                waiting[one.seq].act if one.seq in waiting else "-",
                one.status,
                one.conflict or "agrees",
            )
            for one in answer.visits
        ]
        console().print(table(("card", "done", "headend", "ledger"), rows))
    return ExitCode.CHECK_FAILED if any(one.conflict for one in answer.visits) else ExitCode.OK


@group.command("show")
@technician_option
@json_option
def show_command(technician: Path, as_json: bool) -> None:
    """Show the extract taken along, and what waits to be sent."""
    from cad.cli.shell.output import console, document, show_json
    from cad.field.laptop import Laptop
    from cad.frame import clock as clocks
    from cad.frame.clock import SystemClock
    from cad.technicians.errors import ExtractError

    laptop = Laptop(load_file(technician).state_dir)
    told: dict[str, object]
    try:
        extract = laptop.extract(SystemClock().now())
        told = {
            "operator": extract.operator,
            "cards": len(extract.cards),
            "made_at": clocks.spell(extract.made_at),
            "expires_at": clocks.spell(extract.expires_at),
        }
    except ExtractError as error:
        told = {"extract": str(error)}
    told["waiting"] = [
        {"at": clocks.spell(one.at), "card": one.card, "done": one.act, "verdict": one.verdict}
        for one in laptop.waiting()
    ]
    if as_json:
        show_json(told)
    else:
        console().print(document(told))
