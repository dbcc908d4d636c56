"""The daemon's place at the broker: connects, again and again, says who it is, and lends the connection out."""

import asyncio
import contextlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, Literal, Protocol

import structlog

from cad.errors import CadError
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.orders.broker import BrokerConnection
from cad.orders.broker_faults import PublishDeniedError
from config.settings import MqttSettings
from protocol.portal import topics
from protocol.portal.replies import NodeState
from protocol.portal.version import SCHEMAS

log = structlog.get_logger(__name__)

BACK_OFF_FIRST_S: Final = 0.5
BACK_OFF_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 2.0
GOODBYE_S: Final = 2.0
SESSION_KEY: Final = "mqtt-session"

Role = Literal["active", "standby", "none"]


class Memory(Protocol):
    """Remembers by name across restarts whether the broker holds a session for us (the ledger does)."""

    async def meta_get(self, key: str) -> str | None: ...
    async def meta_set(self, key: str, value: str) -> None: ...


class PortalLink:
    """Keeps one connection to the broker. `run` as a task; others wait in `connection` for the present one.

    `jitter()` returns 0..1 and spreads reconnects. `sessions_lost` counts how often the broker had forgotten us.
    """

    def __init__(
        self,
        settings: MqttSettings,
        node: str,
        memory: Memory,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        jitter: Callable[[], float],
        role: Role = "active",
    ) -> None:
        self.sessions_lost = 0
        self.last_error: str | None = None
        self._settings = settings
        self._topic = topics.node_state(node)
        self._memory = memory
        self._clock = clock
        self._metrics = metrics
        self._health = health
        self._jitter = jitter
        self._role: Role = role
        self._since = int(clock.now())
        self._current: BrokerConnection | None = None
        self._connected = asyncio.Event()
        self._back_off_s = BACK_OFF_FIRST_S

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._current is not None and self._current.ended is None

    async def connection(self) -> BrokerConnection:
        """Return the present connection; wait until there is one."""
        while self._current is None or self._current.ended is not None:
            self._connected.clear()
            await self._connected.wait()
        return self._current

    def interrupt(self) -> None:
        """Wake up whoever waits for messages."""
        if self._current is not None:
            self._current.interrupt()

    async def set_role(self, role: Role) -> None:
        """Publish another role of this node."""
        self._role = role
        if self._current is not None and self.connected:
            await self._say(self._current, online=True)

    async def run(self) -> None:
        """Connect for ever; when cancelled, say goodbye and leave."""
        while True:
            try:
                await self._connect_once()
            except CadError as error:
                self._lost(error)
            pause_s = self._back_off_s * (0.5 + 0.5 * self._jitter())
            self._back_off_s = min(BACK_OFF_MAX_S, self._back_off_s * 2)
            log.warning("not connected to the broker", reason=self.last_error, pause_s=round(pause_s, 2))
            await self._clock.sleep(pause_s)

    async def _connect_once(self) -> None:
        """Connect and stay until the connection ends. Raises CadError, which says why it did."""
        connection = BrokerConnection(self._settings, self._topic, self._state(online=False))
        await connection.open()
        try:
            await self._greet(connection)
            began = self._clock.monotonic()
            why = await connection.wait_ended()
            if self._clock.monotonic() - began >= HEALTHY_AFTER_S:
                self._back_off_s = BACK_OFF_FIRST_S
            raise why
        finally:
            await self._leave(connection)

    def _lost(self, why: CadError) -> None:
        self.last_error = str(why)
        self._metrics.broker_up.set(0)
        self._metrics.unacked.set(0)
        self._health.set("broker", False, self.last_error)

    async def _greet(self, connection: BrokerConnection) -> None:
        """Say that we are here, take up the subscription, and see whether the broker still knew us."""
        await self._say(connection, online=True)
        await connection.subscribe(topics.COMMAND_FILTER)
        await self._compare_session(connection.session_present)
        self._current = connection
        self._connected.set()
        self.last_error = None
        self._metrics.broker_up.set(1)
        self._metrics.broker_connects.inc()
        self._health.set("broker", True)
        log.info("connected to the broker", session_kept=connection.session_present)

    async def _compare_session(self, present: bool) -> None:
        name = f"{self._settings.client_id} at {self._settings.host}:{self._settings.port}"
        try:
            known = await self._memory.meta_get(SESSION_KEY) == name
            if known and not present:
                self.sessions_lost += 1
                self._metrics.sessions_lost.inc()
                log.warning(
                    "the broker forgot our session: commands published while we were away may be lost there;"
                    " portals send again what was not answered. Look whether the broker keeps its state on disk, and"
                    " whether another client uses the same client id",
                    client_id=self._settings.client_id,
                )
            if not known:
                await self._memory.meta_set(SESSION_KEY, name)
        except CadError as error:
            log.warning("cannot tell whether the broker kept the session", reason=str(error))

    async def _say(self, connection: BrokerConnection, *, online: bool) -> None:
        try:
            await connection.publish(self._topic, self._state(online=online), retain=True)
        except PublishDeniedError as error:
            log.warning("cannot publish the state of this node: correct the broker's access list", reason=str(error))

    def _state(self, *, online: bool) -> bytes:
        state = NodeState(
            online=online,
            role=self._role if online else "none",
            version=version("cad"),
            schemas=SCHEMAS,
            since=self._since if online else None,
        )
        return state.model_dump_json().encode()

    async def _leave(self, connection: BrokerConnection) -> None:
        self._current = None
        self._connected.clear()
        if connection.ended is not None:
            return
        with contextlib.suppress(CadError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._say(connection, online=False)
        await connection.close()
        self._metrics.broker_up.set(0)
