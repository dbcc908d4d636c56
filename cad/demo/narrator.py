"""Tells a person what a demo does, as it does it."""

from rich.console import Console
from rich.text import Text

from cad.frame.clock import Clock

COLOURS = {
    "portal": "magenta",
    "headend": "cyan",
    "multiplexer": "blue",
    "receiver": "yellow",
    "card": "green",
    "broker": "blue",
}


class Narrator:
    """Prints who does what, with the time since the start; says nothing where only JSON is wanted."""

    def __init__(self, console: Console, clock: Clock, silent: bool) -> None:
        self._console = console
        self._clock = clock
        self._start = clock.monotonic()
        self._silent = silent

    def __call__(self, who: str, what: str) -> None:
        if not self._silent:
            line = Text(f"{self._clock.monotonic() - self._start:7.2f} s  ", style="dim")
            line.append(f"{who:<12}", style=f"bold {COLOURS[who]}")
            line.append(what)
            self._console.print(line, soft_wrap=True)
