"""A scrambler: makes control words, has ECMs made of them by an ECMG, and changes the word when the ECM is there."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.tools.tv.csa import Key, fresh_word, ready_word
from tests.tools.tv.packets import EVEN, ODD

CP_NUMBERS = 0x10000
ORDER_AHEAD_S = 0.5
Order = Callable[[int, Sequence[tuple[int, bytes]]], Awaitable[bytes]]
"""Has an ECM made: crypto-period number, and (crypto-period, control word) of this one and the next."""


@dataclass(frozen=True)
class CryptoPeriod:
    """One control word's time: its number, when its ECM was ordered, when it began (seconds of the stream), the ECM."""

    number: int
    ordered: float
    began: float
    ecm: bytes
    word: bytes = field(repr=False)
    key: Key

    @property
    def parity(self) -> int:
        return ODD if self.number % 2 else EVEN


class Scrambler:
    """`advance` to a time, then `scramble` packets and send `ecm` of that time. Seconds since the stream began.

    Without an ECM for the next crypto-period, or with one whose table_id does not toggle, the present one goes on;
    `extended` counts it. Each ECM is ordered `order_ahead_s` before its crypto-period, which must be more than the
    ECMG's max_comp_time.
    """

    def __init__(
        self,
        order: Order,
        period_s: float,
        delay_start_s: float,
        first_number: int = 0,
        order_ahead_s: float = ORDER_AHEAD_S,
    ) -> None:
        self.history: list[CryptoPeriod] = []
        self.extended = 0
        self._order = order
        self._period_s, self._delay_start_s = period_s, delay_start_s
        self._words = deque([fresh_word(), fresh_word()])
        self._first_number = first_number % CP_NUMBERS
        self._order_ahead_s = order_ahead_s
        self._next: asyncio.Task[bytes] | None = None
        self._ordered = 0.0
        self._waiting = False

    @property
    def present(self) -> CryptoPeriod:
        return self.history[-1]

    async def prepare(self) -> None:
        """Have the first ECM made; nothing is sent before."""
        ecm = await self._make(self._first_number)
        self._begin(self._first_number, 0.0, ecm)

    def advance(self, at: float) -> None:
        """Order the next ECM when it is time; begin the next crypto-period when it is time and its ECM is there.

        Raises what the ECMG's side raised.
        """
        number = (self.present.number + 1) % CP_NUMBERS
        end = self.present.began + self._period_s
        if self._next is None and at >= end - self._order_ahead_s:
            self._words.popleft()
            self._words.append(fresh_word())
            self._ordered = at
            self._next = asyncio.get_running_loop().create_task(self._make(number), name="order of the next ECM")
        if at < end or self._next is None:
            return
        ecm = self._next.result() if self._next.done() else self.present.ecm
        if ecm[0] == self.present.ecm[0]:
            self.extended += not self._waiting
            self._waiting = True
            return
        self._waiting = False
        self._next = None
        self._begin(number, at, ecm)

    def scramble(self, packet: bytes) -> bytes:
        """The packet under the present control word."""
        return self.present.key.scramble(packet, self.present.parity)

    def ecm(self, at: float) -> bytes | None:
        """The ECM on the air: each from delay_start after its crypto-period's beginning, for as long as that lasts."""
        on_air = [one.ecm for one in self.history if at >= one.began + self._delay_start_s]
        return on_air[-1] if on_air else None

    def close(self) -> None:
        """Order no more."""
        if self._next is not None:
            self._next.cancel()

    def _begin(self, number: int, at: float, ecm: bytes) -> None:
        assert ecm[0] == 0x80 | number % 2, f"ECM of crypto-period {number} has table_id {ecm[0]:#04x}"
        word = self._words[0]
        self.history.append(CryptoPeriod(number, self._ordered, at, ecm, word, Key(ready_word(word))))

    async def _make(self, number: int) -> bytes:
        periods = [(number + step) % CP_NUMBERS for step in range(2)]
        return await self._order(number, list(zip(periods, self._words, strict=True)))
