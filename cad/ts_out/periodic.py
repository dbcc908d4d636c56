"""What stands in a transport stream again and again: tables, and ECMs. Pure: time comes as an argument."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.mpegts.packet import (
    PAYLOAD_SIZE,
    STUFFING_BYTE,
    Packing,
    SectionPacketizer,
    TsPacket,
    build_packet,
)

# ETSI TR 101 290, 5.2.1 and 5.2.2: PAT, CAT and PMT at least every 0.5 s.
TABLE_INTERVAL_S: Final = 0.2

SectionSource = Callable[[float], bytes | None]
"""Returns the section that holds at that time (Unix seconds), or None as long as there is none."""

# ISO/IEC 13818-1, 2.4.3.4: discontinuity_indicator is the first bit of the adaptation field's flags.
_DISCONTINUITY: Final = b"\x80"


@dataclass(slots=True)
class Periodic:
    """A section that is sent every `interval_s` on its own PID. `opening`: packets to send instead the first time."""

    interval_s: float
    section: SectionSource
    packetizer: SectionPacketizer
    opening: tuple[bytes, ...] = ()
    next_at: float = -math.inf

    def due(self, at: float) -> list[bytes]:
        """The packets that go out at that time; none before their time."""
        if at < self.next_at:
            return []
        on_beat = self.next_at + self.interval_s
        self.next_at = on_beat if on_beat > at else at + self.interval_s
        if self.opening:
            opening, self.opening = self.opening, ()
            return list(opening)
        section = self.section(at)
        return [] if section is None else self.packetizer.push(section)


def periodic(pid: int, interval_s: float, section: SectionSource) -> Periodic:
    """A section on its own PID, beginning with continuity counter 0."""
    return Periodic(interval_s, section, SectionPacketizer(pid, Packing.PER_SECTION))


def table(pid: int, section: bytes) -> Periodic:
    """A table that stays as it is, in time; its first packet announces that counting begins anew."""
    opening = opening_packets(pid, section)
    packetizer = SectionPacketizer(pid, Packing.PER_SECTION, continuity_counter=len(opening))
    return Periodic(TABLE_INTERVAL_S, constant(section), packetizer, tuple(opening))


def constant(section: bytes) -> SectionSource:
    """A source that always returns this section."""
    return lambda _at: section


def opening_packets(pid: int, section: bytes) -> list[bytes]:
    """The packets of the first section on a PID, counted from 0, the first with discontinuity_indicator.

    A receiver that has heard this PID before takes a counter that jumps there for what it is, a sender that has started
    anew, and not for lost packets (ISO/IEC 13818-1, 2.4.3.5).
    """
    adaptation = _DISCONTINUITY
    room = PAYLOAD_SIZE - 1 - len(adaptation) - 1
    if (len(section) - room) % PAYLOAD_SIZE == 1 and len(section) > room:
        # As in SectionPacketizer: some receivers do not wait for a last packet with a single byte.
        adaptation += bytes([STUFFING_BYTE])
        room -= 1
    stuffing = bytes([STUFFING_BYTE])
    packets = [
        TsPacket(
            pid, (b"\0" + section[:room]).ljust(room + 1, stuffing), payload_unit_start=True, adaptation=adaptation
        )
    ]
    for number, at in enumerate(range(room, len(section), PAYLOAD_SIZE), start=1):
        payload = section[at : at + PAYLOAD_SIZE].ljust(PAYLOAD_SIZE, stuffing)
        packets.append(TsPacket(pid, payload, continuity_counter=number & 0x0F))
    return [build_packet(packet) for packet in packets]
