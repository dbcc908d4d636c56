"""The ECMG on a real socket: whom it lets in, what it counts and reports, and how it ends."""

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from cad.frame.clock import SystemClock
from emm.ecm import parse_ecm
from tests.support.clock import ManualClock
from tests.support.ecmg import FILM, FREE, NETWORK, SPORT, ecmg_settings, running_ecmg
from tests.support.scrambler import CHANNEL_CLOSE, CHANNEL_ERROR, STREAM_ERROR, EcmgError, section_in

WORDS = {7: b"word--07", 8: b"word--08"}
CLIENTS = [
    {"id": "one", "address": "127.0.0.1", "connections_max": 2},
    {"id": "two", "address": "127.0.0.2", "super_cas_ids": [0x4A750001]},
]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("mode", ["section", "packet"])
async def test_a_scrambler_gets_its_ecms(version: int, mode: str) -> None:
    async with running_ecmg(mode=mode) as ecmg, ecmg.scrambler(version=version) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        before = int(SystemClock().now())
        for cp in (7, 8, 9):
            words = {cp: b"word--%02d" % cp, cp + 1: b"word--%02d" % (cp + 1)}
            ecm = await scs.order(1, cp, words, SPORT)
            section = ecm if mode == "section" else section_in(ecm)
            parsed = parse_ecm(section)
            assert (parsed.header.service_id, parsed.product_ids, parsed.word_count) == (101, (1, 2), 2)
            assert before <= parsed.header.time <= before + 5
        await scs.close_stream(1)


async def test_every_answer_leaves_at_once() -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        (connection,) = ecmg.server._connections
        assert connection._transport is not None
        plain = connection._transport.get_extra_info("socket")
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        (FREE, "in no product"),
        (bytes.fromhex("01 0001 0002 0068"), "no service 1/2/104"),
        (bytes.fromhex("02 0065 0001 0009"), "no product 9"),
        (bytes.fromhex("02 0099 0001"), "no service 153"),
        (b"", "empty"),
        (b"\xff" * 300, "begin with 01"),
    ],
)
async def test_unknown_access_criteria_get_an_error_and_no_ecm(criteria: bytes, words: str) -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        with pytest.raises(EcmgError) as refused:
            await scs.order(1, 7, WORDS, criteria)
        assert (refused.value.kind, refused.value.status, refused.value.information) == (STREAM_ERROR, 0x11, b"\0\x0d")
        assert words in ecmg.trouble()["local"]
        assert await scs.order(1, 7, WORDS, FILM)


async def test_products_can_be_named_themselves() -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        parsed = parse_ecm(await scs.order(1, 7, WORDS, bytes.fromhex("02 0065 0002 0001")))
        assert (parsed.header.service_id, parsed.product_ids) == (101, (1, 2))
        parsed = parse_ecm(await scs.order(1, 7, WORDS, bytes.fromhex("02 0000 0002")))
        assert (parsed.header.service_id, parsed.product_ids) == (0, (2,))


async def test_more_products_than_long_words_leave_room_for_are_refused() -> None:
    products = [{"id": f"p{number}", "product_id": number, "services": ["sport"]} for number in range(1, 12)]
    network = NETWORK.model_validate(NETWORK.model_dump() | {"products": products})
    async with running_ecmg(networks=(network,)) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        assert await scs.order(1, 7, WORDS, SPORT)
        with pytest.raises(EcmgError) as refused:
            await scs.order(1, 7, {7: bytes(16), 8: bytes(16)}, SPORT)
        assert refused.value.status == 0x11


class TestWhoMayConnect:
    """The allow-list by address and Super_CAS_id, and limits."""

    async def test_an_address_that_is_not_named_is_cut_without_a_word(self) -> None:
        async with running_ecmg(clients=CLIENTS) as ecmg:
            with capture_logs() as logs:
                for _ in range(3):
                    async with ecmg.scrambler(source="127.0.0.3") as scs:
                        assert await scs.ended()
            assert ecmg.metric("cad_ecmg_refusals_total", client="other", reason="address") == 3
            assert [entry["peer"] for entry in logs if "not in [[ecmg.clients]]" in entry["event"]] == ["127.0.0.3"]
            async with ecmg.scrambler() as scs:
                await scs.open_channel()

    async def test_each_scrambler_has_its_own_super_cas_ids(self) -> None:
        async with running_ecmg(clients=CLIENTS) as ecmg:
            async with ecmg.scrambler(source="127.0.0.2") as scs:
                with pytest.raises(EcmgError) as refused:
                    await scs.open_channel()
                assert (refused.value.kind, refused.value.status) == (CHANNEL_ERROR, 5)
            async with ecmg.scrambler(source="127.0.0.2", super_cas_id=0x4A750001) as scs:
                await scs.open_channel()
            assert ecmg.metric("cad_ecmg_refusals_total", client="two", reason="inv_super_cas_id") == 1
            assert "0x4A750001" in ecmg.trouble()["two"]

    async def test_connections_are_limited_for_each_scrambler_by_itself(self) -> None:
        async with (
            running_ecmg(clients=CLIENTS) as ecmg,
            ecmg.scrambler() as first,
            ecmg.scrambler(channel_id=2) as second,
        ):
            await first.open_channel()
            await second.open_channel()
            async with ecmg.scrambler(channel_id=3) as third:
                assert await third.ended()
            async with ecmg.scrambler(source="127.0.0.2", super_cas_id=0x4A750001, channel_id=4) as other:
                await other.open_channel()
            assert ecmg.metric("cad_ecmg_refusals_total", client="one", reason="connections") == 1
            assert "more than 2 connections" in ecmg.trouble()["one"]

    async def test_a_second_scrambler_with_ids_in_use_is_refused_and_reported(self) -> None:
        async with running_ecmg() as ecmg, ecmg.scrambler() as first, ecmg.scrambler() as second:
            await first.open_channel()
            await first.open_stream(1)
            with capture_logs() as logs, pytest.raises(EcmgError) as refused:
                await second.open_channel()
            assert refused.value.status == 0x13
            assert [entry["reason"] for entry in logs if entry["event"] == "a scrambler is refused"] == [
                "channel_id_in_use"
            ]
            assert ecmg.metric("cad_ecmg_refusals_total", client="local", reason="channel_id_in_use") == 1
            assert "channel 1 is in use" in ecmg.trouble()["local"]
            assert await first.order(1, 7, WORDS, SPORT)

    async def test_the_setting_that_tolerates_it(self) -> None:
        async with (
            running_ecmg(ids_in_use="tolerate") as ecmg,
            ecmg.scrambler() as first,
            ecmg.scrambler() as second,
        ):
            for scs in (first, second):
                await scs.open_channel()
                await scs.open_stream(1)
                assert await scs.order(1, 7, WORDS, SPORT)
            assert ecmg.trouble() == {}


async def test_what_it_counts_and_shows() -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler(channel_id=9) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        await scs.open_stream(2)
        for cp in (7, 7, 7):
            await scs.order(1, cp, WORDS, SPORT)
        ecmg.server._count()
        assert ecmg.metric("cad_ecms_total", client="local") == 3
        assert ecmg.metric("cad_ecmg_channels", client="local") == 1
        assert ecmg.metric("cad_ecmg_streams", client="local") == 2
        assert ecmg.metric("cad_ecmg_connects_total", client="local") == 1
        assert ecmg.metric("cad_ecm_turn_seconds_count") == 3
        facts = ecmg.server.facts()
        assert (facts["connections"], facts["streams"]) == (1, 2)
        (row,) = facts["scramblers"]
        assert {name: row[name] for name in ("scrambler", "peer", "channel", "streams", "ecms")} == {
            "scrambler": "local",
            "peer": "127.0.0.1",
            "channel": 9,
            "streams": 2,
            "ecms": 3,
        }
        scs.writer.close()
        await settle()
        ecmg.server._count()
        assert ecmg.metric("cad_ecmg_streams", client="local") == 0
        assert ecmg.server.facts()["scramblers"] == []


async def test_a_refusal_is_over_after_a_minute() -> None:
    clock = ManualClock()
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        with pytest.raises(EcmgError):
            await scs.order(1, 7, WORDS, SPORT)
        assert set(ecmg.trouble()) == {"local"}
        await clock.advance(30)
        assert set(ecmg.trouble()) == {"local"}
        await clock.advance(31)
        assert ecmg.trouble() == {}


async def test_the_same_refusal_is_logged_every_ten_seconds() -> None:
    clock = ManualClock()
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        with capture_logs() as logs:
            for _ in range(40):
                with pytest.raises(EcmgError):
                    await scs.order(1, 7, WORDS, SPORT)
            await clock.advance(11)
            with pytest.raises(EcmgError):
                await scs.order(1, 7, WORDS, SPORT)
        refused = [entry for entry in logs if entry["event"] == "a scrambler is refused"]
        assert [entry.get("not_logged") for entry in refused] == [None, 39]


async def test_a_silent_connection_is_closed_and_a_silent_channel_tested() -> None:
    clock = ManualClock()
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as idle, ecmg.scrambler() as silent:
        await silent.open_channel()
        await clock.advance(11)
        assert await idle.ended()
        await clock.advance(30)
        kind, _ = await silent.hear()
        assert kind == 2
        await clock.advance(11)
        assert await silent.ended()
        await settle()
        assert ecmg.server.connections == 0


async def test_the_orderly_end_closes_channels() -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await ecmg.server.stop()
        kind, _ = await scs.hear()
        assert kind == CHANNEL_CLOSE
        assert await scs.ended()
        with pytest.raises(OSError, match="Connect call failed"):
            async with ecmg.scrambler():
                pass
        assert ecmg.supervisor.names() == []


async def test_the_end_does_not_wait_for_a_scrambler_that_hangs() -> None:
    async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        scs.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            await ecmg.server.stop()
        assert ecmg.server.connections == 0


class TestReload:
    """Settings that are loaded anew."""

    async def test_services_and_products_count_at_once(self) -> None:
        async with running_ecmg() as ecmg, ecmg.scrambler() as scs:
            await scs.open_channel()
            await scs.open_stream(1)
            assert parse_ecm(await scs.order(1, 7, WORDS, SPORT)).product_ids == (1, 2)
            products = [{"id": "sport", "product_id": 1, "services": ["sport"]}]
            less = NETWORK.model_validate(NETWORK.model_dump() | {"products": products})
            ecmg.server.follow(ecmg_settings(), (less,))
            assert parse_ecm(await scs.order(1, 7, WORDS, SPORT)).product_ids == (1,)
            with pytest.raises(EcmgError):
                await scs.order(1, 7, WORDS, FILM)

    async def test_an_open_channel_keeps_its_form(self) -> None:
        async with running_ecmg() as ecmg, ecmg.scrambler() as scs, ecmg.scrambler(channel_id=2) as later:
            await scs.open_channel()
            await scs.open_stream(1)
            ecmg.server.follow(ecmg_settings(mode="packet"), (NETWORK,))
            assert len(await scs.order(1, 7, WORDS, SPORT)) < 188
            # What connected before is served as before.
            await later.open_channel()
            async with ecmg.scrambler(channel_id=3) as new:
                await new.open_channel()
                await new.open_stream(3)
                assert len(await new.order(3, 7, WORDS, SPORT)) == 188

    async def test_a_scrambler_that_is_no_longer_named_is_let_go(self) -> None:
        async with running_ecmg(clients=CLIENTS) as ecmg, ecmg.scrambler() as scs:
            await scs.open_channel()
            ecmg.server.follow(ecmg_settings(clients=CLIENTS[1:]), (NETWORK,))
            assert (await scs.hear())[0] == CHANNEL_CLOSE
            assert await scs.ended()
            await settle()
            text = ecmg.metrics.render().decode()
            assert 'client="one"' not in text
            assert ecmg.server.connections == 0
