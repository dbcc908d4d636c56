"""The time of each packet of a recorded stream: out of its clock references, or out of its rate. Pure.

Source: ISO/IEC 13818-1, 2.4.2.2 (system clock), 2.4.3.5 (program_clock_reference).
"""

from collections.abc import Iterable
from typing import Final

from protocol.mpegts.packet import PACKET_SIZE, packet_pid

PACKET_BITS: Final = PACKET_SIZE * 8
PCR_HZ: Final = 27_000_000
PCR_WRAP: Final = (1 << 33) * 300
JUMP_S: Final = 10.0
RATE_MIN: Final = 1000.0


def pcr_of(raw: bytes) -> tuple[int, bool] | None:
    """The clock reference in a packet (27 MHz) and whether a discontinuity is announced with it, or None."""
    if not raw[3] & 0x20 or raw[4] < 7 or not raw[5] & 0x10:
        return None
    base = int.from_bytes(raw[6:10], "big") << 1 | raw[10] >> 7
    extension = (raw[10] & 0x01) << 8 | raw[11]
    return base * 300 + extension, bool(raw[5] & 0x80)


def first_rate(packets: Iterable[bytes]) -> tuple[int, float] | None:
    """The PID whose clock can be followed first, and the rate in bit/s that it tells; None when there is none."""
    seen: dict[int, tuple[int, int]] = {}
    for number, raw in enumerate(packets):
        found = pcr_of(raw)
        if found is None:
            continue
        pid = packet_pid(raw)
        pcr, jumps = found
        before = seen.get(pid)
        if before is not None and not jumps:
            seconds = (pcr - before[1]) % PCR_WRAP / PCR_HZ
            if 0 < seconds < JUMP_S:
                return pid, max((number - before[0]) * PACKET_BITS / seconds, RATE_MIN)
        seen[pid] = (number, pcr)
    return None


class PacketTimes:
    """Gives each packet of a file its time, from 0 on and never falling. `pcr_pid` None: the rate is constant."""

    def __init__(self, rate_bps: float, pcr_pid: int | None = None) -> None:
        self._rate = max(rate_bps, RATE_MIN)
        self._pid = pcr_pid
        self._number = 0
        self._anchor_number = 0
        self._anchor_at = 0.0
        self._pcr: int | None = None
        self._last = 0.0

    def at(self, raw: bytes) -> float:
        """The time of the next packet."""
        number = self._number
        self._number += 1
        now = self._anchor_at + (number - self._anchor_number) * PACKET_BITS / self._rate
        if self._pid is not None and packet_pid(raw) == self._pid and (found := pcr_of(raw)) is not None:
            now = self._follow(number, now, *found)
        self._last = max(self._last, now)
        return self._last

    def _follow(self, number: int, estimated: float, pcr: int, jumps: bool) -> float:
        """Take the clock reference as the time, unless the clock jumps there."""
        now = estimated
        if self._pcr is not None and not jumps:
            seconds = (pcr - self._pcr) % PCR_WRAP / PCR_HZ
            if 0 < seconds < JUMP_S:
                now = self._anchor_at + seconds
                self._rate = max((number - self._anchor_number) * PACKET_BITS / seconds, RATE_MIN)
        self._anchor_number, self._anchor_at, self._pcr = number, now, pcr
        return now
