"""The socket under one ECMG session."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from cad.frame.clock import Clock
from config.ecmg import ScramblerSettings
from protocol.simulcrypt.ecmg.events import EcmgEvent
from protocol.simulcrypt.ecmg.session import EcmgSession
from protocol.simulcrypt.session_events import SessionClosed

log = structlog.get_logger("cad.ecmg")

UNREAD_MAX_BYTES: Final = 65_536
"""Answers that may wait for a scrambler that does not read; then nothing more is read from it."""

UNSENT_MAX_BYTES: Final = 131_072
"""What the kernel may hold of them besides."""

STALLED_MAX_S: Final = 10.0
"""A scrambler that takes no answers for so long, or does not let its connection end, is cut off."""

Pair = tuple[ScramblerSettings, EcmgSession]


class ScramblerConnection(asyncio.BufferedProtocol):
    """Moves bytes between a socket and its session, a small piece at a time, so that no scrambler keeps others waiting.

    `admit(connection, address)` returns who that is and a session, or None: then the connection is cut without a word.
    `told(connection, event)` gets the session's events, `gone(connection)` the end. `buffer` may be shared by all
    connections: what is in it has been handled before another connection reads.
    """

    def __init__(
        self,
        buffer: memoryview,
        clock: Clock,
        admit: "Callable[[ScramblerConnection, str], Pair | None]",
        told: "Callable[[ScramblerConnection, EcmgEvent], None]",
        gone: "Callable[[ScramblerConnection], None]",
        timed: Callable[[float], None],
    ) -> None:
        self._buffer = buffer
        self._clock = clock
        self._admit = admit
        self._told = told
        self._gone = gone
        self._timed = timed
        self._transport: asyncio.Transport | None = None
        self._stalled_at: float | None = None
        self._pair: Pair | None = None
        self.peer = ""
        self.since = clock.now()
        self.ecms_counted = 0

    @property
    def admitted(self) -> bool:
        """Whether it is a scrambler of ours."""
        return self._pair is not None

    @property
    def client(self) -> ScramblerSettings:
        """Who it is."""
        assert self._pair is not None
        return self._pair[0]

    @property
    def session(self) -> EcmgSession:
        """Its session."""
        assert self._pair is not None
        return self._pair[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up for small messages that must not wait, or cut it off."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("TCP transport expected")
        self._transport = transport
        address = transport.get_extra_info("peername") or ("",)
        self.peer = str(address[0])
        plain: socket.socket | None = transport.get_extra_info("socket")
        self._pair = self._admit(self, self.peer)
        if self._pair is None:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=UNREAD_MAX_BYTES)
        if plain is not None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_MAX_BYTES)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next piece goes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle the next piece."""
        if self._pair is None:
            return
        session = self._pair[1]
        began = self._clock.monotonic()
        ecms = session.ecms
        try:
            session.receive(bytes(self._buffer[:nbytes]), began)
            self.flush()
            if session.ecms != ecms:
                self._timed(self._clock.monotonic() - began)
                session.prepare()
        except Exception:
            log.exception("an ECM could not be made; the connection is cut", client=self.client.id, peer=self.peer)
            self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._pair is not None:
            self.session.connection_lost(
                f"the connection broke: {exc}" if exc else "the scrambler closed the connection"
            )
            self._tell()
            self._gone(self)

    def pause_writing(self) -> None:
        """The scrambler does not read its answers: read nothing more from it meanwhile."""
        self._stalled_at = self._clock.monotonic()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._stalled_at = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def look(self, now: float) -> None:
        """Do what time demands."""
        if self._stalled_at is not None and now - self._stalled_at >= STALLED_MAX_S:
            self.session.end("the scrambler takes no answers", "it may hang: look at the scrambler")
            self._tell()
            self.cut()
            return
        self.session.handle_timer(now)
        self.flush()

    def close(self, reason: str) -> None:
        """Close the channel politely, then the connection."""
        self.session.close(reason)
        self.flush()

    def cut(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Send what the session has to say, tell what has happened, and close when it is over."""
        transport, session = self._transport, self.session
        if transport is None:
            return
        if (data := session.data_to_send()) and not transport.is_closing():
            transport.write(data)
        if not session.eventful:
            return
        self._tell()
        if session.closed and not transport.is_closing():
            transport.close()
            if self._stalled_at is None:
                self._stalled_at = self._clock.monotonic()

    def _tell(self) -> None:
        for event in self.session.events():
            self._told(self, event)
            if isinstance(event, SessionClosed):
                return
