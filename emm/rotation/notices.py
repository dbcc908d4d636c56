"""Whose turn it is among notices: each at its own spacing, all together within a share of the rate. Pure."""

import heapq
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from emm.rotation.errors import CarouselError
from emm.rotation.shares import Shares
from emm.rotation.steady import SteadyTime

SQUEEZED: Final = 0.1
"""Part of the share that is left to notices while changes and repeats need more than the rest."""
SHORT_MAX: Final = 16
"""A notice of more EMMs than this is a long one: it lets the short ones pass."""
SHORT, LONG = LANES = (0, 1)
"""Lanes of what was never sent: each is certain to have half of what notices may take."""


@dataclass(frozen=True, slots=True)
class NoticeEmm:
    """One EMM of a notice, for some of its cards: sections, each with its cost in bits; spacing in seconds.

    `index` tells the EMMs of one notice apart. `late`: the notice has gone out to all that it was for, and this is for
    whoever came since; it waits behind those that have not.
    """

    number: int
    index: int
    sections: tuple[tuple[bytes, int], ...]
    repeat_s: float
    late: bool = False

    @property
    def bits(self) -> int:
        """What it takes on the air."""
        return sum(bits for _, bits in self.sections)


class NoticeTurn(NamedTuple):
    """A section that goes out now; `last`: with it all of its EMM has gone out, `whole`: all of its notice."""

    number: int
    section: bytes
    bits: int
    last: bool
    whole: bool


class NoticeTurns:
    """The EMMs of all notices of one multiplex. Each goes out at once, then every `repeat_s`, in the order due.

    What was never sent goes first, in the order of numbers, so that whoever comes later holds up nobody; in two lanes
    of equal right, so that a notice to few does not wait behind one to many. All together never take more than `share`
    of the rate, over any time longer than a section takes; where that is too little, all are spaced out, none is left
    out. `now` in seconds; may step back without harm.
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
        self._lanes: dict[int, int] = {}  # by number
        self._shares = Shares()
        self._shares.set_weights([1.0] * len(LANES))
        self._fresh: list[list[tuple[bool, int, int]]] = [[] for _ in LANES]  # (late, number, index), never sent
        self._fresh_bits = [0] * len(LANES)  # of those that are not late
        self._unsent: Counter[int] = Counter()  # by number: EMMs of which some section was never sent
        self._due: list[tuple[float, int, int]] = []  # (at, number, index) of what was sent
        self._sent_at: dict[tuple[int, int], float] = {}
        self._sending: deque[tuple[bytes, int]] = deque()
        self._current: tuple[int, int] | None = None  # the EMM of which some sections have gone out
        self._begun_at = 0.0

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
    def certain_share(self) -> float:
        """The part of the rate that each lane is certain to have."""
        return self._share * SQUEEZED / len(LANES)

    @property
    def bits(self) -> int:
        """What all notices once take on the air."""
        return sum(emm.bits for emm in self._emms.values())

    @property
    def waiting_bits(self) -> tuple[int, ...]:
        """What has never been sent in each lane, but for what has begun and what is late."""
        return tuple(self._fresh_bits)

    @property
    def cycle_s(self) -> float:
        """The spacing to expect of the notice that is sent most seldom, infinite without a rate; 0 for no notice."""
        if not self._emms:
            return 0.0
        longest = max(emm.repeat_s for emm in self._emms.values())
        rate = self._rate_bps * self.share
        return max(longest, self.bits / rate) if rate else float("inf")

    def is_whole(self, number: int) -> bool:
        """Return whether each EMM of a notice has had its turn."""
        return number in self._lanes and not self._unsent[number]

    def set_rate(self, rate_bps: float, now: float) -> None:
        """Tell the rate allocated, 0 while there is none."""
        self._fill(now)
        self._rate_bps = max(0.0, rate_bps)

    def squeeze(self, squeezed: bool, now: float) -> None:
        """Give way to what is promised, or take the whole share again."""
        self._fill(now)
        self._squeezed = squeezed

    def put(self, emms: Iterable[NoticeEmm], now: float) -> None:
        """Send these from now on, and no others. What was sent already keeps its turn, and what is being sent goes on.

        What has the same sections is the same, whatever its index: others may have come before it.
        """
        self._time.at(now)
        sent = {self._emms[key].sections: at for key, at in self._sent_at.items()}
        begun = None if self._current is None else self._emms[self._current].sections
        wanted = {(emm.number, emm.index): emm for emm in emms}
        self._current = next((key for key, emm in wanted.items() if emm.sections == begun), None)
        if self._current is None:
            self._sending.clear()
        self._take_in(wanted, {key: sent[emm.sections] for key, emm in wanted.items() if emm.sections in sent})

    def again(self, now: float) -> None:
        """Send all anew: what was sent last may be lost."""
        self._time.at(now)
        self._sending.clear()
        self._current = None
        self._take_in(self._emms, {})

    def pop(self, now: float) -> NoticeTurn | None:
        """Decide whether a section goes out now, and reckon it as sent."""
        self._fill(now)
        if self._free_bits <= 0 or not self._rate_bps:
            return None
        if self._current is None:
            self._begin(self._time.present)
        if self._current is None:
            return None
        section, bits = self._sending.popleft()
        self._free_bits -= bits
        number, last = self._current[0], not self._sending
        if last:
            self._end(self._current)
        return NoticeTurn(number, section, bits, last, last and self.is_whole(number))

    def next_at(self, now: float) -> float:
        """Return when a section may go out next, infinite when none will."""
        self._fill(now)
        rate = self._rate_bps * self.share
        if not self._emms or not rate:
            return float("inf")
        steady = self._time.present
        due = steady if self._sending or any(self._fresh) else max(steady, self._due[0][0])
        room = steady if self._free_bits > 0 else steady - self._free_bits / rate
        return self._time.back(max(due, room)) if max(due, room) > steady else now

    def _take_in(self, wanted: dict[tuple[int, int], NoticeEmm], sent_at: dict[tuple[int, int], float]) -> None:
        """Queue all EMMs: those that were sent for when they are due, all others as never sent."""
        self._emms, self._sent_at = wanted, sent_at
        counts = Counter(number for number, _ in wanted)
        self._lanes = {number: SHORT if count <= SHORT_MAX else LONG for number, count in counts.items()}
        self._fresh, self._fresh_bits, self._unsent = [[] for _ in LANES], [0] * len(LANES), Counter()
        self._due = [(at + wanted[key].repeat_s, *key) for key, at in sent_at.items() if key != self._current]
        for key, emm in wanted.items():
            if key in sent_at:
                continue
            self._unsent[emm.number] += 1
            if key != self._current:
                lane = self._lanes[emm.number]
                self._fresh[lane].append((emm.late, *key))
                self._fresh_bits[lane] += 0 if emm.late else emm.bits
        heapq.heapify(self._due)
        for fresh in self._fresh:
            heapq.heapify(fresh)

    def _begin(self, steady: float) -> None:
        """Take the EMM whose turn has come, if one's has."""
        if waiting := [lane for lane in LANES if self._fresh[lane]]:
            lane = self._shares.pick(waiting)
            late, number, index = heapq.heappop(self._fresh[lane])
            emm = self._emms[number, index]
            self._shares.spend(lane, emm.bits)
            self._fresh_bits[lane] -= 0 if late else emm.bits
        elif self._due and self._due[0][0] <= steady:
            _, number, index = heapq.heappop(self._due)
            emm = self._emms[number, index]
        else:
            return
        self._current, self._begun_at = (number, index), steady
        self._sending.extend(emm.sections)

    def _end(self, key: tuple[int, int]) -> None:
        """Take note that all of an EMM has gone out; it is due again a spacing after it began."""
        if key not in self._sent_at:
            self._unsent[key[0]] -= 1
        self._sent_at[key] = self._begun_at
        heapq.heappush(self._due, (self._begun_at + self._emms[key].repeat_s, *key))
        self._current = None

    def _fill(self, now: float) -> None:
        """Let room grow with time, up to what a second gives."""
        steady = self._time.at(now)
        rate = self._rate_bps * self.share
        if self._filled_at is not None:
            self._free_bits = min(self._free_bits + (steady - self._filled_at) * rate, max(rate, 1.0))
        self._filled_at = steady
