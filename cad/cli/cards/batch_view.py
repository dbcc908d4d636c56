"""What a person or a program sees while cards are made: a bar and a line for each reader, lines of text, or JSON."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from cad.cli.shell.output import console
from cad.stock.line import Happening, News

_STYLE: Final = {
    Happening.MADE: "bold green",
    Happening.ALREADY: "green",
    Happening.AGAIN: "yellow",
    Happening.ASIDE: "bold red",
    Happening.GONE: "red",
    Happening.SERVICE_LOST: "red",
}
_SILENT: Final = (Happening.WORKING, Happening.STEP, Happening.EMPTY)


@dataclass(slots=True)
class Pace:
    """How fast it goes: cards made in this run since `started` (monotonic seconds)."""

    count: int
    made: int
    started: float
    new: int = 0

    def card(self) -> None:
        """One more."""
        self.made += 1
        self.new += 1

    def per_hour(self, now: float) -> float:
        """Cards an hour in this run."""
        return self.new * 3600 / (now - self.started) if now > self.started else 0.0

    def left_s(self, now: float) -> float | None:
        """Seconds until the batch is done, None while that cannot be told."""
        rate = self.per_hour(now)
        return (self.count - self.made) * 3600 / rate if rate else None

    def words(self, now: float) -> str:
        """The same for people."""
        left = self.left_s(now)
        spelt = "-" if left is None else f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02}"
        return f"{self.made} of {self.count}  {self.per_hour(now):.0f} cards/h  {spelt} left"


def sentence(news: News) -> str:
    """What happened, and what to do with the card."""
    card = news.card
    match news.happening:
        case Happening.MADE if card is not None:
            return f"card {card.number} is made: take it out"
        case Happening.ALREADY if card is not None:
            return f"card {card.number} was made before: take it out"
        case Happening.AGAIN:
            return f"not finished: {news.text}. Put it in again"
        case Happening.ASIDE:
            return f"PUT ASIDE: {news.text}"
        case Happening.WORKING:
            return "working: leave the card in"
        case Happening.STEP:
            return f"working: {news.text}"
        case Happening.EMPTY:
            return "put a card in"
        case _:
            return f"{news.happening.value} {news.text}".strip()


class View(Protocol):
    """Shows the news of a line of readers; a context."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def tell(self, news: News) -> None:
        """Show one piece of news."""
        ...


@dataclass
class LineView:
    """One line for each piece of news that matters, for logs and pipes."""

    pace: Pace
    now: Callable[[], float]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, news: News) -> None:
        """Print it, unless it is of the moment only."""
        if news.happening is Happening.MADE:
            self.pace.card()
        if news.happening not in _SILENT:
            tail = f"  ({self.pace.words(self.now())})" if news.happening is Happening.MADE else ""
            click.echo(f"{news.reader or 'PC/SC'}: {sentence(news)}{tail}")


@dataclass
class JsonView:
    """One JSON document a line."""

    pace: Pace

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, news: News) -> None:
        """Print it."""
        if news.happening is Happening.MADE:
            self.pace.card()
        card = news.card
        document = {
            "reader": news.reader or None,
            "event": news.happening.name.lower().replace("_", "-"),
            "text": news.text or None,
            "number": None if card is None else card.number,
            "serial": None if card is None else card.serial,
            "made": self.pace.made,
            "count": self.pace.count,
        }
        click.echo(json.dumps(document, ensure_ascii=False))


@dataclass
class LiveView:
    """A bar, the pace, and each reader's last news; with a bell when a hand is wanted."""

    pace: Pace
    now: Callable[[], float]
    out: Console = field(default_factory=console)
    readers: dict[str, News] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._live = Live(get_renderable=self.picture, console=self.out, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def tell(self, news: News) -> None:
        """Show it; what must not be overlooked also scrolls by."""
        if news.happening is Happening.MADE:
            self.pace.card()
        self.readers[news.reader] = news
        if news.happening not in _SILENT:
            self.out.bell()
        if news.happening in (Happening.ASIDE, Happening.AGAIN):
            self.out.print(f"{escape(news.reader)}: {escape(sentence(news))}", style=_STYLE[news.happening])
        self._live.refresh()

    def picture(self) -> RenderableType:
        """The bar and the readers."""
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=self.pace.count, completed=self.pace.made, width=40), self.pace.words(self.now())
        )
        lines = Table.grid(padding=(0, 2))
        for name, news in sorted(self.readers.items()):
            lines.add_row(escape(name or "PC/SC"), escape(sentence(news)), style=_STYLE.get(news.happening, ""))
        return Group(head, lines)
