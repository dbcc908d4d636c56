"""Makes the ECMs that scramblers order, under the product keys of the present epoch."""

import os
from collections.abc import Callable, Sequence
from typing import Final

from cad.ecmg.services import ServiceBook, refusal
from cad.frame.clock import Clock
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Envelope, Parity
from emm.errors import BuildError, CalendarError
from emm.secret import KEY_SIZE
from protocol.mpegts.packet import LAST_FREE_PID, Packing, SectionPacketizer
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import ErrorStatus

STOCK_MAX: Final = 1000


class SealingMaker:
    """Implements `protocol.simulcrypt.ecmg.streams.EcmMaker`. `random(n)` returns n bytes for one session key each.

    The time in an ECM is the card's only clock: it comes from `clock`, which never goes back. The epoch is that of
    this time, but for the last seconds before the next one (`Calendar.ecm_epoch`). With `packets` the section is put
    into whole TS packets, whose PID and counter the scrambler sets.
    """

    def __init__(
        self,
        sealer: EcmSealer,
        calendar: Calendar,
        clock: Clock,
        book: ServiceBook,
        *,
        packets: bool = False,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._sealer = sealer
        self._calendar = calendar
        self._clock = clock
        self._book = book
        self._packets = packets
        self._random = random
        self._stock: dict[tuple[int, ...], Envelope] = {}
        self._last: tuple[int, ...] | None = None
        self._epoch = 0

    def __repr__(self) -> str:
        return "<SealingMaker>"

    def make(self, cp_number: int, words: Sequence[bytes], access_criteria: bytes) -> bytes:
        """Return the ECM of this crypto-period; table_id follows its parity. Raises OrderRefusedError."""
        now = int(self._clock.now())
        audience = self._book.audience(access_criteria, now)
        try:
            header = EcmHeader(
                Parity.ODD if cp_number & 1 else Parity.EVEN,
                now,
                audience.service_id,
                self._epoch_of(now),
                audience.regions,
            )
            section = self._sealer.seal_in(self._envelope(audience.product_ids), header, words)
        except BuildError as error:
            raise refusal(str(error)) from None
        except CalendarError as error:
            raise OrderRefusedError(str(error), ErrorStatus.UNRECOVERABLE) from None
        self._last = audience.product_ids
        return in_packets(section) if self._packets else section

    def prepare(self) -> None:
        """Have an envelope ready for the next ECM of the service that was served last; each is used once."""
        if self._last is not None and self._last not in self._stock:
            if len(self._stock) >= STOCK_MAX:
                self._stock.clear()
            self._stock[self._last] = self._sealer.envelope(self._last, self._epoch, self._random(KEY_SIZE))
        self._last = None

    def _envelope(self, product_ids: tuple[int, ...]) -> Envelope:
        ready = self._stock.pop(product_ids, None)
        return ready or self._sealer.envelope(product_ids, self._epoch, self._random(KEY_SIZE))

    def _epoch_of(self, now: int) -> int:
        epoch = self._calendar.ecm_epoch(now)
        if epoch != self._epoch:
            self._stock.clear()
            self._epoch = epoch
        return epoch


def in_packets(section: bytes) -> bytes:
    """Return the section in as many TS packets as it needs, one or two."""
    return b"".join(SectionPacketizer(LAST_FREE_PID, Packing.PER_SECTION).push(section))
