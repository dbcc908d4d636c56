"""The ECMG: listens for scramblers, lets in those of the settings, and says what becomes of them."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import structlog

from cad.ecmg.clients import AllowList
from cad.ecmg.connection import Pair, ScramblerConnection
from cad.ecmg.maker import SealingMaker
from cad.ecmg.services import ServiceBook
from cad.frame import clock as clocks
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.metrics import OTHER, Metrics
from cad.frame.supervisor import Supervisor
from cad.ledger.model import EventWindow
from config.ecmg import EcmgSettings, ScramblerSettings
from config.settings import NetworkSettings
from emm.calendar import Calendar
from emm.ecm import EcmSealer
from protocol.simulcrypt.ecmg.events import ChannelDown, ChannelUp, EcmgEvent, Refused
from protocol.simulcrypt.ecmg.ids import IdsInUse
from protocol.simulcrypt.ecmg.session import EcmgSession
from protocol.simulcrypt.ecmg_scs import ErrorStatus
from protocol.simulcrypt.session_events import PeerError, SessionClosed

log = structlog.get_logger("cad.ecmg")

BACKLOG: Final = 128
PIECE_BYTES: Final = 8192
"""What is read at a time: about a hundred CW_provisions, a few milliseconds of work."""
WATCH_S: Final = 1.0
LINGER_S: Final = 2.0
TROUBLE_S: Final = 60.0
"""A refusal keeps the condition down for so long."""
LOG_EVERY_S: Final = 10.0
"""The same refusal of the same scrambler is logged so often."""

ADDRESS: Final = "address"
CONNECTIONS: Final = "connections"
REASONS: Final = {int(status): status.name.lower() for status in ErrorStatus}


class EcmgServer:
    """Serves ECMs on one listening socket. `start`, `follow` settings that are loaded anew, `follow_events`, `stop`."""

    def __init__(
        self,
        settings: EcmgSettings,
        networks: Sequence[NetworkSettings],
        sealer: EcmSealer,
        calendar: Calendar,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._sealer = sealer
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._supervisor = supervisor
        self._book = ServiceBook(networks)
        self._allowed = AllowList(settings)
        self._maker = self._new_maker()
        self._ids: IdsInUse[EcmgSession] = IdsInUse(
            tolerate=settings.ids_in_use == "tolerate", streams_max=settings.total_streams_max
        )
        self._connections: set[ScramblerConnection] = set()
        self._buffer = memoryview(bytearray(PIECE_BYTES))
        self._server: asyncio.Server | None = None
        self._said: dict[tuple[str, str], tuple[float, int]] = {}
        self._trouble: dict[str, float] = {}

    @property
    def connections(self) -> int:
        """How many scramblers are connected."""
        return len(self._connections)

    async def start(self, listener: socket.socket) -> None:
        """Listen on a socket that is bound already."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_connection, sock=listener, backlog=BACKLOG)
        self._supervisor.start("ecmg", self._watch)
        for client in self._allowed.ids:
            self._health.set("scrambler", True, subject=client)
        log.info("listening", server="ecmg", address=str(listener.getsockname()))

    async def stop(self) -> None:
        """Take no more connections, close all channels politely, and wait for the sockets a little."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close("the daemon stops")
        end = self._clock.monotonic() + LINGER_S
        while self._connections and self._clock.monotonic() < end:
            await self._clock.sleep(0.01)
        for connection in list(self._connections):
            connection.cut()
        self._count()
        await self._supervisor.stop("ecmg")

    def follow(self, settings: EcmgSettings, networks: Sequence[NetworkSettings]) -> None:
        """Take changed settings: services and products at once, all else for channels that are set up from now on.

        A scrambler that is no longer named loses its connections.
        """
        before = self._allowed.ids
        self._settings = settings
        self._book.follow(networks)
        self._allowed = AllowList(settings)
        self._maker = self._new_maker()
        self._ids.tolerate = settings.ids_in_use == "tolerate"
        self._ids.streams_max = settings.total_streams_max
        for connection in list(self._connections):
            client = self._allowed.find(connection.peer)
            if client is None or client.id != connection.client.id:
                connection.close("the settings no longer name this scrambler")
        self._count()
        for name in before:
            if name not in self._allowed.ids:
                self._trouble.pop(name, None)
                self._health.forget("scrambler", name)
                self._metrics.forget_scrambler(name)
        for name in self._allowed.ids:
            if name not in self._trouble:
                self._health.set("scrambler", True, subject=name)

    def follow_events(self, events: Sequence[EventWindow]) -> None:
        """Take these events from the next ECM on."""
        self._book.follow_events(events)

    def facts(self) -> dict[str, Any]:
        """What `cad status` shows."""
        return {
            "listen": self._settings.listen,
            "connections": len(self._connections),
            "streams": self._ids.streams,
            "events": [
                {
                    "network": event.network,
                    "operator": event.operator,
                    "offer": event.offer,
                    "service": event.service,
                    "product_id": event.product_id,
                    "starts_at": clocks.spell(event.starts_at),
                    "ends_at": clocks.spell(event.ends_at),
                    "running": event.starts_at <= self._clock.now() < event.ends_at,
                }
                for event in self._book.events
                if event.ends_at > self._clock.now()
            ],
            "scramblers": [
                {
                    "scrambler": connection.client.id,
                    "peer": connection.peer,
                    "since": clocks.spell(connection.since),
                    "channel": None
                    if connection.session.channel is None
                    else connection.session.channel.ecm_channel_id,
                    "streams": connection.session.streams,
                    "ecms": connection.session.ecms,
                }
                for connection in sorted(self._connections, key=lambda one: (one.client.id, one.since))
            ],
        }

    def _new_maker(self) -> SealingMaker:
        packets = self._settings.mode == "packet"
        return SealingMaker(self._sealer, self._calendar, self._clock, self._book, packets=packets)

    def _new_connection(self) -> ScramblerConnection:
        timed = self._metrics.ecm_turn.observe
        return ScramblerConnection(self._buffer, self._clock, self._admit, self._told, self._gone, timed)

    def _admit(self, connection: ScramblerConnection, address: str) -> Pair | None:
        client = self._allowed.find(address)
        if client is None:
            self._metrics.ecmg_refusals.labels(OTHER, ADDRESS).inc()
            self._say(
                OTHER, ADDRESS, "a connection from an address that is not in [[ecmg.clients]] is cut", peer=address
            )
            return None
        if sum(one.client.id == client.id for one in self._connections) >= client.connections_max:
            what = f"more than {client.connections_max} connections (connections_max)"
            self._refused(client, CONNECTIONS, what, address)
            return None
        self._connections.add(connection)
        self._metrics.ecmg_connects.labels(client.id).inc()
        profile = self._allowed.profile(client)
        return client, EcmgSession(profile, self._ids, self._maker, self._clock.monotonic())

    def _told(self, connection: ScramblerConnection, event: EcmgEvent) -> None:
        about = {"client": connection.client.id, "peer": connection.peer}
        match event:
            case ChannelUp():
                log.info(
                    "scrambler has set up a channel",
                    **about,
                    ecm_channel_id=event.ecm_channel_id,
                    super_cas_id=f"0x{event.super_cas_id:08X}",
                    protocol_version=event.protocol_version,
                )
            case ChannelDown():
                log.info("scrambler has closed its channel", **about, ecm_channel_id=event.ecm_channel_id)
            case Refused():
                reason = REASONS.get(event.error_status, OTHER)
                self._refused(connection.client, reason, event.what, connection.peer, ecm_stream_id=event.ecm_stream_id)
            case PeerError():
                spoken = ", ".join(spell(status) for status in event.error_status)
                self._say(
                    connection.client.id, "peer_error", "the scrambler reports an error", **about, error_status=spoken
                )
            case SessionClosed(orderly=True):
                log.info("scrambler connection closed", **about, reason=event.reason)
            case SessionClosed():
                self._count_ecms(connection)
                log.warning("scrambler connection ended", **about, reason=event.reason, advice=event.advice)

    def _gone(self, connection: ScramblerConnection) -> None:
        self._count_ecms(connection)
        self._connections.discard(connection)

    def _refused(self, client: ScramblerSettings, reason: str, what: str, peer: str, **more: Any) -> None:
        """Count, say and remember that a scrambler did not get what it asked for."""
        self._metrics.ecmg_refusals.labels(client.id, reason).inc()
        self._trouble[client.id] = self._clock.monotonic()
        self._health.set("scrambler", False, f"{reason}: {what}", subject=client.id)
        self._say(
            client.id, reason, "a scrambler is refused", client=client.id, peer=peer, reason=reason, what=what, **more
        )

    def _say(self, client: str, reason: str, event: str, /, **fields: Any) -> None:
        """Log, but the same thing only every LOG_EVERY_S: a scrambler repeats its orders for every crypto-period."""
        now = self._clock.monotonic()
        last, hidden = self._said.get((client, reason), (-LOG_EVERY_S, 0))
        if now - last < LOG_EVERY_S:
            self._said[client, reason] = (last, hidden + 1)
            return
        self._said[client, reason] = (now, 0)
        log.warning(event, **fields, **({"not_logged": hidden} if hidden else {}))

    async def _watch(self) -> None:
        """Let time work on every connection; bring metrics and conditions up to date."""
        while True:
            await self._clock.sleep(WATCH_S)
            now = self._clock.monotonic()
            for connection in list(self._connections):
                connection.look(now)
            self._count()
            for client, at in list(self._trouble.items()):
                if now - at >= TROUBLE_S:
                    del self._trouble[client]
                    self._health.set("scrambler", True, subject=client)

    def _count(self) -> None:
        channels: Counter[str] = Counter()
        streams: Counter[str] = Counter()
        for connection in self._connections:
            channels[connection.client.id] += connection.session.channel is not None
            streams[connection.client.id] += connection.session.streams
            self._count_ecms(connection)
        for client in self._allowed.ids:
            self._metrics.ecmg_channels.labels(client).set(channels[client])
            self._metrics.ecmg_streams.labels(client).set(streams[client])

    def _count_ecms(self, connection: ScramblerConnection) -> None:
        ecms = connection.session.ecms
        if connection.client.id not in self._allowed.ids:
            return
        self._metrics.ecms.labels(connection.client.id).inc(ecms - connection.ecms_counted)
        connection.ecms_counted = ecms


def spell(status: int) -> str:
    """Return the name and number of an error_status, also of one that is not in the standard."""
    return f"{REASONS.get(status, 'not in the standard')} (0x{status:04X})"
