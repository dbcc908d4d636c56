"""`cad card verify` and `cad card refresh`: does this card agree with the headend, and mend it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.cli.cards.options import choose_reader
from cad.cli.cards.technician_options import field_work, offline_option, reader_option, technician_option
from cad.cli.shell.options import json_option

if TYPE_CHECKING:
    from cad.field.report import ReportDocument
    from cad.field.work import FieldWork


@click.command("verify")
@reader_option
@click.option("--watch", is_flag=True, help="Card after card until Ctrl-C: each gets its verdict and a sound.")
@click.option("--count", type=click.IntRange(min=1), default=None, help="With --watch: end after so many cards.")
@offline_option
@technician_option
@json_option
def command(reader: str | None, watch: bool, count: int | None, offline: bool, technician: Path, as_json: bool) -> int:
    """Say in ten seconds whether the card is genuine, and whether card and headend agree.

    Exit code 0: PASS. 4: FAIL; the words say what to do next. 5: neither the headend nor an extract could be asked.
    8: the extract does not hold this card. 10: card or reader. With --watch: 0, or 4 when a card failed.
    """
    if count is not None and not watch:
        raise click.UsageError("--count goes with --watch")
    with field_work(technician, offline) as work:
        if watch:
            return _watch(work, reader, count, as_json)
        report = _on_one(work, reader, refresh=False)
        _show(report, as_json)
        _hand_in(work, as_json)
    return _code(report)


@click.command("refresh")
@reader_option
@offline_option
@technician_option
@json_option
def refresh_command(reader: str | None, offline: bool, technician: Path, as_json: bool) -> int:
    """Write the card's current EMM straight into it, then verify it.

    The card is told just what is on the air for it: what is not ordered is not given. Exit codes as of `verify`.
    """
    with field_work(technician, offline) as work:
        report = _on_one(work, reader, refresh=True)
        _show(report, as_json)
        _hand_in(work, as_json)
    return _code(report)


def _on_one(work: "FieldWork", reader: str | None, refresh: bool) -> "ReportDocument":
    from cards import pcsc

    with pcsc.connect(choose_reader(pcsc.list_readers(), reader)) as connection:
        return work.refresh(connection) if refresh else work.verify(connection)


def _watch(work: "FieldWork", wanted: str | None, count: int | None, as_json: bool) -> int:
    """Card after card; what goes wrong with one is said, and the next may come."""
    import contextlib
    import queue

    from cad.cli.cards.verdict_view import BELLS
    from cad.cli.shell.exit_codes import ExitCode, code_of
    from cards import pcsc
    from cards.readers.state import ReaderEvent, ReaderEventKind
    from cards.readers.watch import ReaderWatch

    events: queue.Queue[ReaderEvent] = queue.Queue()
    failed = done = 0
    if not as_json:
        click.echo("Put in a card; Ctrl-C ends.")
    with contextlib.suppress(KeyboardInterrupt), ReaderWatch(pcsc.Context, events.put):
        while count is None or done < count:
            try:
                event = events.get(timeout=0.5)
            except queue.Empty:
                continue
            if event.kind is ReaderEventKind.SERVICE_LOST:
                click.echo(f"{event.detail}; {event.advice}", err=True)
            arrived = event.kind in (ReaderEventKind.CARD_INSERTED, ReaderEventKind.CARD_MUTE)
            if not arrived or (wanted is not None and wanted.casefold() not in event.reader.casefold()):
                continue
            passed = False
            try:
                with pcsc.connect(event.reader) as connection:
                    report = work.verify(connection)
            except Exception as error:
                if code_of(error) is None:
                    raise
                click.echo(f"{event.reader}: {error}", err=True)
            else:
                passed = report.passed
                _show(report, as_json, on_one_line=True)
                _hand_in(work, as_json)
            done += 1
            failed += not passed
            click.echo(BELLS[passed], nl=False, err=True)
    return ExitCode.CHECK_FAILED if failed else ExitCode.OK


def _show(report: "ReportDocument", as_json: bool, on_one_line: bool = False) -> None:
    from cad.cli.cards.verdict_view import verdict_view
    from cad.cli.shell.output import console, show_json

    if as_json and on_one_line:
        click.echo(report.model_dump_json())
    elif as_json:
        show_json(report.model_dump(mode="json"))
    else:
        console().print(verdict_view(report))


def _hand_in(work: "FieldWork", as_json: bool) -> None:
    """Give the headend what was done; without network it waits. Conflicts are shown."""
    answer = work.hand_in_if_possible()
    if as_json:
        return
    for visit in answer.visits if answer else ():
        if visit.conflict:
            click.echo(f"note {visit.seq}: {visit.conflict}", err=True)


def _code(report: "ReportDocument") -> int:
    from cad.cli.shell.exit_codes import ExitCode

    return ExitCode.OK if report.passed else ExitCode.CHECK_FAILED
