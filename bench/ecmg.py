"""How fast the ECMG answers: the daemon's own server in a process of its own, asked over TCP by a client in this one.

The client is a socket and struct, so that most of the time measured is the server's. One at a time: the next order goes
out when the ECM has come. The same with an event loop that only echoes says what machine and Python leave room for.
5,000 streams: each orders an ECM once in every crypto-period of 1 s, at a moment of its own.
"""

import asyncio
import multiprocessing
import select
import socket
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from random import Random
from time import perf_counter, sleep
from typing import Final

from cad.ecmg.server import EcmgServer
from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from config.ecmg import EcmgSettings
from config.settings import NetworkSettings
from emm.calendar import Calendar
from emm.ecm import EcmSealer
from emm.keys import KeyLadder, LocalMasterKey

AIMS: Final = {
    "ecm_per_s_one_at_a_time": (10_000.0, "min"),
    "ecm_ms_p99": (1.0, "max"),
    "ecm_ms_mean_5000_streams": (3.6, "max"),
    "ecm_ms_worst_5000_streams": (51.0, "max"),
}

SECONDS: Final = 3.0
PERIODS: Final = 5
STREAMS: Final = 5000
ORDER_BYTES: Final = 62
ANSWER_BYTES: Final = 127
SUPER_CAS_ID: Final = 0x4A750000
CRITERIA: Final = bytes.fromhex("01 0001 0001 0065")
CHANNEL_SETUP, STREAM_SETUP, CW_PROVISION, ECM_RESPONSE = 0x0001, 0x0101, 0x0201, 0x0202
_SERVICE: Final = {
    "id": "sport",
    "name": "Sport",
    "original_network_id": 1,
    "transport_stream_id": 1,
    "service_id": 101,
}
_PRODUCTS: Final = [{"id": f"p{number}", "product_id": number, "services": ["sport"]} for number in (1, 2, 3)]


def run(seed: int = 1) -> dict[str, float]:
    """Measure for some seconds: the answer to one order at a time, then with 5,000 streams."""
    with serving() as (port, echo_port):
        echoes = echoed(echo_port)
        times = one_at_a_time(port)
        busy = many_streams(port, Random(seed))
    return {
        "echoes_per_s_one_at_a_time": len(echoes) / sum(echoes),
        "ecm_per_s_one_at_a_time": len(times) / sum(times),
        "ecm_ms_p50": _ms(times, 0.5),
        "ecm_ms_p99": _ms(times, 0.99),
        "ecm_ms_mean_5000_streams": 1000 * sum(busy) / len(busy),
        "ecm_ms_p99_5000_streams": _ms(busy, 0.99),
        "ecm_ms_worst_5000_streams": 1000 * max(busy),
    }


def one_at_a_time(port: int) -> list[float]:
    """The seconds from each order to its ECM."""
    with Scrambler(port, channel_id=1) as scs:
        scs.open_streams(1)
        for _ in range(2000):
            scs.order(0, 7)
            scs.answer()
        times: list[float] = []
        end = perf_counter() + SECONDS
        while (began := perf_counter()) < end:
            scs.order(0, 7)
            scs.answer()
            times.append(perf_counter() - began)
    return times


def echoed(port: int) -> list[float]:
    """The seconds from bytes as many as an order has to as many as an ECM_response has."""
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = perf_counter() + SECONDS
        while (began := perf_counter()) < end:
            client.sendall(bytes(ORDER_BYTES))
            client.recv(4096)
            times.append(perf_counter() - began)
    return times


def many_streams(port: int, random: Random) -> list[float]:
    """The same with STREAMS streams in one channel, after a crypto-period to warm up."""
    moments = sorted((random.random(), stream) for stream in range(STREAMS))
    times: list[float] = []
    with Scrambler(port, channel_id=2) as scs:
        scs.open_streams(STREAMS)
        waiting: deque[tuple[int, float]] = deque()
        start = perf_counter()
        for period in range(PERIODS + 1):
            for moment, stream in moments:
                due = start + period + moment
                while (left := due - perf_counter()) > 0:
                    _collect(scs, waiting, times if period else [], left)
                waiting.append((stream, perf_counter()))
                scs.order(stream, period)
                _collect(scs, waiting, times if period else [], 0)
        while waiting:
            _collect(scs, waiting, times, 1)
    return times


def _collect(scs: "Scrambler", waiting: deque[tuple[int, float]], times: list[float], patience_s: float) -> None:
    """Take what has come within that time; answers come in the order of the orders."""
    for stream in scs.answers(patience_s):
        ordered, sent = waiting.popleft()
        assert ordered == stream
        times.append(perf_counter() - sent)


class Scrambler:
    """One connection with one channel; streams count from 0."""

    def __init__(self, port: int, channel_id: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._channel_id = channel_id
        self._held = b""

    def __enter__(self) -> "Scrambler":
        self._say(CHANNEL_SETUP, struct.pack(">HHHHHI", 0x0E, 2, self._channel_id, 1, 4, SUPER_CAS_ID))
        assert self._hear() == 0x0003
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def open_streams(self, count: int) -> None:
        """Set up streams; ECM ids differ from those of other channels."""
        for stream in range(count):
            ids = (0x0E, 2, self._channel_id, 0x0F, 2, stream, 0x19, 2, 10_000 * self._channel_id + stream, 0x10, 2, 10)
            self._say(STREAM_SETUP, struct.pack(">12H", *ids))
            assert self._hear() == 0x0103

    def order(self, stream: int, cp_number: int) -> None:
        """Send a CW_provision with the words of this crypto-period and the next."""
        head = struct.pack(">9H", 0x0E, 2, self._channel_id, 0x0F, 2, stream, 0x12, 2, cp_number)
        words = struct.pack(">HHH8sHHH8s", 0x14, 10, cp_number, b"word-one", 0x14, 10, cp_number + 1, b"word-two")
        self._say(CW_PROVISION, head + words + struct.pack(">HH", 0x0D, len(CRITERIA)) + CRITERIA)

    def answer(self) -> None:
        """Wait for one ECM."""
        assert self._hear() == ECM_RESPONSE

    def answers(self, patience_s: float) -> Iterator[int]:
        """Yield the streams whose ECMs have come within that time."""
        if not select.select([self._socket], [], [], patience_s)[0]:
            return
        self._held += self._socket.recv(65536)
        at = 0
        while len(self._held) - at >= 5:
            kind, size = struct.unpack_from(">xHH", self._held, at)
            if len(self._held) - at < 5 + size:
                break
            assert kind == ECM_RESPONSE
            yield struct.unpack_from(">H", self._held, at + 15)[0]
            at += 5 + size
        self._held = self._held[at:]

    def _say(self, kind: int, body: bytes) -> None:
        self._socket.sendall(struct.pack(">BHH", 3, kind, len(body)) + body)

    def _hear(self) -> int:
        data = self._socket.recv(4096)
        while len(data) < 5 or len(data) < 5 + (data[3] << 8 | data[4]):
            data += self._socket.recv(4096)
        return data[1] << 8 | data[2]


class Echo(asyncio.BufferedProtocol):
    """What is left of a server that does nothing."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(8192))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Answer."""
        assert self._transport is not None
        self._transport.write(bytes(ANSWER_BYTES))


@contextmanager
def serving() -> Iterator[tuple[int, int]]:
    """Run the ECMG in a process of its own; yields its port, and that of an echo in the same process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise RuntimeError("the ECMG of the measurement did not start")
        ports: tuple[int, int] = ours.recv()
        sleep(0.2)
        yield ports
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection) -> None:
    asyncio.run(_serve_until_killed(told))


async def _serve_until_killed(told: Connection) -> None:
    clock = SystemClock()
    metrics = Metrics()
    settings = EcmgSettings.model_validate(
        {"listen": "127.0.0.1:1", "super_cas_id": SUPER_CAS_ID, "min_cp_duration_s": 1.0, "streams_max": STREAMS}
        | {"total_streams_max": 2 * STREAMS}
    )
    network = NetworkSettings.model_validate({"id": "net", "services": [_SERVICE], "products": _PRODUCTS})
    server = EcmgServer(
        settings,
        (network,),
        EcmSealer(KeyLadder(LocalMasterKey(bytes(range(32))))),
        Calendar(),
        clock,
        metrics,
        Health(clock, metrics, expected=()),
        Supervisor(clock, jitter=lambda: 0.5),
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await server.start(listener)
    echo = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    told.send((listener.getsockname()[1], echo.sockets[0].getsockname()[1]))
    await asyncio.Event().wait()


def _ms(times: list[float], share: float) -> float:
    return 1000 * sorted(times)[int(share * (len(times) - 1))]
