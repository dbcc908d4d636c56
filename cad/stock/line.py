"""A line of readers: whatever chip is put into one of them becomes a card, until the batch is done."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from cad.stock.maker import MadeCard, Maker, PutAsideError
from cards.errors import CardsError
from cards.globalplatform.personalisation import Step
from cards.readers.pool import ReaderPool
from cards.readers.state import ReaderEvent, ReaderEventKind

ASIDE_IN_A_ROW_MAX: Final = 3
"""So many chips put aside one after another are not a matter of single chips: wrong delivery file or wrong keys."""


class TooManyAsideError(CardsError):
    """The line stopped because chip after chip had to be put aside."""

    default_advice = "compare the delivery file with the delivery before going on: every wrong key may cost a try"


class Link(Protocol):
    """A connected card (`cards.pcsc.Connection`)."""

    def transmit(self, command: bytes) -> bytes: ...


class Happening(StrEnum):
    """What is told of a reader."""

    WORKING = "working"
    STEP = "step"
    MADE = "made"
    ALREADY = "already"
    AGAIN = "put in again"
    ASIDE = "put aside"
    EMPTY = "empty"
    GONE = "reader gone"
    SERVICE_LOST = "PC/SC lost"
    SERVICE_BACK = "PC/SC back"


@dataclass(frozen=True, slots=True)
class News:
    """Something happened at a reader; `text` in words, `card` when one was made."""

    reader: str
    happening: Happening
    text: str = ""
    card: MadeCard | None = None


@dataclass(frozen=True, slots=True)
class _Done:
    reader: str
    future: "Future[MadeCard]"


class Watch(Protocol):
    """Tells of readers and cards from a thread of its own while it is entered (`cards.readers.watch.ReaderWatch`)."""

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> None: ...


class ProductionLine:
    """Runs a maker over readers. `connect` opens the card in a named reader; `watch` makes a watch that calls back.

    `wanted`: names or parts of names of readers; empty for all. `tell` hears the news, always on the thread of `run`.
    """

    def __init__(
        self,
        maker: Maker,
        connect: Callable[[str], AbstractContextManager[Link]],
        watch: Callable[[Callable[[ReaderEvent], None]], Watch],
        tell: Callable[[News], None],
        wanted: tuple[str, ...] = (),
    ) -> None:
        self._maker = maker
        self._connect = connect
        self._watch = watch
        self._tell = tell
        self._wanted = tuple(name.casefold() for name in wanted)
        self._events: queue.SimpleQueue[ReaderEvent | _Done | News] = queue.SimpleQueue()
        self._working: set[str] = set()
        self._waiting: set[str] = set()
        self._aside_in_a_row = 0

    def step(self, reader: str, step: Step) -> None:
        """Say that a chip has confirmed a step; from any thread (give it to the maker as `told`)."""
        self._events.put(News(reader, Happening.STEP, step.value))

    def run(self, count: int, tick: Callable[[], bool] = lambda: True, tick_s: float = 0.5) -> int:
        """Make cards until the batch has `count`; return how many it has. `tick` says now and then whether to go on.

        Chips that are being made when it ends are finished first. Raises TooManyAsideError, and what Maker.make
        raises when nothing can be made at all.
        """
        with ReaderPool(self._connect) as pool, self._watch(self._events.put):
            while (self._maker.made < count or self._working) and tick():
                try:
                    event = self._events.get(timeout=tick_s)
                except queue.Empty:
                    continue
                self._take(event, pool, count)
        # The pool has waited for the chips under way; what became of them is told too.
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, _Done):
                self._done(event)
        return self._maker.made

    def _take(self, event: "ReaderEvent | _Done | News", pool: ReaderPool[Link], count: int) -> None:
        if isinstance(event, News):
            self._tell(event)
        elif isinstance(event, _Done):
            self._done(event)
            for reader in sorted(self._waiting):
                self._start(reader, pool, count)
        elif event.kind is ReaderEventKind.CARD_INSERTED:
            self._start(event.reader, pool, count)
        else:
            self._lost(event)

    def _start(self, reader: str, pool: ReaderPool[Link], count: int) -> None:
        """Work on the chip in a reader; it waits while the chips under way are all that are wanted."""
        if self._wanted and not any(name in reader.casefold() for name in self._wanted):
            return
        # In a reader that works already, the chip before was pulled and its job has not ended yet.
        if reader in self._working or self._maker.made + len(self._working) >= count:
            self._waiting.add(reader)
            return
        self._waiting.discard(reader)
        self._working.add(reader)
        self._tell(News(reader, Happening.WORKING))
        future = pool.submit(reader, lambda card: self._maker.make(card.transmit, reader))
        future.add_done_callback(lambda done: self._events.put(_Done(reader, done)))

    def _done(self, done: _Done) -> None:
        self._working.discard(done.reader)
        if done.future.cancelled():
            return
        error = done.future.exception()
        if error is None:
            card = done.future.result()
            self._aside_in_a_row = 0
            kind = Happening.ALREADY if card.already else Happening.MADE
            self._tell(News(done.reader, kind, card=card))
        elif isinstance(error, PutAsideError):
            self._tell(News(done.reader, Happening.ASIDE, str(error)))
            self._aside_in_a_row += 1
            if self._aside_in_a_row >= ASIDE_IN_A_ROW_MAX:
                raise TooManyAsideError(f"{ASIDE_IN_A_ROW_MAX} chips in a row had to be put aside; {error.message}")
        elif isinstance(error, CardsError):
            self._tell(News(done.reader, Happening.AGAIN, str(error)))
        else:
            raise error

    def _lost(self, event: ReaderEvent) -> None:
        self._waiting.discard(event.reader)
        match event.kind:
            case ReaderEventKind.CARD_REMOVED:
                self._tell(News(event.reader, Happening.EMPTY))
            case ReaderEventKind.CARD_MUTE:
                self._tell(News(event.reader, Happening.AGAIN, "the card does not answer: turn it, clean its contacts"))
            case ReaderEventKind.READER_REMOVED:
                self._tell(News(event.reader, Happening.GONE, "the reader is gone; the others go on"))
            case ReaderEventKind.SERVICE_LOST:
                self._tell(News("", Happening.SERVICE_LOST, event.detail or ""))
            case ReaderEventKind.SERVICE_BACK:
                self._tell(News("", Happening.SERVICE_BACK))
            case _:
                pass
