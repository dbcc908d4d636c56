"""EMMs that wait for their packets in a transport stream. Pure."""

from collections import deque
from collections.abc import Iterable

from cad.ts_out.periodic import opening_packets
from protocol.mpegts.packet import Packing, SectionPacketizer, packet_has_payload, restamp


class EmmQueue:
    """Takes sections, or packets made by others, and gives the packets of one PID with counters in order.

    With `announce`, the first packet says that the counter begins anew. `waiting_bytes`: what was put in and is in no
    packet yet.
    """

    def __init__(self, pid: int, packing: Packing, *, announce: bool = False) -> None:
        self.packing = packing
        self.waiting_bytes = 0
        self._pid = pid
        self._announce = announce
        self._packetizer = SectionPacketizer(pid, packing)
        self._waiting: deque[tuple[bool, bytes]] = deque()
        self._ready: deque[bytes] = deque()
        self._counter = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self._waiting or self._ready or self._packetizer.pending)

    @property
    def unfinished(self) -> bool:
        """Whether the next packet goes on with an EMM whose packets must follow one another.

        Only so packed per section: simple demultiplexers lose an EMM with other packets in between.
        """
        return self.packing is Packing.PER_SECTION and bool(self._ready) and not self._ready[0][1] & 0x40

    def put(self, datagrams: Iterable[bytes], *, packets: bool = False, room_bytes: float = float("inf")) -> int:
        """Queue sections, or packets. Returns how many were dropped because no more than `room_bytes` may wait."""
        dropped = 0
        for datagram in datagrams:
            if self.waiting_bytes + len(datagram) > room_bytes:
                dropped += 1
                continue
            self._waiting.append((packets, datagram))
            self.waiting_bytes += len(datagram)
        return dropped

    def purge(self) -> None:
        """Forget what is in no packet yet."""
        self._waiting.clear()
        self.waiting_bytes = 0

    def reset(self) -> None:
        """Forget everything; the counter goes on."""
        self.purge()
        self._ready.clear()
        self._packetizer = SectionPacketizer(self._pid, self.packing)

    def together(self) -> int:
        """How many packets, the next one and those that must follow it directly, go out together; 0 = none is there."""
        if self.packing is Packing.PACKED:
            return 0 if self.empty else 1
        self._prepare()
        count = 0
        for packet in self._ready:
            if count and packet[1] & 0x40:
                break
            count += 1
        return count

    def next_packet(self) -> bytes | None:
        """The next packet of the PID. Nothing more to fill it with: better stuffing now than an EMM that waits."""
        self._prepare()
        if not self._ready:
            return None
        packet = restamp(self._ready.popleft(), self._pid, self._counter)
        if packet_has_payload(packet):
            self._counter = (self._counter + 1) & 0x0F
        return packet

    def _prepare(self) -> None:
        while not self._ready and self._waiting:
            is_packet, datagram = self._waiting.popleft()
            self.waiting_bytes -= len(datagram)
            if is_packet:
                self._ready.extend([*self._packetizer.flush(), datagram])
            elif self._announce:
                self._announce = False
                self._ready.extend(opening_packets(self._pid, datagram))
            else:
                self._ready.extend(self._packetizer.push(datagram))
        if not self._ready:
            self._ready.extend(self._packetizer.flush())
