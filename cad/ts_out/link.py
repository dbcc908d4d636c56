"""Links without a multiplexer: one `StreamLink` sends a transport stream of its own, by UDP or RTP."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from cad.air.muxes import (
    RETRY_FIRST_S,
    RETRY_MAX_S,
    STEADY_AFTER_S,
    Allocation,
    LinkDownError,
    LinkEvent,
    LinkLost,
    LinkUp,
)
from cad.frame.clock import Clock
from cad.ts_out.composer import OutputComposer, OutputPlan
from cad.ts_out.sender import Destination, open_sender
from config.outlets import StreamSettings
from protocol import rtp
from protocol.mpegts.packet import Packing

log = structlog.get_logger("cad.ts_out")

TICK_S: Final = 0.005
IDLE_MAX_S: Final = 0.05
PROVE_S: Final = 0.3
"""For so long only tables are sent after opening: a receiver that is not there refuses them before an EMM is lost."""
QUEUE_S: Final = 0.1
"""So much may wait in the composer, in time at the rate of EMMs, before `send` makes its caller wait."""
STUCK_S: Final = 2.0
DRAIN_S: Final = 1.0
LOOK_UP_S: Final = 5.0

system_random: Final = secrets.SystemRandom()


class StreamLink:
    """Sends one transport stream for ever: tables, EMMs within `bandwidth_kbps`, null packets.

    `run()` is the task; `send` may be called by others while `ready`. There is nobody to say whether the stream is
    received: up means that the network takes it. `since` is the Unix time of the last change of `ready`; `last_error`
    says in words why the stream is or was down. `random()` returns 0..1.
    """

    def __init__(
        self,
        stream: StreamSettings,
        ca_system_id: int,
        clock: Clock,
        *,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self.stream = stream
        self.ready = False
        self.allocated_bps = 0
        self.last_error: str | None = None
        self.since: float | None = None
        self.lost_datagrams = 0
        self._clock = clock
        self._random = random
        self._log = log.bind(multiplex=stream.id, peer=f"{stream.host}:{stream.port}")
        self._callbacks: list[Callable[[LinkEvent], None]] = []
        self._composer = OutputComposer(plan_of(stream, ca_system_id), clock.monotonic())
        self._rtp = _RtpFramer(random) if stream.protocol == "rtp" else None
        self._queue_bytes = 1000 * stream.bandwidth_kbps / 8 * QUEUE_S
        self._socket: socket.socket | None = None
        self._full_since: float | None = None
        self._was_up = False
        self._attempts = 0
        self._stopping = False
        self._now_ready = asyncio.Event()
        self._work = asyncio.Event()
        self._sent = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        """Call `callback` with each event, at once, in the event loop; it must neither block nor raise."""
        self._callbacks.append(callback)

    async def wait_ready(self) -> None:
        """Wait until the stream is sent."""
        await self._now_ready.wait()

    async def send(self, datagrams: Sequence[bytes]) -> None:
        """Put sections into the stream. Returns when no more than QUEUE_S of them waits. Raises LinkDownError."""
        self._check_up()
        self._composer.put(datagrams)
        self._work.set()
        while self._composer.queued_bytes > self._queue_bytes:
            self._sent.clear()
            await self._sent.wait()
            self._check_up()

    async def run(self) -> None:
        """Send until `close` is called; after an error of the network open anew, with growing pauses."""
        while not self._stopping:
            self._idle.clear()
            try:
                await self._session()
            finally:
                self._idle.set()
            if not self._stopping:
                await self._clock.sleep(self._pause())

    async def close(self) -> None:
        """Let what waits go out, at the stream's pace, and send no more."""
        self._stopping = True
        self._set_ready(False)
        self._sent.set()
        self._work.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S + LOOK_UP_S):
                await self._idle.wait()

    def _check_up(self) -> None:
        if not self.ready:
            raise LinkDownError(f"stream {self.stream.id} is not sent: {self.last_error or 'not opened yet'}")

    async def _session(self) -> None:
        opened_at = self._clock.monotonic()
        try:
            self._socket = await self._open()
            await self._stream_out(opened_at)
            self._down("closed by us", "")
        except OSError as error:
            if self._clock.monotonic() - opened_at >= STEADY_AFTER_S:
                self._attempts = 0
            self._down(*_explain(error, self.stream))
        finally:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    async def _open(self) -> socket.socket:
        own = self.stream
        look_up = asyncio.get_running_loop().getaddrinfo(own.host, own.port, type=socket.SOCK_DGRAM)
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await look_up
        except TimeoutError:
            raise OSError(None, f"the name service does not answer within {LOOK_UP_S:g} s") from None
        to = Destination(own.host, own.port, own.interface, own.multicast_ttl, own.dscp)
        return open_sender(to, found[0])

    async def _stream_out(self, opened_at: float) -> None:
        """Send until told to stop. Raises OSError when the network does not take it."""
        stop_at: float | None = None
        while True:
            now = self._clock.monotonic()
            if self._stopping:
                stop_at = now + DRAIN_S if stop_at is None else stop_at
                if now >= stop_at or self._composer.empty:
                    return
            self._work.clear()
            for payload in self._composer.compose(now):
                self._transmit(payload, now)
            now = self._clock.monotonic()
            self._composer.on_wire(now)
            self._sent.set()
            if not self.ready and not self._stopping and now - opened_at >= PROVE_S:
                self._up()
            pause = min(max(self._composer.next_at(now) - now, TICK_S), IDLE_MAX_S)
            if self.stream.null_packets or self._stopping:
                await self._clock.sleep(pause)
            else:
                await self._clock.wait(self._work, pause)

    def _transmit(self, payload: bytes, now: float) -> None:
        if self._socket is None:
            return
        datagram = payload if self._rtp is None else self._rtp.wrap(payload, now)
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            # The queue of the network card is full. The stream does not wait; where that lasts, the link is down.
            self.lost_datagrams += 1
            if self._full_since is None:
                self._full_since = now
                self._log.warning("the network takes no datagram just now; it is lost", lost=self.lost_datagrams)
            elif now - self._full_since >= STUCK_S:
                self._full_since = None
                raise OSError(None, f"the network has taken nothing for {STUCK_S:g} s") from None
        else:
            self._full_since = None

    def _up(self) -> None:
        self.allocated_bps = 1000 * self.stream.bandwidth_kbps
        self._log.info("stream up", bandwidth_kbps=self.stream.bandwidth_kbps, reconnected=self._was_up)
        self._set_ready(True)
        self._publish(LinkUp(reconnected=self._was_up))
        self._was_up = True
        self._publish(Allocation(self.allocated_bps))

    def _down(self, reason: str, advice: str) -> None:
        if self._stopping:
            self._log.info("stream closed", reason=reason)
        elif reason != self.last_error or self.ready:
            self._log.warning("stream down", reason=reason, advice=advice)
        else:
            self._log.info("stream still down", reason=reason, attempts=self._attempts)
        self.allocated_bps = 0
        self.last_error = reason
        self._set_ready(False)
        self._composer.reset()
        self._sent.set()
        self._publish(LinkLost(reason))

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready or self.since is None:
            self.since = self._clock.now()
        self.ready = ready
        if ready:
            self._now_ready.set()
        else:
            self._now_ready.clear()

    def _pause(self) -> float:
        longest = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._attempts, 20))
        self._attempts += 1
        return longest * (0.5 + 0.5 * self._random())

    def _publish(self, event: LinkEvent) -> None:
        for callback in self._callbacks:
            callback(event)


class _RtpFramer:
    """Counts and stamps RTP datagrams. Numbers begin at random, as RFC 3550, 5.1 wants it."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._sequence = int(random() * 0x10000)
        self._ssrc = int(random() * 0x1_0000_0000)
        self._offset = int(random() * 0x1_0000_0000)
        self._first = True

    def wrap(self, payload: bytes, now: float) -> bytes:
        """The datagram that carries these packets now. The first one is marked: its timestamp follows no other."""
        stamp = (self._offset + int(now * rtp.CLOCK_HZ)) & 0xFFFF_FFFF
        header = rtp.RtpHeader(self._sequence, stamp, self._ssrc, marker=self._first)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._first = False
        return rtp.build(header, payload)


def plan_of(stream: StreamSettings, ca_system_id: int) -> OutputPlan:
    """The composer's plan as the settings want it."""
    return OutputPlan(
        ca_system_id=ca_system_id,
        emm_pid=stream.emm_pid,
        emm_bps=1000 * stream.bandwidth_kbps,
        stream_bps=1000 * stream.stream_kbps,
        transport_stream_id=stream.transport_stream_id if stream.pat else None,
        packing=Packing(stream.packing),
        null_packets=stream.null_packets,
        packets_per_datagram=stream.packets_per_datagram,
        burst_s=stream.burst_ms / 1000,
    )


def _explain(error: OSError, stream: StreamSettings) -> tuple[str, str]:
    """Why the stream is down, and what to do."""
    where = f"{stream.host}:{stream.port}"
    if isinstance(error, socket.gaierror):
        return f"the name {stream.host} is not known: {error.strerror}", "correct host, or mend the name service"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {where}", "start the receiver, or correct host and port"
    what = error.strerror or str(error)
    return f"cannot send to {where}: {what}", "look at interface, routes and firewall of this machine"
