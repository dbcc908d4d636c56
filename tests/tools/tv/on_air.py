"""The stream on the air: a service of constant rate, scrambled, with CAT, ECMs and EMMs in place of null packets."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from tests.tools.tv.packets import (
    NULL_PID,
    SectionPackets,
    ca_descriptor,
    cat_section,
    first_section,
    payload_at,
    pid_of,
    service_of,
    set_scrambling,
    split,
    with_ca_descriptor,
)
from tests.tools.tv.picture import PMT_PID, RATE_BPS
from tests.tools.tv.scrambler import Scrambler

CAT_PID, ECM_PID, EMM_PID = 0x0001, 0x1FF0, 0x1FF1
CAT_EVERY_S, ECM_EVERY_S = 0.2, 0.1
TICK_S = 0.01
AT_ONCE_S = 0.1
SLOT_S = 188 * 8 / RATE_BPS


class OnAir:
    """Sends `service` (a recording of constant rate) once, in its own time, to every receiver in `receivers`.

    Each packet keeps its place, so that the clock references stay right. `emms()` gives sections that are new;
    `packets` is all that was sent.
    """

    def __init__(
        self, service: bytes, scrambler: Scrambler, ca_system_id: int, emms: Callable[[], Iterable[bytes]]
    ) -> None:
        self.packets: list[bytes] = []
        self.receivers: list[Callable[[bytes], None]] = []
        self.emms_sent = 0
        self._slots = split(service)
        self._scrambler = scrambler
        self._emms = emms
        pmt = first_section(self._slots, PMT_PID)
        described = service_of(pmt)
        assert described is not None
        self._components = set(described.components)
        self._pmt = with_ca_descriptor(pmt, ca_descriptor(ca_system_id, ECM_PID))
        self._cat = cat_section(ca_descriptor(ca_system_id, EMM_PID))
        self._insert = {pid: SectionPackets(pid) for pid in (CAT_PID, ECM_PID, EMM_PID)}
        self._due = {CAT_PID: 0.0, ECM_PID: 0.0}
        self._ecm_sent = b""
        self._waiting: deque[bytes] = deque()

    @property
    def duration_s(self) -> float:
        return len(self._slots) * SLOT_S

    @property
    def at(self) -> float:
        """Seconds of the stream that have been sent."""
        return len(self.packets) * SLOT_S

    async def run(self) -> None:
        """Send all of the service, in real time; after a pause of the machine it goes on from where it was."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while len(self.packets) < len(self._slots):
            # All at once would leave no time for the ECMs that it needs.
            began = max(began, loop.time() - self.at - AT_ONCE_S)
            self.send(until=loop.time() - began)
            await asyncio.sleep(TICK_S)

    def send(self, until: float) -> None:
        """Send what is due by then."""
        start = len(self.packets)
        while len(self.packets) < len(self._slots) and self.at <= until:
            self.packets.append(self._fill(self._slots[len(self.packets)], self.at))
        if len(self.packets) > start:
            chunk = b"".join(self.packets[start:])
            for receive in self.receivers:
                receive(chunk)

    def _fill(self, packet: bytes, at: float) -> bytes:
        pid = pid_of(packet)
        if pid in self._components:
            self._scrambler.advance(at)
            return self._scrambler.scramble(set_scrambling(packet, 0))
        if pid == PMT_PID:
            return (packet[: payload_at(packet)] + b"\0" + self._pmt).ljust(188, b"\xff")
        if pid == NULL_PID:
            return self._insertion(at) or packet
        return packet

    def _insertion(self, at: float) -> bytes | None:
        if not self._waiting:
            self._waiting.extend(self._due_packets(at))
        return self._waiting.popleft() if self._waiting else None

    def _due_packets(self, at: float) -> list[bytes]:
        if at >= self._due[CAT_PID]:
            self._due[CAT_PID] = at + CAT_EVERY_S
            return self._insert[CAT_PID](self._cat)
        ecm = self._scrambler.ecm(at)
        if ecm is not None and (at >= self._due[ECM_PID] or ecm != self._ecm_sent):
            self._due[ECM_PID], self._ecm_sent = at + ECM_EVERY_S, ecm
            return self._insert[ECM_PID](ecm)
        packets = []
        for section in self._emms():
            self.emms_sent += 1
            packets += self._insert[EMM_PID](section)
        return packets
