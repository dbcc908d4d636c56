"""What tests hear of a transport stream: packets by PID with their times, counters in order, sections whole."""

import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from protocol.mpegts.packet import PACKET_SIZE, TsPacket, packet_pid, parse_packet, split_packets
from protocol.mpegts.section import SectionAssembler

PACKET_BITS = PACKET_SIZE * 8


class Heard:
    """Datagrams with the times at which they came."""

    def __init__(self, datagrams: Iterable[tuple[float, bytes]]) -> None:
        self.datagrams = list(datagrams)
        self.packets: dict[int, list[tuple[float, TsPacket]]] = defaultdict(list)
        for at, datagram in self.datagrams:
            for raw in split_packets(datagram):
                self.packets[packet_pid(raw)].append((at, parse_packet(raw)))

    @property
    def stream(self) -> bytes:
        return b"".join(datagram for _, datagram in self.datagrams)

    def sections(self, pid: int) -> list[bytes]:
        assembler = SectionAssembler()
        found = [section for _, packet in self.packets[pid] for section in assembler.push(packet)]
        assert not assembler.damage
        return found

    def times(self, pid: int) -> list[float]:
        return [at for at, _ in self.packets[pid]]

    def busiest_second(self, *pids: int) -> int:
        """Bits of these PIDs (of all, when none is named) in the second that had the most."""
        chosen = pids or tuple(self.packets)
        times = sorted(at for pid in chosen for at in self.times(pid))
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - 1:
                first += 1
            most = max(most, last - first + 1)
        return most * PACKET_BITS

    def jumps(self, pid: int) -> int:
        """How often the continuity counter is not one more than before."""
        counters = [packet.continuity_counter for _, packet in self.packets[pid]]
        return sum((after - before) & 0x0F != 1 for before, after in pairwise(counters))


SO_TIMESTAMPNS = 35  # socket(7): the kernel notes when a datagram came, however late it is fetched
_TIMESPEC = struct.Struct("@ll")


class UdpListener:
    """A receiver's socket on the loopback, for one address or one multicast group."""

    def __init__(self, group: str | None = None, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.bind((group or "127.0.0.1", port))
        if group:
            member = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        self.socket.setblocking(False)
        self.port = int(self.socket.getsockname()[1])

    def take(self) -> list[tuple[float, bytes]]:
        """All datagrams that have come by now, with the Unix time of their arrival."""
        found = []
        while True:
            try:
                datagram, ancillary, _, _ = self.socket.recvmsg(65536, 128)
            except BlockingIOError:
                return found
            (seconds, nanoseconds) = next(
                _TIMESPEC.unpack_from(data) for level, kind, data in ancillary if (level, kind) == (1, SO_TIMESTAMPNS)
            )
            found.append((seconds + nanoseconds / 1e9, datagram))

    def close(self) -> None:
        self.socket.close()
