"""Scramblers that misbehave, on real sockets: each gets the standard's answer, and a good one beside it its ECMs."""

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from cad.ecmg.connection import STALLED_MAX_S, UNREAD_MAX_BYTES
from cad.ecmg.server import PIECE_BYTES
from tests.support.clock import ManualClock
from tests.support.ecmg import SPORT, RunningEcmg, running_ecmg
from tests.support.scrambler import (
    CHANNEL_ERROR,
    CHANNEL_ID,
    CHANNEL_TEST,
    CP_NUMBER,
    CW_PROVISION,
    ECM,
    ECM_RESPONSE,
    STREAM_ERROR,
    STREAM_ID,
    STREAM_STATUS,
    EcmgError,
    StrictScrambler,
    message,
    parse,
)

WORDS = {7: b"word--07", 8: b"word--08"}
UNKNOWN_MESSAGE = bytes.fromhex("03 0999 0000")


@pytest.fixture
async def ecmg() -> AsyncIterator[RunningEcmg]:
    async with running_ecmg(streams_max=6000, total_streams_max=6000) as running:
        yield running


@pytest.fixture
async def good(ecmg: RunningEcmg) -> AsyncIterator[StrictScrambler]:
    """A scrambler that works, before and after whatever another one does."""
    async with ecmg.scrambler(channel_id=100) as scs:
        await scs.open_channel()
        await scs.open_stream(100)
        await scs.order(100, 7, WORDS, SPORT)
        yield scs
        await scs.order(100, 7, WORDS, SPORT)


def orders(scs: StrictScrambler, streams: range, cp: int = 7) -> bytes:
    """The orders for these streams, in one piece."""
    words = {cp: b"word--07", cp + 1: b"word--08"}
    return b"".join(
        message(scs.version, CW_PROVISION, scs.order_fields(stream, cp, words, SPORT)) for stream in streams
    )


async def test_fragments_of_one_byte(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        for byte in orders(scs, range(1, 2)):
            scs.writer.write(bytes([byte]))
            await asyncio.sleep(0)
            await good.order(100, 7, WORDS, SPORT)
        kind, fields = await scs.hear()
        assert (kind, fields[CP_NUMBER]) == (ECM_RESPONSE, [7])


async def test_three_bad_messages_in_a_row(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        scs.raw(UNKNOWN_MESSAGE * 5)
        for _ in range(3):
            kind, fields = await scs.hear()
            assert (kind, fields[0x7000]) == (CHANNEL_ERROR, [3])
        assert await scs.ended()


async def test_data_before_set_up_and_wrong_ids(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        with pytest.raises(EcmgError, match="0x0106, error_status 0x0006"):
            await scs.order(1, 7, WORDS, SPORT)
        await scs.open_channel()
        with pytest.raises(EcmgError, match="0x0106, error_status 0x0007"):
            await scs.order(1, 7, WORDS, SPORT)
        await scs.open_stream(1)
        scs.channel_id = 100
        with pytest.raises(EcmgError, match="0x0106, error_status 0x0006"):
            await scs.order(100, 7, WORDS, SPORT)
        scs.channel_id = 1
        assert await scs.order(1, 7, WORDS, SPORT)


@pytest.mark.parametrize("kind", [CHANNEL_TEST, CW_PROVISION, 0x0999])
async def test_bodies_of_65535_bytes(ecmg: RunningEcmg, good: StrictScrambler, kind: int) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        body = message(3, CHANNEL_TEST, [(CHANNEL_ID, 1)])[5:]
        body += b"\x80\x01" + (0xFFFF - len(body) - 4).to_bytes(2, "big")
        body = body.ljust(0xFFFF, b"\0")
        for _ in range(2):
            scs.raw(b"\x03" + kind.to_bytes(2, "big") + b"\xff\xff" + body)
            status, fields = await scs.hear()
            assert (status, fields[0x7000]) == (CHANNEL_ERROR, [4])
        assert await scs.order(1, 7, WORDS, SPORT)


async def test_unknown_and_user_defined_parameters(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        fields = scs.order_fields(1, 7, WORDS, SPORT)
        scs.send(CW_PROVISION, [(0x9000, b"of the vendor"), *fields, (0xFFFF, b"")])
        assert (await scs.hear())[0] == ECM_RESPONSE
        scs.send(CW_PROVISION, [*fields, (0x0077, b"")])
        kind, error = await scs.hear()
        assert (kind, error[STREAM_ID], error[0x7000], error[0x7001]) == (STREAM_ERROR, [1], [0x0E], [b"\0\x77"])


async def test_pipelined_orders_are_answered_in_their_order(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        for stream in range(20):
            await scs.open_stream(stream)
        scs.raw(orders(scs, range(20)) * 20)
        for number in range(400):
            kind, fields = await scs.hear()
            assert (kind, fields[STREAM_ID]) == (ECM_RESPONSE, [number % 20])
            if number % 50 == 0:
                await good.order(100, 7, WORDS, SPORT)


async def test_a_half_open_connection_and_one_that_ends_in_the_middle(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        scs.raw(b"\x03\x02")
        scs.writer.write_eof()
        assert await scs.ended()
    async with ecmg.scrambler() as scs:
        await scs.open_channel()
        scs.raw(orders(scs, range(50))[:-3])
        scs.writer.transport.abort()
    async with asyncio.timeout(5):
        while ecmg.server.connections > 1:
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_scrambler_that_takes_no_answers_is_read_no_more_and_cut_off() -> None:
    clock = ManualClock()
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler(channel_id=2) as beside, ecmg.scrambler() as scs:
        await beside.open_channel()
        await beside.open_stream(9)
        await scs.open_channel()
        await scs.open_stream(1)
        plain = scs.writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scs.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (stuck,) = [one for one in ecmg.server._connections if one.session.streams and one.session.channel_id == 1]
        assert stuck._transport is not None
        async with asyncio.timeout(20):
            while stuck._transport.is_reading():
                if scs.writer.transport.get_write_buffer_size() < 100_000:
                    scs.writer.write(orders(scs, range(1, 2)) * 500)
                await asyncio.sleep(0)
        assert stuck._transport.get_write_buffer_size() < UNREAD_MAX_BYTES + 2 * PIECE_BYTES
        ecms = stuck.session.ecms
        await asyncio.sleep(0.05)
        assert stuck.session.ecms == ecms
        assert await beside.order(9, 7, WORDS, SPORT)
        await clock.advance(STALLED_MAX_S + 2)
        await asyncio.sleep(0.05)
        assert ecmg.server.connections == 1
        assert await beside.order(9, 7, WORDS, SPORT)


@pytest.mark.slow
async def test_five_thousand_streams(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    async with ecmg.scrambler(patience_s=60) as scs:
        await scs.open_channel()
        ids = range(5000)
        for first in range(0, 5000, 500):
            scs.raw(b"".join(setup(stream) for stream in ids[first : first + 500]))
            for stream in ids[first : first + 500]:
                kind, fields = await scs.hear()
                assert (kind, fields[STREAM_ID]) == (STREAM_STATUS, [stream])
        await good.order(100, 7, WORDS, SPORT)
        scs.raw(orders(scs, ids))
        ecms = set()
        for stream in ids:
            kind, fields = await scs.hear()
            assert (kind, fields[STREAM_ID]) == (ECM_RESPONSE, [stream])
            ecms.add(fields[ECM][0])
        assert len(ecms) == 5000  # a session key of its own in each
        assert ecmg.server.facts()["streams"] == 5001


def setup(stream: int) -> bytes:
    return message(3, 0x101, [(CHANNEL_ID, 1), (STREAM_ID, stream), (0x19, 10_000 + stream), (0x10, 100)])


@pytest.mark.slow
async def test_messages_that_never_end_hold_no_more_than_one_message_each() -> None:
    peers = 50
    async with running_ecmg(message_bytes_max=8192) as ecmg, contextlib.AsyncExitStack() as stack:
        tracemalloc.start()
        try:
            for number in range(peers):
                scs = await stack.enter_async_context(ecmg.scrambler(channel_id=number))
                await scs.open_channel()
                scs.raw(message(3, CHANNEL_TEST, [(CHANNEL_ID, number)]) + b"\x03\x02\x01\x1f\x00" + bytes(7000))
                await scs.hear()
            assert len(ecmg.server._connections) == peers
            assert all(one.session._splitter.pending <= 8192 for one in ecmg.server._connections)
            # Of messages that are too long nothing is held at all.
            endless = await stack.enter_async_context(ecmg.scrambler(channel_id=peers))
            await endless.open_channel()
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(2):
                endless.writer.write(b"\x03\x02\x01\xff\xff")
                for _ in range(64):
                    endless.writer.write(bytes(1023))
                    await endless.writer.drain()
                    await asyncio.sleep(0)
                endless.writer.write(bytes(63))
                assert (await endless.hear())[1][0x7000] == [4]
            after, _ = tracemalloc.get_traced_memory()
            assert after - before < 50_000
            endless.raw(message(3, CHANNEL_TEST, [(CHANNEL_ID, peers)]))
            assert (await endless.hear())[0] == 3
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("flood", [b"\0", b"\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_garbage_of_other_protocols(ecmg: RunningEcmg, good: StrictScrambler, flood: bytes) -> None:
    async with ecmg.scrambler() as scs:
        try:
            for _ in range(20):
                scs.writer.write(flood * 5000)
                await scs.writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        await good.order(100, 7, WORDS, SPORT)


@pytest.mark.slow
async def test_a_thousand_connections_one_after_the_other(ecmg: RunningEcmg, good: StrictScrambler) -> None:
    for _ in range(1000):
        _, writer = await asyncio.open_connection("127.0.0.1", ecmg.port)
        writer.transport.abort()
    await good.order(100, 7, WORDS, SPORT)
    async with asyncio.timeout(5):
        while ecmg.server.connections > 1:
            await asyncio.sleep(0.01)


def test_the_strict_scrambler_sees_what_is_wrong() -> None:
    right = message(3, STREAM_STATUS, [(CHANNEL_ID, 1), (STREAM_ID, 1), (0x19, 1), (0x11, 1)])
    assert parse(right)[0] == STREAM_STATUS
    for wrong in (
        message(3, STREAM_STATUS, [(CHANNEL_ID, 1), (STREAM_ID, 1), (0x19, 1)]),
        message(3, STREAM_STATUS, [(CHANNEL_ID, 1), (CHANNEL_ID, 1), (STREAM_ID, 1), (0x19, 1), (0x11, 1)]),
        message(3, STREAM_STATUS, [(CHANNEL_ID, 1), (STREAM_ID, 1), (0x19, 1), (0x11, 1), (0x8000, b"")]),
        message(3, CW_PROVISION, [(CHANNEL_ID, 1)]),
        right[:-1],
    ):
        with pytest.raises(AssertionError):
            parse(wrong)
