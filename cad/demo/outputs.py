"""Where the demo's transport stream goes: subscribers inside the program, UDP, a file."""

import asyncio
import socket
from pathlib import Path
from typing import Final, Protocol

from protocol.mpegts.packet import PACKET_SIZE

# Seven packets fill an Ethernet frame; all IPTV receivers expect them so.
UDP_PAYLOAD: Final = 7 * PACKET_SIZE
SUBSCRIBER_QUEUE: Final = 256


class Output(Protocol):
    """Takes whole transport packets as they are composed; must not block."""

    def write(self, packets: bytes) -> None:
        """Take the next packets of the stream."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class Subscription:
    """The stream for one reader inside the program. Who reads too slowly loses the oldest packets."""

    def __init__(self, queue_max: int = SUBSCRIBER_QUEUE) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(queue_max)
        self.lost = 0

    def write(self, packets: bytes) -> None:
        """Take the next packets of the stream."""
        if self._queue.full():
            self.lost += len(self._queue.get_nowait()) // PACKET_SIZE
        self._queue.put_nowait(packets)

    def close(self) -> None:
        """Let the reader find the end."""
        self.write(b"")

    async def read(self) -> bytes:
        """Wait for packets; b"" = the stream has ended."""
        return await self._queue.get()


class UdpOutput:
    """The stream as IPTV carries it: UDP, unicast or multicast, seven packets in each datagram."""

    def __init__(self, host: str, port: int, multicast_ttl: int = 1) -> None:
        """Raises OSError where the host is unknown."""
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, proto)
        self._socket.setblocking(False)
        if family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, multicast_ttl)
        self._address = address
        self._held = bytearray()
        self.lost = 0

    def write(self, packets: bytes) -> None:
        """Take the next packets of the stream."""
        self._held += packets
        while len(self._held) >= UDP_PAYLOAD:
            self._send(bytes(self._held[:UDP_PAYLOAD]))
            del self._held[:UDP_PAYLOAD]

    def close(self) -> None:
        """Send what is left, and close the socket."""
        if self._held:
            self._send(bytes(self._held))
        self._socket.close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._address)
        except OSError:
            # Nobody listens, or the queue of the network card is full: the stream does not wait.
            self.lost += len(datagram) // PACKET_SIZE


class FileOutput:
    """The stream into a file that players and analysers read."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file cannot be written."""
        self._file = path.open("wb")

    def write(self, packets: bytes) -> None:
        """Take the next packets of the stream."""
        self._file.write(packets)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
