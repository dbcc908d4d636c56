"""What is to go out of notices on one multiplex, and what has since the daemon's start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple


class Notice(NamedTuple):
    """A notice to send: spacing in seconds, the sections of each EMM; `late`: it was sent to all it was for before."""

    repeat_s: float
    emms: Sequence[tuple[bytes, ...]]
    late: bool = False


class NoticeLog:
    """By number. `at` in Unix seconds, `now` and `drawn_at` on the monotonic clock."""

    def __init__(self) -> None:
        self._emms: dict[int, tuple[int, float]] = {}
        self._whole_at: dict[int, float] = {}
        self._open_at: dict[int, float] = {}  # when a notice last had something that was still to come

    def keep(self, numbers: Collection[int], is_whole: Callable[[int], bool], now: float) -> None:
        """Follow what is to be sent from now on: other notices are forgotten, those with something to come are open."""
        self._emms = {number: sent for number, sent in self._emms.items() if number in numbers}
        self._whole_at = {number: at for number, at in self._whole_at.items() if is_whole(number)}
        opened = {number: now for number in numbers if not is_whole(number)}
        self._open_at = {number: at for number, at in self._open_at.items() if number in numbers} | opened

    def note_emm(self, number: int, at: float) -> None:
        """Take note of an EMM that went out."""
        times, _ = self.emms(number)
        self._emms[number] = (times + 1, at)

    def note_whole(self, number: int, drawn_at: float, at: float) -> None:
        """Take note that the section that ends a notice went out; one drawn before more came does not end it."""
        if drawn_at >= self._open_at.get(number, drawn_at):
            self._whole_at.setdefault(number, at)

    def emms(self, number: int) -> tuple[int, float | None]:
        """How many EMMs of a notice have gone out, and when the last."""
        return self._emms.get(number, (0, None))

    def whole_at(self, number: int) -> float | None:
        """When all EMMs of a notice, as it is now, had gone out once, None before."""
        return self._whole_at.get(number)
