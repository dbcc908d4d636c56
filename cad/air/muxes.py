"""Links to multiplexers: one `MuxLink` keeps one EMM stream open (SimulCrypt EMMG⇔MUX) and carries datagrams to it."""

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog

from cad.air.mux_wires import LINGER_S, Wires
from cad.errors import CadError
from cad.frame.clock import Clock
from config.outlets import MultiplexSettings
from protocol.simulcrypt.emmg_mux import DataForm, ErrorStatus
from protocol.simulcrypt.emmg_session import EmmgSession, EmmgSettings
from protocol.simulcrypt.error_advice import advice, spell
from protocol.simulcrypt.session_events import (
    BandwidthAllocated,
    ChannelOpened,
    Event,
    MessageRefused,
    PeerError,
    SessionClosed,
    VersionChanged,
)

log = structlog.get_logger("cad.air.muxes")

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0
STEADY_AFTER_S: Final = 10.0
"""A link that was up for so long starts its back-off afresh."""

system_random: Final = secrets.SystemRandom()


class LinkDownError(CadError):
    """The link cannot carry data now. What was handed over last may or may not have reached the multiplexer."""


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The stream is open and has a rate. After a reconnect the multiplexer has lost what was in its queue."""

    reconnected: bool


@dataclass(frozen=True, slots=True)
class LinkLost:
    """The stream is gone, or an attempt to open it failed. The link tries again by itself.

    `heard_at` is when the multiplexer was last heard (monotonic); what was sent later may not have arrived.
    """

    reason: str
    heard_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Allocation:
    """The rate the multiplexer allocates from now on, in bit/s; 0 means that nothing may be sent (I11)."""

    bps: int


@dataclass(frozen=True, slots=True)
class ChangedOver:
    """Another multiplexer carries the stream from now on: "main" or "standby"."""

    to: str
    reason: str


LinkEvent: TypeAlias = LinkUp | LinkLost | Allocation | ChangedOver


class MuxLink:
    """Keeps one stream open on one multiplexer, for ever: connect, set up, ask for bandwidth, test, reconnect.

    `run()` is the task; `send` may be called by others while `ready`. Pacing is the caller's: nothing here slows down
    but TCP itself. `since` is the Unix time of the last change of `ready`; `last_error` says in words why the link is
    or was down. `jitter()` returns 0..1 and spreads the attempts of many links.
    """

    def __init__(
        self,
        multiplex: MultiplexSettings,
        ca_system_id: int,
        clock: Clock,
        *,
        jitter: Callable[[], float] = system_random.random,
    ) -> None:
        self.multiplex = multiplex
        self.ready = False
        self.allocated_bps = 0
        self.last_error: str | None = None
        self.since: float | None = None
        self.heard_at: float | None = None
        self._clock = clock
        self._jitter = jitter
        self._log = log.bind(multiplex=multiplex.id, peer=f"{multiplex.host}:{multiplex.port}")
        self._version = multiplex.protocol_version
        self._callbacks: list[Callable[[LinkEvent], None]] = []
        self._session: EmmgSession | None = None
        self._wires: Wires | None = None
        self._was_up = False
        self._up_at: float | None = None
        self._attempts = 0
        self._reason: str | None = None
        self._crash: Exception | None = None
        self._stopping = False
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._hurry = asyncio.Event()
        self._now_ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        if multiplex.client_id >> 16 != ca_system_id:
            self._log.warning(
                "client_id does not carry ca_system_id in its upper half: some multiplexers refuse that",
                client_id=f"0x{multiplex.client_id:08X}",
                ca_system_id=f"0x{ca_system_id:04X}",
            )

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        """Call `callback` with each event, at once, in the event loop; it must neither block nor raise."""
        self._callbacks.append(callback)

    async def wait_ready(self) -> None:
        """Wait until the stream is open and has a rate."""
        await self._now_ready.wait()

    async def send(self, datagrams: Sequence[bytes]) -> None:
        """Hand datagrams over: in section mode one section each, in packet mode whole TS packets.

        Returns when the kernel has taken all bytes. Raises LinkDownError when the stream is or goes down meanwhile,
        `protocol.errors.EncodeError` for a datagram that is not what the stream carries.
        """
        session, wires = self._session, self._wires
        if session is None or wires is None or not session.ready:
            raise LinkDownError(f"the link to multiplex {self.multiplex.id} is down: {self.last_error or 'not set up'}")
        wires.write_data(session.provision(datagrams))
        # A live multiplexer answers a test in answer_timeout_s; one that takes no data for twice as long is stuck.
        taken = await wires.drained(2 * self.multiplex.answer_timeout_s)
        if not taken and not session.closed:
            session.connection_lost("the multiplexer takes no more data", "it may hang: look at the multiplexer")
            self._pump()
        if session.closed:
            raise LinkDownError(f"the link to multiplex {self.multiplex.id} went down: {self.last_error}")

    async def run(self) -> None:
        """Keep the stream open, but for `hold`, until `close` is called. Cancelled, it says goodbye without waiting."""
        await self._wanted.wait()
        while not self._stopping:
            self._idle.clear()
            try:
                await self._connection()
            finally:
                self._idle.set()
            if not self._stopping:
                await self._clock.wait(self._hurry, self._pause())
                self._hurry.clear()
                await self._wanted.wait()

    def hold(self) -> None:
        """Close stream and channel politely and connect no more until `release`."""
        self._wanted.clear()
        self._part()

    def release(self) -> None:
        """Connect again after `hold`, at once."""
        if not self._wanted.is_set():
            self._attempts = 0
            self._wanted.set()
            self._hurry.set()

    async def close(self) -> None:
        """Close stream and channel politely and connect no more. Returns when the connection is gone."""
        self._stopping = True
        self._wanted.set()
        self._hurry.set()
        self._part()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self.multiplex.answer_timeout_s + LINGER_S):
                await self._idle.wait()

    def _part(self) -> None:
        self._set_ready(False)
        if self._session is not None:
            self._session.close(self._clock.monotonic())
            self._pump()

    async def _connection(self) -> None:
        """Make one connection and serve it to its end."""
        wires = Wires(self._received, self._lost)
        self.heard_at = None
        try:
            async with asyncio.timeout(self.multiplex.answer_timeout_s):
                await wires.connect(self.multiplex)
        except (OSError, TimeoutError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else ""
            self._down(
                f"cannot connect: {why or f'no answer within {self.multiplex.answer_timeout_s:g} s'}",
                "check host, port and the network; is the multiplexer's EMMG input switched on?",
            )
            wires.cut()
            return
        session = self._session = EmmgSession(self._session_settings())
        self._wires = wires
        self.heard_at = self._clock.monotonic()
        try:
            if wires.lost is None:
                session.start(self._clock.monotonic())
            else:
                session.connection_lost(*wires.lost)
            await self._attend(session)
        finally:
            # Only a cancelled task comes here with an open session: it cannot wait for the multiplexer's answer.
            session.close(self._clock.monotonic())
            session.handle_timer(math.inf)
            self._pump()
            self._session = self._wires = None
            await wires.close()

    async def _attend(self, session: EmmgSession) -> None:
        if self._stopping or not self._wanted.is_set():
            session.close(self._clock.monotonic())
        self._pump()
        while not session.closed:
            self._wake.clear()
            due = session.timer()
            pause = None if due is None else max(0.0, due - self._clock.monotonic())
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                session.handle_timer(self._clock.monotonic())
                self._pump()
            if self._crash is not None:
                crash, self._crash = self._crash, None
                raise crash

    def _received(self, data: bytes) -> None:
        if self._session is not None:
            self.heard_at = self._clock.monotonic()
            self._session.receive(data, self.heard_at)
            self._pump_or_crash()

    def _lost(self, reason: str, advice_text: str) -> None:
        if self._session is not None:
            self._session.connection_lost(reason, advice_text)
            self._pump_or_crash()

    def _pump_or_crash(self) -> None:
        """Carry what a subscriber raises over to the task: asyncio would only log it and drop the connection."""
        try:
            self._pump()
        except Exception as error:
            self._crash = error
            self._wake.set()

    def _pump(self) -> None:
        """Move on what the session has to say, to the multiplexer and to the subscribers."""
        session, wires = self._session, self._wires
        if session is None or wires is None:
            return
        if data := session.data_to_send():
            wires.write(data)
        for event in session.events():
            self._on_event(event)
        self._wake.set()

    def _on_event(self, event: Event) -> None:
        match event:
            case BandwidthAllocated():
                self._on_allocation(event)
            case SessionClosed(orderly=True):
                self._down("closed by us", "")
            case SessionClosed():
                self._down(event.reason, event.advice)
            case ChannelOpened():
                self._log.debug("multiplexer channel open", protocol_version=event.protocol_version)
            case VersionChanged():
                self._version = event.protocol_version
                self._log.warning(
                    "the multiplexer refuses this protocol version; going on with another",
                    refused=event.refused,
                    protocol_version=event.protocol_version,
                    advice=f"set protocol_version = {event.protocol_version} for this multiplex",
                )
            case PeerError():
                self.last_error = ", ".join(spell(status) for status in event.error_status)
                self._log.warning(
                    "the multiplexer reports an error",
                    message=event.message_name,
                    error_status=self.last_error,
                    advice=advice(event.error_status[0] if event.error_status else ErrorStatus.UNKNOWN),
                )
            case MessageRefused():
                self._log.warning("a message of the multiplexer cannot be read", what=event.what)
            case _:
                pass

    def _on_allocation(self, allocated: BandwidthAllocated) -> None:
        bps = allocated.bandwidth_kbps * 1000
        if bps == self.allocated_bps and self.ready:
            return
        asked = self.multiplex.bandwidth_kbps
        if not allocated.stated:
            self._log.warning(
                "the multiplexer does not say which rate it allocates; taking this one",
                allocated_kbps=allocated.bandwidth_kbps,
                advice="make sure that the multiplexer's own setting for this stream is not lower",
            )
        elif allocated.bandwidth_kbps < asked:
            self._log.warning(
                "the multiplexer allocates less than asked for",
                allocated_kbps=allocated.bandwidth_kbps,
                asked_kbps=asked,
                advice="the carousel turns slower; raise the EMM rate in the multiplexer or lower bandwidth_kbps",
            )
        self.allocated_bps = bps
        if not bps:
            self.last_error = "the multiplexer allocates no rate"
        if bps and self._up_at is None:
            self._up_at = self._clock.monotonic()
            self._log.info("multiplexer link up", allocated_kbps=allocated.bandwidth_kbps, reconnected=self._was_up)
            self._publish(LinkUp(reconnected=self._was_up))
            self._was_up = True
        self._set_ready(bps > 0)
        self._publish(Allocation(bps))

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready or self.since is None:
            self.since = self._clock.now()
        self.ready = ready
        if ready:
            self._now_ready.set()
        else:
            self._now_ready.clear()

    def _down(self, reason: str, advice_text: str) -> None:
        if self._up_at is not None and self._clock.monotonic() - self._up_at >= STEADY_AFTER_S:
            self._attempts = 0
        self._up_at = None
        self.allocated_bps = 0
        self._set_ready(False)
        if self._stopping or not self._wanted.is_set():
            self._log.info("multiplexer link closed", reason=reason)
        elif reason != self._reason:
            self._log.warning("multiplexer link down", reason=reason, advice=advice_text)
        else:
            self._log.info("multiplexer link still down", reason=reason, attempts=self._attempts)
        self._reason = reason
        if self._wanted.is_set():
            self.last_error = reason
        self._publish(LinkLost(reason, self.heard_at))

    def _pause(self) -> float:
        longest = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._attempts, 20))
        self._attempts += 1
        return longest * (0.5 + 0.5 * self._jitter())

    def _publish(self, event: LinkEvent) -> None:
        for callback in self._callbacks:
            callback(event)

    def _session_settings(self) -> EmmgSettings:
        own = self.multiplex
        return EmmgSettings(
            client_id=own.client_id,
            data_channel_id=own.data_channel_id,
            data_stream_id=own.data_stream_id,
            data_id=own.data_id,
            bandwidth_kbps=own.bandwidth_kbps,
            protocol_version=self._version,
            form=DataForm.TS_PACKET if own.mode == "packet" else DataForm.SECTION,
            data_over_udp=own.transport == "udp",
            datagrams_per_message=own.datagrams_per_message,
            message_bytes_max=own.message_bytes_max,
            test_interval_s=own.test_interval_s,
            answer_timeout_s=own.answer_timeout_s,
        )
