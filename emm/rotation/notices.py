"""Whose turn it is among notices: each at its own spacing, all together within a share of the rate. Pure."""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from emm.rotation.errors import CarouselError
from emm.rotation.steady import SteadyTime

SQUEEZED: Final = 0.1
"""Part of the share that is left to notices while changes and repeats need more than the rest."""


@dataclass(frozen=True, slots=True)
class NoticeEmm:
    """One EMM of a notice, for some of its cards: sections, each with its cost in bits; spacing in seconds.

    `index` tells the EMMs of one notice apart.
    """

    number: int
    index: int
    sections: tuple[tuple[bytes, int], ...]
    repeat_s: float

    @property
    def bits(self) -> int:
        """What it takes on the air."""
        return sum(bits for _, bits in self.sections)


class NoticeTurn(NamedTuple):
    """A section that goes out now; `last`: with it all of its EMM has gone out."""

    number: int
    section: bytes
    bits: int
    last: bool


class NoticeTurns:
    """The EMMs of all notices of one multiplex. Each goes out at once, then every `repeat_s`, in the order due.

    The first EMMs of all notices go out before the second ones: a notice to few does not wait behind one to many. They
    never take more than `share` of the rate, over any time longer than a section takes; where that is too little, all
    are spaced out, none is left out. `now` in seconds; may step back without harm.
    """

    def __init__(self, share: float) -> None:
        if not 0 < share < 1:
            raise CarouselError("the share of notices lies between 0 and 1, both excluded")
        self._share = share
        self._squeezed = False
        self._rate_bps = 0.0
        self._time = SteadyTime()
        self._filled_at: float | None = None
        self._free_bits = 0.0
        self._emms: dict[tuple[int, int], NoticeEmm] = {}
        self._fresh: list[tuple[int, int]] = []  # (index, number) of what was never sent
        self._due: list[tuple[float, int, int]] = []  # (at, number, index) of what was
        self._sending: deque[NoticeTurn] = deque()
        self._current: tuple[int, int] | None = None  # the EMM of which some sections have gone out

    def __len__(self) -> int:
        return len(self._emms)

    @property
    def share(self) -> float:
        """The part of the rate that notices may take now; 0 while there is none."""
        if not self._emms:
            return 0.0
        return self._share * SQUEEZED if self._squeezed else self._share

    @property
    def full_share(self) -> float:
        """The part of the rate that notices may take at most."""
        return self._share

    @property
    def bits(self) -> int:
        """What all notices once take on the air."""
        return sum(emm.bits for emm in self._emms.values())

    @property
    def cycle_s(self) -> float:
        """The spacing to expect of the notice that is sent most seldom, infinite without a rate; 0 for no notice."""
        if not self._emms:
            return 0.0
        longest = max(emm.repeat_s for emm in self._emms.values())
        rate = self._rate_bps * self.share
        return max(longest, self.bits / rate) if rate else float("inf")

    def set_rate(self, rate_bps: float, now: float) -> None:
        """Tell the rate allocated, 0 while there is none."""
        self._fill(now)
        self._rate_bps = max(0.0, rate_bps)

    def squeeze(self, squeezed: bool, now: float) -> None:
        """Give way to what is promised, or take the whole share again."""
        self._fill(now)
        self._squeezed = squeezed

    def put(self, emms: Iterable[NoticeEmm], now: float) -> None:
        """Send these from now on, and no others. What was sent already keeps its turn."""
        self._time.at(now)
        wanted = {(emm.number, emm.index): emm for emm in emms}
        kept = {key for key, emm in wanted.items() if self._same(key, emm)}
        self._due = [each for each in self._due if each[1:] in kept and each[1:] != self._current]
        sent = {(number, index) for _, number, index in self._due}
        self._fresh = sorted((index, number) for number, index in wanted if (number, index) not in sent)
        heapq.heapify(self._due)
        self._emms = wanted
        self._stop()

    def again(self, now: float) -> None:
        """Send all anew: what was sent last may be lost."""
        self._time.at(now)
        self._due = []
        self._fresh = sorted((index, number) for number, index in self._emms)
        self._stop()

    def pop(self, now: float) -> NoticeTurn | None:
        """Decide whether a section goes out now, and reckon it as sent."""
        self._fill(now)
        if self._free_bits <= 0 or not self._rate_bps:
            return None
        if not self._sending:
            self._begin(self._time.present)
        if not self._sending:
            return None
        turn = self._sending.popleft()
        self._free_bits -= turn.bits
        if turn.last:
            self._current = None
        return turn

    def next_at(self, now: float) -> float:
        """Return when a section may go out next, infinite when none will."""
        self._fill(now)
        rate = self._rate_bps * self.share
        if not self._emms or not rate:
            return float("inf")
        steady = self._time.present
        due = steady if self._sending or self._fresh else max(steady, self._due[0][0])
        room = steady if self._free_bits > 0 else steady - self._free_bits / rate
        return self._time.back(max(due, room)) if max(due, room) > steady else now

    def _begin(self, steady: float) -> None:
        """Take the EMM whose turn has come, if one's has."""
        if self._fresh:
            index, number = heapq.heappop(self._fresh)
        elif self._due and self._due[0][0] <= steady:
            _, number, index = heapq.heappop(self._due)
        else:
            return
        emm = self._emms[number, index]
        self._current = (number, index)
        heapq.heappush(self._due, (steady + emm.repeat_s, number, index))
        last = len(emm.sections) - 1
        self._sending.extend(
            NoticeTurn(number, section, bits, place == last) for place, (section, bits) in enumerate(emm.sections)
        )

    def _stop(self) -> None:
        self._sending.clear()
        self._current = None

    def _fill(self, now: float) -> None:
        """Let room grow with time, up to what a second gives."""
        steady = self._time.at(now)
        rate = self._rate_bps * self.share
        if self._filled_at is not None:
            self._free_bits = min(self._free_bits + (steady - self._filled_at) * rate, max(rate, 1.0))
        self._filled_at = steady

    def _same(self, key: tuple[int, int], emm: NoticeEmm) -> bool:
        before = self._emms.get(key)
        return before is not None and (before.sections, before.repeat_s) == (emm.sections, emm.repeat_s)
