"""The sockets under a multiplexer link."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

from config.outlets import MultiplexSettings

LINGER_S: Final = 1.0
"""How long the last bytes of a connection may take before it is cut."""

UNSENT_MAX_BYTES: Final = 16_384
"""What the kernel may hold back unsent: more would only age there while the multiplexer is slow."""


class Wires(asyncio.Protocol):
    """The sockets of one connection: TCP for the conversation, and for data unless a UDP socket carries it.

    `received(data)` gets what comes, `lost(reason, advice)` is told of the end; `lost` keeps what it was told.
    """

    def __init__(self, received: Callable[[bytes], None], lost: Callable[[str, str], None]) -> None:
        self._on_received = received
        self._on_lost = lost
        self._tcp: asyncio.Transport | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self.lost: tuple[str, str] | None = None

    async def connect(self, multiplex: MultiplexSettings) -> None:
        """Open what the settings say. Raises OSError."""
        loop = asyncio.get_running_loop()
        if multiplex.transport == "udp":
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: UdpErrors(self._on_lost), remote_addr=(multiplex.host, multiplex.udp_port or multiplex.port)
            )
        await loop.create_connection(lambda: self, multiplex.host, multiplex.port)

    def write(self, data: bytes) -> None:
        """Send a part of the conversation."""
        if self._tcp is not None and not self._tcp.is_closing():
            self._tcp.write(data)

    def write_data(self, messages: Sequence[bytes]) -> None:
        """Send data_provision messages."""
        if self._udp is None:
            self.write(b"".join(messages))
        else:
            for message in messages:
                self._udp.sendto(message)

    async def drained(self, timeout_s: float) -> bool:
        """Wait until the kernel has taken everything; False when it has not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._writable.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close the sockets; the last bytes may take LINGER_S."""
        if self._tcp is not None:
            self._tcp.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._gone.wait()
        self.cut()

    def cut(self) -> None:
        """Close the sockets at once."""
        if self._tcp is not None:
            self._tcp.abort()
        if self._udp is not None:
            self._udp.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up for small messages that must not wait, neither for others nor in a buffer."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("TCP transport expected")
        self._tcp = transport
        transport.set_write_buffer_limits(high=0)
        plain: socket.socket | None = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_MAX_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes from the multiplexer."""
        self._on_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._gone.set()
        self._writable.set()
        why = f"the connection broke: {exc}" if exc else "the multiplexer closed the connection"
        self.lost = (why, "it does so when it restarts, or when ids or state do not suit it: look at its EMMG settings")
        self._on_lost(*self.lost)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._writable.set()


class UdpErrors(asyncio.DatagramProtocol):
    """The UDP socket of a connection; the multiplexer sends nothing on it."""

    def __init__(self, lost: Callable[[str, str], None]) -> None:
        self._lost = lost

    def error_received(self, exc: Exception) -> None:
        """Nobody listens there, or the network does not carry it."""
        self._lost(f"data over UDP does not get through: {exc}", "check udp_port of this multiplex")
