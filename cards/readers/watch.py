"""A thread that watches readers and cards, and outlives pcscd."""

import threading
from collections.abc import Callable
from typing import Final, Protocol, Self

from cards.errors import PcscError
from cards.readers.state import ReaderEvent, ReaderEventKind, ReaderState, changes

POLL_S: Final = 1.0
"""How long one wait for a change lasts; pcscd wakes it at once, so this only bounds what a lost wake-up costs."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 2.0


class WatchContext(Protocol):
    """The part of `cards.pcsc.Context` that a watcher uses."""

    def states(self) -> dict[str, ReaderState]: ...

    def wait_for_change(self, known: dict[str, ReaderState], timeout_s: float) -> dict[str, ReaderState]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class ReaderWatch:
    """Calls `tell` with every ReaderEvent, from a thread of its own, from `start` until `close`.

    What is there at the start is told as events too. When pcscd dies, SERVICE_LOST is told once (also when it is not
    there at the start), then the removals; the watcher tries again until it is back, and tells SERVICE_BACK and what
    it finds. `establish` makes a context (`cards.pcsc.Context`). An exception of `tell` ends the watch and is raised
    by `close`.
    """

    def __init__(self, establish: Callable[[], WatchContext], tell: Callable[[ReaderEvent], None]) -> None:
        self._establish = establish
        self._tell = tell
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._context: WatchContext | None = None
        self._known: dict[str, ReaderState] = {}
        self._lost = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop and wait for the thread. Raises what `tell` raised, if it did."""
        self._stop.set()
        with self._lock:
            if self._context is not None:
                self._context.cancel()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        retry_s = RETRY_FIRST_S
        try:
            while not self._stop.is_set():
                try:
                    self._watch_one_service()
                    retry_s = RETRY_FIRST_S
                except PcscError as error:
                    self._on_loss(error)
                    self._stop.wait(retry_s)
                    retry_s = min(2 * retry_s, RETRY_MAX_S)
        except BaseException as error:  # raised by `tell`: kept for `close`, which the caller waits in
            self._failure = error

    def _watch_one_service(self) -> None:
        """Watch until told to stop; PcscError when the service is lost."""
        context = self._establish()
        with self._lock:
            self._context = context
        try:
            found = context.states()
            if self._lost:
                self._lost = False
                self._tell(ReaderEvent(ReaderEventKind.SERVICE_BACK))
            self._learn(found)
            while not self._stop.is_set():
                self._learn(context.wait_for_change(self._known, POLL_S))
        finally:
            with self._lock:
                self._context = None
            context.close()

    def _on_loss(self, error: PcscError) -> None:
        if not self._lost:
            self._lost = True
            self._tell(ReaderEvent(ReaderEventKind.SERVICE_LOST, detail=error.message, advice=error.advice))
        self._learn({})

    def _learn(self, found: dict[str, ReaderState]) -> None:
        for event in changes(self._known, found):
            self._tell(event)
        self._known = found
