"""The pacer of one stream: when how much may go out, so that no second carries more than is allocated (I11)."""

import math
from collections import deque
from heapq import merge
from typing import Final

from emm.rotation.errors import CarouselError
from emm.rotation.steady import SteadyTime

WINDOW_S: Final = 1.0
"""I11 looks at every span of this length."""

JITTER_S: Final = 0.005
"""Default lengthening of the window: by so much may the way to the wire differ from one send to the next."""

TICK_S: Final = 1e-6
"""Moments closer than this are the same: seconds since 1970 have no finer grain in a float."""

PACKET_BITS: Final = 188 * 8
ITEM_BITS: Final = 2 * PACKET_BITS
"""A short section of 256 bytes takes two packets at most when it shares none."""

PACKINGS: Final = ("packed", "per-section")


def cost_bits(section_len: int, packing: str) -> int:
    """Return the bits of transport stream that a section of `section_len` bytes takes.

    A packet has 188 bytes, 4 of them header (ISO/IEC 13818-1, 2.4.3.2). "packed": the multiplexer sets sections back
    to back; every packet in which a section starts loses one more byte to the pointer_field (2.4.4.1), so 183 bytes of
    188 are reckoned with in all of them. "per-section": each section starts a packet of its own, with a pointer_field,
    and the rest is stuffed (2.4.4). Raises `CarouselError` for an unknown packing or a length below 1.
    """
    if section_len < 1:
        raise CarouselError(f"a section of {section_len} bytes")
    if packing == "packed":
        return -(-section_len * 188 * 8 // 183)
    if packing == "per-section":
        return -(-(section_len + 1) // 184) * PACKET_BITS
    raise CarouselError(f"unknown packing {packing!r}: known are {', '.join(PACKINGS)}")


class Pacer:
    """Counts the bits of the last second, and keeps bursts short.

    At any moment, what was sent within the last second including what goes now is at most the lower of: what the rate
    now in force allows for a second, and the rates that were in force during that second, added up over it. So a higher
    rate counts from its own time on, and after a cut nothing goes out until the last second, looked at with the new
    rate, has room. Within this, a burst of back-to-back bits is at most `burst_s` of the rate plus one item (a token
    bucket): a multiplexer that drains its queue at the rate never holds more.

    `jitter_s` lengthens the window, so that I11 also holds for a peer that gets some bits later than others. Bits are
    those of the transport stream (`cost_bits`); `now` is in seconds, and may step back without harm.
    """

    def __init__(self, burst_s: float, jitter_s: float = JITTER_S) -> None:
        if burst_s < 0 or jitter_s < 0:
            raise CarouselError("burst_s and jitter_s must not be below 0")
        self._burst_s = burst_s
        self._window_s = WINDOW_S + jitter_s
        self._time = SteadyTime()
        self._rate = 0.0
        self._tokens = 0.0
        self._filled_at: float | None = None
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bits = 0
        self._in_hand = 0
        # (since, rate) in force during the window, the last of them now.
        self._rates: deque[tuple[float, float]] = deque([(-math.inf, 0.0)])

    @property
    def rate_bps(self) -> float:
        """The rate in force."""
        return self._rate

    @property
    def burst_bits(self) -> float:
        """How much may go out back to back."""
        return self._rate * self._burst_s + ITEM_BITS if self._rate else 0.0

    def set_rate(self, bits_per_s: float, now: float) -> None:
        """Obey another rate from now on; 0 stops."""
        if not (math.isfinite(bits_per_s) and bits_per_s >= 0):
            raise CarouselError(f"a rate of {bits_per_s} bit/s")
        steady = self._advance(now)
        if bits_per_s == self._rate:
            return
        self._rates.append((steady, bits_per_s))
        self._rate = bits_per_s
        self._tokens = min(self._tokens, self.burst_bits)

    def allowance(self, now: float) -> int:
        """Return how many bits may go out at this moment, back to back."""
        steady = self._advance(now)
        tokens = min(self._tokens + self._rate * TICK_S, self.burst_bits)
        return max(0, math.floor(min(tokens, self._budget(steady) - self._sent_bits)))

    def spend(self, bits: int, now: float) -> None:
        """Tell that so many bits went out. More than was allowed is made up for by silence."""
        steady = self._advance(now)
        if bits > 0:
            self._sent.append((steady, bits))
            self._sent_bits += bits
            self._tokens -= bits
            self._in_hand += 1

    def on_wire(self, now: float) -> None:
        """Tell that what was spent since the last time is on the wire by `now`.

        Between the reckoning and the last byte written lies whatever kept the process waiting. What went out as late as
        now also leaves the window that late: without this, a second on the wire could hold what two reckonings allowed.
        Ask with no earlier `now` afterwards: it would be taken for a clock that stepped back.
        """
        steady = self._time.at(now)
        for index in range(1, min(self._in_hand, len(self._sent)) + 1):
            self._sent[-index] = (steady, self._sent[-index][1])
        self._in_hand = 0
        self._advance(now)

    def next_at(self, bits: int, now: float) -> float:
        """Return when so many bits may go out at once, if nothing else does before: `now` if they may already.

        Bits beyond a burst may go once nothing has gone for so long that a whole burst could. Infinite without a rate,
        and for more bits than a second holds.
        """
        steady = self._advance(now)
        if self._rate <= 0 or bits > self._rate * WINDOW_S:
            return math.inf
        short = min(float(bits), self.burst_bits) - self._tokens
        ready = steady + max(0.0, short / self._rate)
        if ready <= steady + TICK_S:
            ready = steady
        ready = self._room_at(bits, ready)
        return now if ready <= steady else self._time.back(ready)

    def _advance(self, now: float) -> float:
        """Bring window and bucket up to date; return the steady moment."""
        steady = self._time.at(now)
        while self._sent and self._sent[0][0] + self._window_s <= steady + TICK_S:
            self._sent_bits -= self._sent.popleft()[1]
        while len(self._rates) > 1 and self._rates[1][0] <= steady - WINDOW_S:
            self._rates.popleft()
        if self._filled_at is not None:
            self._tokens = min(self._tokens + (steady - self._filled_at) * self._rate, self.burst_bits)
        self._filled_at = steady
        return steady

    def _budget(self, steady: float) -> float:
        """Return what a second that ends then may carry in all."""
        start = steady - WINDOW_S
        carried = 0.0
        until = steady
        for since, rate in reversed(self._rates):
            carried += rate * max(0.0, until - max(since, start))
            until = min(until, max(since, start))
        # A rate that has been in force for the whole second is taken exactly, not by a sum of floats.
        whole = self._rate * WINDOW_S
        return whole if carried > whole - self._rate * TICK_S else carried

    def _room_at(self, bits: int, ready: float) -> float:
        """Return the first moment from `ready` on at which the last second has room for so many bits."""
        leaving = ((sent + self._window_s, size) for sent, size in self._sent)
        bends = ((since + WINDOW_S, 0) for since, _ in self._rates)
        left = self._sent_bits
        moment = ready
        for at, size in merge(leaving, bends, ((math.inf, 0),)):
            if at > moment + TICK_S:
                # Nothing leaves the window from `moment` to `at`, and the budget is a straight line there.
                missing = bits + left - self._budget(moment)
                if missing <= 0:
                    return moment
                slope = self._rate - self._rate_at(moment - WINDOW_S)
                if slope > 0 and bits + left <= self._rate * WINDOW_S and moment + missing / slope < at:
                    return moment + missing / slope + TICK_S
                moment = at
            left -= size
        return math.inf

    def _rate_at(self, moment: float) -> float:
        return next(rate for since, rate in reversed(self._rates) if since <= moment)
