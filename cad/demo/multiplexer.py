"""The demo multiplexer: takes EMMs by SimulCrypt (EMMG⇔MUX, TCP and UDP) and sends a transport stream with them.

Behaves as multiplexers do: grants what is left of its bandwidth, drops silently what exceeds it, forgets its queue when
the only EMMG connects anew, and in packet mode puts its own PID and continuity counter into the packets.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import structlog

from cad.demo.outputs import Output, Subscription
from cad.demo.stream import StreamComposer, StreamPlan
from cad.errors import ListenError
from cad.frame.clock import Clock
from protocol.errors import DecodeError
from protocol.mpegts.packet import split_packets
from protocol.mpegts.section import SECTION_HEADER, section_size
from protocol.simulcrypt.conversation import State
from protocol.simulcrypt.emmg_mux import DataForm
from protocol.simulcrypt.mux_session import MuxSession
from protocol.simulcrypt.session_events import (
    BandwidthAsked,
    DataReceived,
    MessageRefused,
    PeerError,
    SessionClosed,
    StreamOpened,
)

log = structlog.get_logger(__name__)

TICK_S: Final = 0.01
TEST_INTERVAL_S: Final = 15.0

DatagramHook = Callable[[tuple[bytes, ...]], None]


class DemoMultiplexer:
    """One transport stream, any number of EMMGs in section mode, or one in packet mode.

    `start` opens the ports, `run` (a task of its owner) makes the stream until cancelled, `stop` closes all.
    `on_datagrams` is told of the EMMs as they arrive.
    """

    def __init__(
        self, plan: StreamPlan, clock: Clock, bandwidth_kbps: int, on_datagrams: DatagramHook | None = None
    ) -> None:
        """`bandwidth_kbps`: the most that is granted to an EMMG, and what all together really have."""
        self.composer = StreamComposer(plan, clock.now())
        self.composer.emm_rate_bps = 0
        self.connections: set[EmmgConnection] = set()
        self.clock = clock
        self.bandwidth_kbps = bandwidth_kbps
        self.on_datagrams = on_datagrams
        self._outputs: list[Output] = []
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen for EMMGs on TCP and for their data on the UDP port of the same number; returns it.

        `port` 0 = any free one. Raises ListenError.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: EmmgConnection(self), host, port)
            port = self._server.sockets[0].getsockname()[1]
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _UdpInput(self), local_addr=(host, port))
        except OSError as error:
            await self.stop()
            reason = error.strerror or str(error)
            raise ListenError(
                f"the demo multiplexer cannot listen on {host}:{port}: {reason}; choose another port"
            ) from error
        return port

    async def run(self) -> None:
        """Compose the stream and hand it to the outputs, until cancelled."""
        next_test_at = self.clock.monotonic() + TEST_INTERVAL_S
        while True:
            self.tick()
            if self.clock.monotonic() >= next_test_at:
                next_test_at += TEST_INTERVAL_S
                for connection in list(self.connections):
                    connection.test()
            await self.clock.sleep(TICK_S)

    def tick(self) -> None:
        """Hand on the packets whose time has come."""
        packets = self.composer.compose(self.clock.now())
        if packets:
            for output in self._outputs:
                output.write(packets)

    async def stop(self) -> None:
        """Close ports, connections and outputs."""
        if self._server is not None:
            self._server.close()
        if self._udp is not None:
            self._udp.close()
        for connection in list(self.connections):
            connection.close()
        if self._server is not None:
            await self._server.wait_closed()
        for output in self._outputs:
            output.close()
        self._outputs.clear()

    def add_output(self, output: Output) -> None:
        """Send the stream here too, from now on."""
        self._outputs.append(output)

    def remove_output(self, output: Output) -> None:
        """Send no more of the stream here. The output is closed."""
        self._outputs.remove(output)
        output.close()

    def subscribe(self) -> Subscription:
        """The stream from now on, for a reader inside the program."""
        subscription = Subscription()
        self.add_output(subscription)
        return subscription

    def admit(self, newcomer: "EmmgConnection") -> str | None:
        """Take note that a stream has been set up. Returns why it cannot be, or None.

        An EMMG that has set up the same channel before is taken to have connected anew: its old connection is closed.
        """
        others = [one for one in self.connections if one is not newcomer and one.session.state is State.STREAM_OPEN]
        for old in [one for one in others if one.session.channel == newcomer.session.channel]:
            others.remove(old)
            old.close()
        if others and any(one.packet_mode for one in (newcomer, *others)):
            return "two streams cannot share the EMM PID when one of them brings its own packets"
        if not others:
            self.composer.purge()
        return None

    def regrant(self) -> None:
        """Let the EMM PID have what is granted to the EMMGs that are there."""
        granted_kbps = sum(one.session.allocated_kbps for one in self.connections)
        self.composer.emm_rate_bps = 1000 * min(self.bandwidth_kbps, granted_kbps)

    def take(self, connection: "EmmgConnection", datagrams: tuple[bytes, ...]) -> None:
        """Queue what an EMMG has sent."""
        if self.on_datagrams is not None:
            self.on_datagrams(datagrams)
        if connection.packet_mode:
            for datagram in datagrams:
                self.composer.put_packets(split_packets(datagram))
        else:
            self.composer.put_sections(datagrams)


class EmmgConnection(asyncio.Protocol):
    """One EMMG over TCP. Bytes in, bytes out; what they mean is the session's business."""

    def __init__(self, multiplexer: DemoMultiplexer) -> None:
        self._multiplexer = multiplexer
        self._transport: asyncio.Transport | None = None
        self.session = MuxSession(multiplexer.bandwidth_kbps)

    @property
    def packet_mode(self) -> bool:
        """Whether the EMMG brings transport packets, not sections."""
        channel = self.session.channel
        return channel is not None and channel.section_tspkt_flag == DataForm.TS_PACKET

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """An EMMG has connected. (asyncio sets TCP_NODELAY by itself.)"""
        self._transport = cast(asyncio.Transport, transport)
        self._multiplexer.connections.add(self)
        log.info("EMMG connected", peer=transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        """Take bytes of the EMMG."""
        self.session.receive(data, self._multiplexer.clock.monotonic())
        self._settle()

    def datagram_received(self, data: bytes) -> None:
        """Take a UDP packet; whether it belongs to this EMMG's stream is found out here."""
        self.session.receive_datagram(data)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The EMMG is gone; what it was granted is free again."""
        self.session.connection_lost()
        self._multiplexer.connections.discard(self)
        self._multiplexer.regrant()

    def test(self) -> None:
        """Ask the EMMG whether it is still there."""
        if self.session.state is State.STREAM_OPEN:
            self.session.test()
            self._settle()

    def allocate(self, bandwidth_kbps: int) -> None:
        """Grant another bandwidth from now on. The stream must be open."""
        self.session.allocate(bandwidth_kbps)
        self._settle()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _settle(self) -> None:
        for event in self.session.events():
            match event:
                case DataReceived():
                    self._on_data(event.datagrams)
                case StreamOpened():
                    if (refusal := self._multiplexer.admit(self)) is not None:
                        log.warning("EMMG refused", reason=refusal)
                        self.close()
                        return
                case BandwidthAsked():
                    log.info("bandwidth granted", asked=event.bandwidth_kbps, granted=self.session.allocated_kbps)
                case MessageRefused() | PeerError() | SessionClosed():
                    log.info("EMMG", what=event)
        self._multiplexer.regrant()
        outgoing = self.session.data_to_send()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(outgoing)
            if self.session.closed:
                self._transport.close()

    def _on_data(self, datagrams: tuple[bytes, ...]) -> None:
        if not self.packet_mode and not all(map(_is_section, datagrams)):
            log.warning("EMMG sent what is no section; hanging up", datagrams=len(datagrams))
            self.close()
            return
        try:
            self._multiplexer.take(self, datagrams)
        except DecodeError as error:
            log.warning("EMMG sent what are no packets; hanging up", reason=str(error))
            self.close()


class _UdpInput(asyncio.DatagramProtocol):
    """data_provision over UDP: it belongs to whichever EMMG has set up a stream with its ids."""

    def __init__(self, multiplexer: DemoMultiplexer) -> None:
        self._multiplexer = multiplexer

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take one UDP packet."""
        for connection in list(self._multiplexer.connections):
            connection.datagram_received(data)


def _is_section(datagram: bytes) -> bool:
    return len(datagram) >= SECTION_HEADER and section_size(datagram) == len(datagram)
