"""`cad reader`: the PC/SC readers of this machine."""

import contextlib
import queue
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cad.cli.cards.options import aid_option, choose_aid, names_option, settings_if_any
from cad.cli.shell.options import json_option

if TYPE_CHECKING:
    from cad.cli.cards.report import EventDocument
    from cad.frame.clock import Clock
    from cards.readers.state import ReaderEvent


PAD: Final = {True: "yes", False: None, None: "in use"}


@click.group("reader")
def group() -> None:
    """List or watch card readers."""


@group.command("list")
@aid_option
@names_option
@json_option
def list_command(aid: bytes | None, config: Path | None, as_json: bool) -> None:
    """List the readers and what is in each."""
    from cad.cli.cards.report import ReadersDocument, reader_document
    from cad.cli.shell.output import console, show_json, table
    from cards import pcsc
    from cards.atr import names_application

    wanted = choose_aid(aid, settings_if_any(config))
    states = pcsc.list_readers()
    found = ReadersDocument(
        readers=[
            reader_document(state, names_application(state.atr, wanted), pcsc.reader_features(state.name))
            for state in states
        ]
    )
    if as_json:
        show_json(found.model_dump(mode="json"))
    elif not found.readers:
        click.echo("no reader is connected; plug one in, and look again")
    else:
        rows = [
            (
                reader.name,
                _words(reader.card, reader.in_use),
                _whose(reader.application, reader.known_as),
                PAD[reader.pin_pad],
                reader.atr,
            )
            for reader in found.readers
        ]
        console().print(table(("reader", "card", "application", "PIN pad", "answer to reset"), rows))


@group.command("watch")
@click.option("--for", "seconds", type=click.FloatRange(min=0.0), default=None, help="End after so many seconds.")
@aid_option
@names_option
@json_option
def watch_command(seconds: float | None, aid: bytes | None, config: Path | None, as_json: bool) -> None:
    """Tell when readers and cards come and go, until Ctrl-C; goes on when pcscd is restarted.

    With --json one document a line.
    """
    from cad.cli.cards.report import event_document
    from cad.frame.clock import SystemClock
    from cards.atr import names_application

    wanted = choose_aid(aid, settings_if_any(config))
    clock = SystemClock()
    # Ctrl-C is the orderly end, wherever it meets the program: waiting for an event or telling one.
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(_events(clock, seconds)) as events:
        for event in events:
            document = event_document(event, clock.now(), names_application(event.atr, wanted))
            click.echo(document.model_dump_json() if as_json else _line(document))


def _events(clock: "Clock", seconds: float | None) -> "Generator[ReaderEvent, None, None]":
    """The events of a watch, until the time is over."""
    from cards import pcsc
    from cards.readers.watch import ReaderWatch

    told: queue.SimpleQueue[ReaderEvent] = queue.SimpleQueue()
    end = None if seconds is None else clock.monotonic() + seconds
    with ReaderWatch(pcsc.Context, told.put):
        while end is None or clock.monotonic() < end:
            try:
                yield told.get(timeout=None if end is None else max(0.0, end - clock.monotonic()))
            except queue.Empty:
                return


def _line(document: "EventDocument") -> str:
    what = {
        "reader-added": "reader connected",
        "reader-removed": "reader gone",
        "card-inserted": "card put in",
        "card-mute": "card put in, but it does not answer: check the chip's side and its contacts",
        "card-removed": "card taken out",
        "service-lost": "PC/SC is not available",
        "service-back": "PC/SC is available again",
    }[document.event]
    whose = f", {_whose(document.application, document.known_as)}" if document.application is not None else ""
    detail = f": {document.detail}; {document.advice}" if document.detail else ""
    return f"{document.at}  {document.reader or '-'}  {what}{whose}{detail}"


def _words(card: str, in_use: bool) -> str:
    words = {
        "empty": "none",
        "present": "in",
        "mute": "does not answer: check the chip's side and its contacts",
        "unavailable": "the reader is not available",
    }[card]
    return f"{words}, in use by a program" if in_use else words


def _whose(application: bool | None, known_as: list[str]) -> str | None:
    if application is None:
        return None
    if application:
        return "of this system"
    return f"not named; perhaps: {known_as[0]}" if known_as else "not named; cad card read tells"
