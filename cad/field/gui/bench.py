"""What happens at the reader while the page is open: each card put in gets its verdict. Threads may share it."""

import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal

from cad.cli.shell.exit_codes import code_of
from cad.field.report import ReportDocument
from cad.field.work import Card, FieldWork
from cad.frame.logs import redact_text
from cards.readers.state import ReaderEvent, ReaderEventKind

Phase = Literal["waiting", "working", "report", "error"]
Connect = Callable[[str], AbstractContextManager[Card]]


class Bench:
    """The state that the page shows. `tell` is given the readers' events by a `ReaderWatch`.

    `connect` opens the card in a named reader.
    """

    def __init__(self, work: FieldWork, connect: Connect) -> None:
        self._work = work
        self._connect = connect
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._readers: set[str] = set()
        self._card_in: str | None = None
        self._version = 0
        self._shown: dict[str, Any] = {"phase": "waiting", "report": None, "error": None}
        self._service: str | None = None

    def state(self) -> dict[str, Any]:
        """What the page shows; `version` rises with every change."""
        with self._lock:
            return {
                **self._shown,
                "version": self._version,
                "readers": sorted(self._readers),
                "card_in": self._card_in,
                "service": self._service,
            }

    def tell(self, event: ReaderEvent) -> None:
        """Follow one event; a card that was put in is verified before this returns."""
        match event.kind:
            case ReaderEventKind.READER_ADDED:
                self._change(lambda: self._readers.add(event.reader))
            case ReaderEventKind.READER_REMOVED:
                self._change(lambda: self._readers.discard(event.reader))
            case ReaderEventKind.SERVICE_LOST:
                self._set_service(f"{event.detail}; {event.advice}")
            case ReaderEventKind.SERVICE_BACK:
                self._set_service(None)
            case ReaderEventKind.CARD_REMOVED:
                self._on_removal(event.reader)
            case ReaderEventKind.CARD_INSERTED | ReaderEventKind.CARD_MUTE:
                self._set_card(event.reader)
                self._do(event.reader, self._work.verify)

    def again(self, refresh: bool) -> bool:
        """Verify the card that is in once more, or write its current EMM first; False when there is no card."""
        with self._lock:
            reader = self._card_in
        if reader is None:
            return False
        self._do(reader, self._work.refresh if refresh else self._work.verify)
        return True

    def _do(self, reader: str, job: Callable[[Card], ReportDocument]) -> None:
        with self._busy:
            self._show("working")
            try:
                with self._connect(reader) as card:
                    report = job(card)
            except Exception as error:
                if code_of(error) is None:
                    print(redact_text("".join(traceback.format_exception(error))), end="", file=sys.stderr)  # noqa: T201
                    self._show("error", error="an unexpected failure: a defect of the program, please report it")
                else:
                    self._show("error", error=str(error))
                return
            self._show("report", report=report.model_dump(mode="json"))
            self._work.hand_in_if_possible()

    def _on_removal(self, reader: str) -> None:
        with self._lock:
            if self._card_in != reader:
                return
            self._card_in = None
            self._version += 1

    def _set_card(self, reader: str) -> None:
        with self._lock:
            self._card_in = reader
            self._version += 1

    def _set_service(self, text: str | None) -> None:
        with self._lock:
            self._service = text
            self._version += 1

    def _show(self, phase: Phase, report: dict[str, Any] | None = None, error: str | None = None) -> None:
        with self._lock:
            self._shown = {"phase": phase, "report": report, "error": error}
            self._version += 1

    def _change(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            self._version += 1
