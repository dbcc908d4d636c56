"""A strict multiplexer for tests, written from the standard with plain struct: never with the code under test.

    async with StrictMultiplexer(bandwidth_kbps=100) as mux:
        ...                                  # connect to mux.host, mux.port (data over UDP: mux.udp_port)
        await mux.until(lambda: mux.sections)
        mux.allocate(50)                     # misbehave on order: see the methods and `Misbehaviour`

It answers errors as multiplexers do: syntax errors with channel_error (client_id 0), the third in a row closes; state
errors, wrong ids and data before stream_setup close without a word; an error is never answered. One EMMG is served, a
second one that connects hangs. Everything that arrives is recorded with its time.
"""

import asyncio
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.arrivals import Arrival, CostBits, mean_bps, payload_bits, worst_window_bps
from tests.support.multiplexer_grammar import (
    BANDWIDTH,
    BW_ALLOCATION,
    BW_REQUEST,
    CHANNEL_CLOSE,
    CHANNEL_ERROR,
    CHANNEL_ID,
    CHANNEL_IDS,
    CHANNEL_SETUP,
    CHANNEL_STATUS,
    CHANNEL_TEST,
    CLIENT_ID,
    CLOSE_REQUEST,
    CLOSE_RESPONSE,
    DATA_ID,
    DATA_PROVISION,
    DATAGRAM,
    ERROR_STATUS,
    FLAG,
    SIZES,
    STREAM_ERROR,
    STREAM_ID,
    STREAM_IDS,
    STREAM_SETUP,
    STREAM_STATUS,
    STREAM_TEST,
    BadStateError,
    BadSyntaxError,
    parse,
)
from tests.support.ts_sections import sections_of


@dataclass
class Misbehaviour:
    """What goes wrong on purpose. Change it at any time; it acts from the next message on."""

    silent: bool = False  # take everything, answer nothing
    silent_to: set[int] = field(default_factory=set)  # message types that get no answer
    fragment_s: float | None = None  # answers byte by byte, so many seconds apart
    deaf: bool = False  # do not even read
    close_on: set[int] = field(default_factory=set)  # close when one of these message types comes
    fail_with: dict[int, int] = field(default_factory=dict)  # message type → error_status of the answer
    allocation_lacks_bandwidth: bool = False
    user_parameters: bool = False  # add user-defined parameters to every answer
    refuse_connections: bool = False  # accept and close at once
    die_after_bytes: int | None = None  # take so many bytes more, wherever in a message they end, and be gone
    take_everybody: bool = False  # serve a second client like the first, as some do, instead of letting it hang


class StrictMultiplexer:
    """Listens on a free port of 127.0.0.1. `versions` are those it speaks; `client_id` None takes any."""

    def __init__(
        self, bandwidth_kbps: int = 1000, versions: tuple[int, ...] = (1, 2, 3, 4, 5), client_id: int | None = None
    ) -> None:
        self.bandwidth_kbps = bandwidth_kbps
        self.versions = versions
        self.client_id = client_id
        self.misbehave = Misbehaviour()
        self.arrivals: list[Arrival] = []
        self.messages: list[tuple[int, int]] = []  # (connection, message type), in the order of arrival
        self.errors_received: list[int] = []
        self.conversation: list[tuple[float, str, bytes]] = []  # (Unix time, "up" | "down", bytes), all connections
        self.udp_messages: list[tuple[float, bytes]] = []  # (Unix time, datagram)
        self.faults: list[str] = []
        self.connections = 0
        self.purged = 0  # how often a new connection has emptied the queue
        self.granted_kbps = 0
        self.host = "127.0.0.1"
        self.port = 0
        self.udp_port = 0
        self._served: Served | None = None
        self._hanging: list[asyncio.Transport] = []
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def listen(self) -> None:
        """Open the ports; after `stop` the same ones again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Served(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: Udp(self), (self.host, self.udp_port))
        self.udp_port = self._udp.get_extra_info("sockname")[1]

    async def stop(self) -> None:
        """Close all connections and ports, as a multiplexer that is switched off."""
        if self._server is None or self._udp is None:
            return
        self._server.close()
        self._udp.close()
        self.drop()
        for transport in self._hanging:
            transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)
        self._server = self._udp = None

    def die(self) -> None:
        """Be gone at once, ports and all; `stop` is still to be awaited."""
        if self._server is not None:
            self._server.close()
        self.drop()

    def go_dark(self) -> None:
        """Lose power: nothing is read or answered any more, nobody is told, and nobody can connect."""
        self.misbehave.deaf = self.misbehave.silent = True
        if self._served is not None and self._served.transport is not None:
            self._served.transport.pause_reading()
        if self._server is not None:
            self._server.close()

    # Orders.

    def drop(self) -> None:
        """Cut the connection that is being served."""
        if self._served is not None and self._served.transport is not None:
            self._served.transport.abort()

    def allocate(self, kbps: int, stated: bool = True) -> None:
        """Change the allocation now, and the most that is granted later."""
        self.bandwidth_kbps = self.granted_kbps = kbps
        if self._served is None:
            raise AssertionError("no EMMG is connected")
        self._served.answer(BW_ALLOCATION, self._served.ids(STREAM_IDS), [(BANDWIDTH, kbps)] if stated else [])

    def test(self) -> None:
        """Send channel_test and stream_test."""
        if self._served is None:
            raise AssertionError("no EMMG is connected")
        self._served.answer(CHANNEL_TEST, self._served.ids(CHANNEL_IDS))
        self._served.answer(STREAM_TEST, self._served.ids(STREAM_IDS))

    def say(self, data: bytes) -> None:
        """Send any bytes."""
        if self._served is None or self._served.transport is None:
            raise AssertionError("no EMMG is connected")
        self._served.transport.write(data)

    def resume(self) -> None:
        """Read again after having been deaf."""
        self.misbehave.deaf = False
        if self._served is not None and self._served.transport is not None:
            self._served.transport.resume_reading()

    # What came.

    @property
    def sections(self) -> list[bytes]:
        """All datagrams, in the order of arrival."""
        return [arrival.data for arrival in self.arrivals]

    @property
    def whole_sections(self) -> list[bytes]:
        """All sections, in the order of arrival, whether they came as such or in TS packets."""
        data = self.sections
        return sections_of(data) if data and data[0][0] == 0x47 else data

    @property
    def streaming(self) -> bool:
        """Whether an EMMG has an open stream and has been granted a rate."""
        return self._served is not None and self._served.stream is not None and self.granted_kbps > 0

    def types(self, connection: int | None = None) -> list[int]:
        """Message types in the order of arrival, of one connection or of all; data_provision is left out."""
        return [kind for number, kind in self.messages if kind != DATA_PROVISION and connection in (None, number)]

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until the condition holds; AssertionError with what is known if it does not in time."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                seen = ", ".join(f"0x{kind:04X}" for kind in self.types())
                raise AssertionError(f"not in {timeout_s} s; messages: {seen}; faults: {self.faults}")
            await asyncio.sleep(0.005)

    def worst_second_bps(self, cost_bits: CostBits = payload_bits) -> float:
        """The highest rate in any one second."""
        return worst_window_bps(self.arrivals, cost_bits)

    def mean_bps(self, since: float, until: float, cost_bits: CostBits = payload_bits) -> float:
        """The mean rate between two moments (time.monotonic)."""
        return mean_bps(self.arrivals, since, until, cost_bits)


class Served(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, mux: StrictMultiplexer) -> None:
        self.mux = mux
        self.transport: asyncio.Transport | None = None
        self.number = 0
        self.version = max(mux.versions)
        self.channel: dict[int, int] | None = None
        self.stream: dict[int, int] | None = None
        self._buffer = b""
        self._faults = 0
        self._trickle = b""
        self._answering = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        mux = self.mux
        mux.connections += 1
        self.number = mux.connections
        if mux.misbehave.refuse_connections:
            transport.abort()
            return
        if mux._served is not None and not mux.misbehave.take_everybody:
            # A second client is accepted by the kernel and then gets no answer at all.
            transport.pause_reading()
            mux._hanging.append(transport)
            return
        self.transport = transport
        mux._served = self
        mux.purged += 1
        if mux.misbehave.deaf:
            transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.mux._served is self:
            self.mux._served = None
            self.mux.granted_kbps = 0

    def data_received(self, data: bytes) -> None:
        mux = self.mux
        mux.conversation.append((time.time(), "up", data))
        if (left := mux.misbehave.die_after_bytes) is not None:
            data = data[:left]
            mux.misbehave.die_after_bytes = left - len(data)
        self._buffer += data
        while len(self._buffer) >= 5 and self.transport is not None and not self.transport.is_closing():
            size = 5 + int.from_bytes(self._buffer[3:5], "big")
            if len(self._buffer) < size:
                break
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            self._on_message(message)
        if mux.misbehave.die_after_bytes == 0:
            mux.die()
        if mux.misbehave.deaf and self.transport is not None:
            self.transport.pause_reading()

    def _on_message(self, message: bytes) -> None:
        mux = self.mux
        version, kind, _ = struct.unpack_from(">BHH", message)
        self._answering = kind
        try:
            if kind in mux.misbehave.close_on:
                raise BadStateError("told to close")
            fields = parse(message, mux.versions)
            self._faults = 0
            mux.messages.append((self.number, kind))
            if kind in mux.misbehave.fail_with:
                self.answer(
                    CHANNEL_ERROR, [(CLIENT_ID, 0), (CHANNEL_ID, 0), (ERROR_STATUS, mux.misbehave.fail_with[kind])]
                )
                return
            self._act(version, kind, fields)
        except BadSyntaxError as fault:
            mux.faults.append(f"message 0x{kind:04X}: error_status 0x{fault.status:04X}")
            self._faults += 1
            if kind not in (CHANNEL_ERROR, STREAM_ERROR):
                channel_id = self.channel[CHANNEL_ID] if self.channel else 0
                self.answer(CHANNEL_ERROR, [(CLIENT_ID, 0), (CHANNEL_ID, channel_id), (ERROR_STATUS, fault.status)])
            if self._faults == 3:
                self._close()
        except BadStateError as fault:
            mux.faults.append(f"message 0x{kind:04X}: {fault}")
            self._close()
        self._answering = 0

    def _act(self, version: int, kind: int, fields: dict[int, list[bytes]]) -> None:
        mux = self.mux
        given = {tag: int.from_bytes(values[0], "big") for tag, values in fields.items() if tag in SIZES}
        self._check_state(kind, given)
        if kind == CHANNEL_SETUP:
            if mux.client_id not in (None, given[CLIENT_ID]):
                self.answer(CHANNEL_ERROR, [(CLIENT_ID, 0), (CHANNEL_ID, given[CHANNEL_ID]), (ERROR_STATUS, 0x0E)])
                return
            self.version, self.channel = version, given
            self.answer(CHANNEL_STATUS, list(given.items()))
        elif kind == CHANNEL_TEST and self.channel:
            self.answer(CHANNEL_STATUS, list(self.channel.items()))
        elif kind == STREAM_SETUP:
            self.stream = given
            self.answer(STREAM_STATUS, list(given.items()))
        elif kind == STREAM_TEST and self.stream:
            self.answer(STREAM_STATUS, list(self.stream.items()))
        elif kind == BW_REQUEST:
            mux.granted_kbps = min(mux.bandwidth_kbps, given.get(BANDWIDTH, 0xFFFF))
            figure = [] if mux.misbehave.allocation_lacks_bandwidth else [(BANDWIDTH, mux.granted_kbps)]
            self.answer(BW_ALLOCATION, self.ids(STREAM_IDS), figure)
        elif kind == DATA_PROVISION:
            self._on_data(fields[DATAGRAM], "tcp")
        elif kind == CLOSE_REQUEST:
            self.answer(CLOSE_RESPONSE, self.ids(STREAM_IDS))
            self.stream = None
        elif kind == CHANNEL_CLOSE:
            self._close()
        elif kind in (CHANNEL_ERROR, STREAM_ERROR):
            mux.errors_received += [int.from_bytes(status, "big") for status in fields[ERROR_STATUS]]

    def _on_data(self, datagrams: list[bytes], over: str) -> None:
        """Take datagrams that are what the channel carries; anything else is a state fault."""
        now, number = time.monotonic(), len(self.mux.messages)
        for datagram in datagrams:
            if self.channel and self.channel[FLAG] == 0:
                if len(datagram) < 3 or (int.from_bytes(datagram[1:3], "big") & 0x0FFF) + 3 != len(datagram):
                    raise BadStateError("a datagram that is not exactly one section")
            elif not datagram or len(datagram) % 188 or set(datagram[::188]) != {0x47}:
                raise BadStateError("a datagram that is not TS packets")
            self.mux.arrivals.append(Arrival(now, datagram, over, self.number, number))

    def _check_state(self, kind: int, given: dict[int, int]) -> None:
        if self.channel is None and kind != CHANNEL_SETUP:
            raise BadStateError("before channel_setup")
        if self.channel is not None and kind == CHANNEL_SETUP:
            raise BadStateError("second channel_setup")
        needs_stream = kind in (STREAM_TEST, STREAM_STATUS, CLOSE_REQUEST, STREAM_ERROR, BW_REQUEST, DATA_PROVISION)
        if needs_stream and self.stream is None:
            raise BadStateError("before stream_setup")
        if kind == STREAM_SETUP and self.stream is not None:
            raise BadStateError("second stream_setup")
        for setup in (self.channel or {}, self.stream or {}):
            for tag in (CLIENT_ID, CHANNEL_ID, STREAM_ID, DATA_ID):
                if tag in setup and tag in given and setup[tag] != given[tag] and kind not in (CHANNEL_ERROR,):
                    raise BadStateError(f"parameter {tag} is {given[tag]}, set up was {setup[tag]}")

    def ids(self, tags: tuple[int, ...]) -> list[tuple[int, int]]:
        setup = self.stream or self.channel or {}
        return [(tag, setup.get(tag, 0)) for tag in tags]

    def answer(self, kind: int, *fields: list[tuple[int, int]]) -> None:
        """Send a message, unless told to be silent; in pieces, if told so."""
        mux = self.mux
        if mux.misbehave.silent or self._answering in mux.misbehave.silent_to or self.transport is None:
            return
        body = b"".join(
            struct.pack(">HH", tag, SIZES[tag]) + value.to_bytes(SIZES[tag], "big")
            for part in fields
            for tag, value in part
        )
        if mux.misbehave.user_parameters:
            body += struct.pack(">HH3s", 0x8001, 3, b"own") + struct.pack(">HH", 0xFFFE, 0)
        message = struct.pack(">BHH", self.version, kind, len(body)) + body
        if mux.misbehave.fragment_s is None:
            self._write(message)
        else:
            idle = not self._trickle
            self._trickle += message
            if idle:
                self._trickle_on()

    def _trickle_on(self) -> None:
        if self._trickle and self.transport is not None and not self.transport.is_closing():
            self._write(self._trickle[:1])
            self._trickle = self._trickle[1:]
            asyncio.get_running_loop().call_later(self.mux.misbehave.fragment_s or 0, self._trickle_on)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.mux.conversation.append((time.time(), "down", data))
            self.transport.write(data)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Udp(asyncio.DatagramProtocol):
    """The UDP input: data_provision for the open stream; what does not fit it is a fault, and dropped."""

    def __init__(self, mux: StrictMultiplexer) -> None:
        self.mux = mux

    def datagram_received(self, data: bytes, addr: object) -> None:
        served = self.mux._served
        if self.mux.misbehave.deaf:
            return
        self.mux.udp_messages.append((time.time(), data))
        try:
            fields = parse(data, tuple(version for version in self.mux.versions if version > 1))
            if served is None or served.stream is None or struct.unpack_from(">H", data, 1)[0] != DATA_PROVISION:
                raise BadStateError("not data for an open stream")
            if int.from_bytes(fields[DATA_ID][0], "big") != served.stream[DATA_ID]:
                raise BadStateError("foreign data_id")
            self.mux.messages.append((served.number, DATA_PROVISION))
            served._on_data(fields[DATAGRAM], "udp")
        except (BadSyntaxError, BadStateError) as fault:
            self.mux.faults.append(f"UDP: {fault}")
