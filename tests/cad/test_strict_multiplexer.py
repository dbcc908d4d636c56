"""The judge is judged: the strict multiplexer refuses what it must refuse, and misbehaves as ordered."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.multiplexer import StrictMultiplexer

CHANNEL = struct.pack(">HHIHHH", 1, 4, 0x4AE60001, 3, 2, 5)
STREAM = CHANNEL + struct.pack(">HHH", 4, 2, 6)
DATA_ID = struct.pack(">HHH", 8, 2, 7)
SECTION = b"\x82\x70\x01x"


def raw(kind: int, body: bytes, version: int = 2) -> bytes:
    """One message by hand."""
    return struct.pack(">BHH", version, kind, len(body)) + body


def data(datagram: bytes, ids: bytes = STREAM + DATA_ID) -> bytes:
    """One data_provision by hand."""
    return raw(0x0211, ids + struct.pack(">HH", 5, len(datagram)) + datagram)


SET_UP = raw(0x0011, CHANNEL + b"\0\2\0\1\0")
STREAM_SET_UP = raw(0x0111, STREAM + DATA_ID + b"\0\7\0\1\0")
UNKNOWN_TYPE = raw(0x0999, CHANNEL)


class Client:
    """A plain TCP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *messages: bytes) -> None:
        self.writer.write(b"".join(messages))

    async def answer(self) -> tuple[int, int, bytes]:
        """The next message: version, type, body. IncompleteReadError when the connection is closed."""
        async with asyncio.timeout(5):
            version, kind, length = struct.unpack(">BHH", await self.reader.readexactly(5))
            return version, kind, await self.reader.readexactly(length)

    async def is_closed(self) -> bool:
        """Whether the multiplexer closes without another word."""
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


@asynccontextmanager
async def client(mux: StrictMultiplexer) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(mux.host, mux.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([data(SECTION)], id="data before channel_setup"),
        pytest.param([STREAM_SET_UP], id="stream before channel"),
        pytest.param([SET_UP, data(SECTION)], id="data before stream_setup"),
        pytest.param([SET_UP, SET_UP], id="second channel_setup"),
        pytest.param([SET_UP, STREAM_SET_UP, STREAM_SET_UP], id="second stream_setup"),
        pytest.param([SET_UP, STREAM_SET_UP, data(SECTION, STREAM + b"\0\x08\0\2\0\x09")], id="foreign data_id"),
        pytest.param([SET_UP, STREAM_SET_UP, data(SECTION + SECTION)], id="two sections in a datagram"),
        pytest.param([SET_UP, STREAM_SET_UP, data(b"")], id="empty datagram"),
    ],
)
async def test_state_errors_close_without_a_word(messages: list[bytes]) -> None:
    async with StrictMultiplexer() as mux, client(mux) as emmg:
        emmg.send(*messages)
        for _ in messages[:-1]:
            await emmg.answer()
        assert await emmg.is_closed()
        assert len(mux.faults) == 1
        assert mux.sections == []


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (UNKNOWN_TYPE, 0x03),
        (raw(0x0012, CHANNEL[:-1]), 0x01),
        (raw(0x0012, CHANNEL[:8]), 0x0C),
        (raw(0x0012, CHANNEL + b"\0\2\0\1\0"), 0x0A),
        (raw(0x0012, CHANNEL + b"\x80\0\0\0"), 0x0A),
        (raw(0x0012, CHANNEL + CHANNEL), 0x01),
        (raw(0x0012, CHANNEL[:8] + b"\0\3\0\1\5"), 0x0B),
        (raw(0x0011, CHANNEL + b"\0\2\0\1\2"), 0x0D),
        (raw(0x0011, CHANNEL + b"\0\2\0\1\0", version=7), 0x02),
    ],
)
async def test_syntax_errors_get_channel_error_with_client_id_0_and_the_third_closes(
    message: bytes, status: int
) -> None:
    async with StrictMultiplexer() as mux, client(mux) as emmg:
        emmg.send(message * 3)
        for _ in range(3):
            _, kind, body = await emmg.answer()
            assert kind == 0x0015
            assert body == struct.pack(">HHIHHHHHH", 1, 4, 0, 3, 2, 0, 0x7000, 2, status)
        assert await emmg.is_closed()


async def test_errors_are_not_answered() -> None:
    async with StrictMultiplexer() as mux, client(mux) as emmg:
        emmg.send(SET_UP, raw(0x0015, CHANNEL), raw(0x0012, CHANNEL))
        assert [(await emmg.answer())[1] for _ in range(2)] == [0x0013, 0x0013]
        assert mux.faults == ["message 0x0015: error_status 0x000C"]


async def test_a_second_client_hangs_until_the_first_is_gone() -> None:
    async with StrictMultiplexer() as mux, client(mux) as first:
        first.send(SET_UP)
        await first.answer()
        async with client(mux) as second:
            second.send(SET_UP)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second.reader.read(1), 0.2)


async def test_it_grants_at_most_what_it_has_and_tells_of_changes() -> None:
    async with StrictMultiplexer(100) as mux, client(mux) as emmg:
        emmg.send(SET_UP, STREAM_SET_UP, raw(0x0117, STREAM + b"\0\6\0\2\x01\x2c"))
        bodies = [(await emmg.answer())[2] for _ in range(3)]
        assert bodies[2][-2:] == (100).to_bytes(2, "big")
        mux.allocate(40)
        assert (await emmg.answer())[2][-2:] == (40).to_bytes(2, "big")
        emmg.send(data(SECTION))
        await mux.until(lambda: mux.sections == [SECTION])
