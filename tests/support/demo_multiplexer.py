"""A demo multiplexer that runs, EMMGs that feed it over real sockets, and a receiver behind it."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cad.demo.multiplexer import DemoMultiplexer
from cad.demo.receiver import Receiver, SectionFilter
from cad.demo.stream import StreamPlan
from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from protocol.mpegts.section import ShortSection, build_section
from protocol.simulcrypt.emmg_session import EmmgSession, EmmgSettings

CA, EMM_PID = 0x4ADC, 0x500
EVERYTHING = (SectionFilter(b"", b""),)


def emms(count: int, seed: int = 1) -> list[bytes]:
    source = random.Random(seed)
    return [build_section(ShortSection(0x82, source.randbytes(source.randint(14, 253)))) for _ in range(count)]


class Emmg:
    """An EMMG for tests: the headend's session over a plain connection."""

    def __init__(self, port: int, **settings: Any) -> None:
        ids = {"client_id": CA << 16, "data_channel_id": 1, "data_stream_id": 1, "data_id": 1}
        self.session = EmmgSession(EmmgSettings(**{**ids, "bandwidth_kbps": 500, **settings}))
        self.port = port

    async def connect(self) -> "Emmg":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.session.start(0.0)
        while not self.session.ready:
            await self.exchange()
        return self

    async def exchange(self) -> None:
        self.writer.write(self.session.data_to_send())
        async with asyncio.timeout(5):
            data = await self.reader.read(65536)
        assert data, "the multiplexer has hung up"
        self.session.receive(data, 0.0)
        self.writer.write(self.session.data_to_send())

    async def send(self, datagrams: list[bytes]) -> None:
        messages = self.session.provision(datagrams)
        if self.session.settings.data_over_udp:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                for message in messages:
                    udp.sendto(message, ("127.0.0.1", self.port))
        else:
            self.writer.write(b"".join(messages))
            await self.writer.drain()

    async def hung_up(self) -> bool:
        async with asyncio.timeout(5):
            while await self.reader.read(65536):
                pass
        return True

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


class Running:
    """A multiplexer that runs, and one receiver that takes every EMM."""

    def __init__(self, multiplexer: DemoMultiplexer, port: int) -> None:
        self.multiplexer, self.port = multiplexer, port
        self.subscription = multiplexer.subscribe()
        self.emms: list[bytes] = []
        self.receiver = Receiver(CA, self.emms.append, filters=EVERYTHING)
        self.clients: list[Emmg] = []

    async def emmg(self, **settings: Any) -> Emmg:
        client = Emmg(self.port, **settings)
        self.clients.append(client)
        return await client.connect()

    async def receive(self, count: int) -> list[bytes]:
        """Wait until so many EMMs have been heard; return them without repeats."""
        async with asyncio.timeout(10):
            while self.receiver.counts["EMMs heard"] < count:
                self.receiver.feed(await self.subscription.read())
        return self.emms


@asynccontextmanager
async def multiplexer_running(plan: StreamPlan, bandwidth_kbps: int) -> AsyncIterator[Running]:
    """A multiplexer that serves EMMGs and makes its stream until the block ends."""
    clock = SystemClock()
    multiplexer = DemoMultiplexer(plan, clock, bandwidth_kbps)
    running = Running(multiplexer, await multiplexer.start())
    supervisor = Supervisor(clock, random.Random(1).random)
    supervisor.start("stream", multiplexer.run)
    try:
        yield running
    finally:
        for client in running.clients:
            await client.close()
        stuck = supervisor.stuck()
        await supervisor.stop_all()
        await multiplexer.stop()
    assert stuck == []
