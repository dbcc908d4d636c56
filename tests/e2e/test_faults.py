"""What goes wrong around the daemon: it stays up, says so, also in explain (X5), and goes on when it is mended."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cad.frame.clock import spell
from emm.message import parse_emm
from emm.pacer import cost_bits
from tests.support.broker import Authority
from tests.support.headend import FIRST, MULTIPLEX, Headend, headend
from tests.support.multiplexer import StrictMultiplexer
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        yield one


async def committed(kaisa: Portal, resource: str, verb: str, **body: Any) -> dict[str, Any]:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply
    return reply


async def set_up(kaisa: Portal, *numbers: str) -> None:
    names = {"fi": "Urheilu"}
    await committed(kaisa, "offer", "put", offer="sport", rev=1, kind="channel", names=names, products=["sport"])
    for number in numbers:
        await committed(kaisa, "card", "assign", card=number, rev=1, subscriber="customer")


async def broken(one: Headend, name: str) -> str:
    """What a condition says that does not hold; empty when it holds."""
    conditions = (await one.ask("/v1/status")).json()["health"]["conditions"]
    return next((c["text"] for c in conditions if c["name"] == name and not c["ok"]), "")


async def test_the_broker_goes_away_and_comes_back(one: Headend) -> None:
    await one.start()
    mine = one.card(FIRST["kaisa"])
    async with portal(one.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
    one.broker.kill()

    async def said() -> str:
        return await broken(one, "broker")

    await one.until(said, "the broker's loss to be told")
    assert (await one.ask("/readyz")).status_code == 503
    assert (await one.ask("/livez")).status_code == 200
    one.broker.start()
    await one.until(one.is_ready, "the daemon to find the broker again", 60)
    async with portal(one.broker, "kaisa") as kaisa:
        await committed(kaisa, "subscription", "put", subscription="s", rev=1, card=mine.number, offer="sport")
        await one.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")


async def test_a_broker_with_a_strange_certificate_is_not_believed(one: Headend, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "somebody else")
    right = one.broker.authority.ca_file
    one.write_settings(lambda text: text.replace(str(right), str(stranger.ca_file)))
    one.spawn()

    async def said() -> str:
        with_daemon = (one.folder / "s").exists()
        return await broken(one, "broker") if with_daemon else ""

    async def told() -> bool:
        return "CERTIFICATE_VERIFY_FAILED" in await said()

    await one.until(told, "the reason to be told", 30)
    assert "mqtt.tls.ca_file" in await said()
    stranger.ca_file.write_bytes(right.read_bytes())
    await one.until(one.is_ready, "the daemon to go on by itself", 90)


async def test_the_multiplexer_restarts_and_hears_everything_again(one: Headend) -> None:
    await one.start()
    mux = one.multiplexers[0]
    mine = one.card(FIRST["kaisa"])
    async with portal(one.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        await mux.stop()
        reply = await committed(kaisa, "subscription", "put", subscription="s", rev=1, card=mine.number, offer="sport")
        assert reply["on_air_by"] is None
        assert "mux-0" in reply["detail"]
        assert await broken(one, "link")
        explained = (await one.ask(f"/v1/explain/{mine.number}", channel="sport-1")).json()
        assert explained["channel"]["code"] == "not_connected"
        await mux.listen()
        await kaisa.until(lambda heard: heard.topic.endswith("/on-air") and heard.payload["revision"] >= 2, 60)
        await one.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
    assert mux.faults == []


def make_old(ledger: Path) -> None:
    """Let all that the ledger has be two hours older: then a start of the daemon takes no card as just changed."""
    with contextlib.closing(sqlite3.connect(ledger)) as held, held:
        held.execute("UPDATE changes SET at = at - 7200, done_at = done_at - 7200")
        held.execute("UPDATE airs SET at = at - 7200")


async def test_a_daemon_that_starts_alone_claims_no_transmission(one: Headend) -> None:
    """`explain` says what was sent, not what the carousel reckons with."""
    await one.start()
    (mux,) = one.multiplexers
    mine = one.card(FIRST["kaisa"])

    async def explained() -> dict[str, Any]:
        answer = await one.ask(f"/v1/explain/{mine.number}", channel="sport-1")
        found: dict[str, Any] = answer.json()
        return found["channel"] | found["on_air"][0]

    async def becomes(code: str) -> dict[str, Any] | None:
        try:
            found = await explained()
        except httpx.HTTPError:
            return None
        return found if found["code"] == code else None

    async with portal(one.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        await committed(kaisa, "subscription", "put", subscription="s", rev=1, card=mine.number, offer="sport")
        before = await one.until(lambda: becomes("visible"), "the channel to be visible", 60)
    assert before["first_sent_at"] <= before["last_sent_at"]
    assert await one.stop() == 0
    await mux.stop()
    make_old(one.folder / "state" / "ledger.db")
    one.spawn()

    alone = await one.until(lambda: becomes("not_connected"), "the daemon to answer", 120)
    assert (alone["connected"], alone["ring"], alone["visible"]) == (False, "base", False)
    assert (alone["last_sent_at"], alone["last_sent_ago_s"], alone["next_by"]) == (None, None, None)
    assert alone["first_sent_at"] is not None
    assert alone["first_sent_at"] < before["first_sent_at"]
    assert "may open" not in alone["sentence"]
    assert [(need["code"], need["names"]) for need in alone["needs"]] == [("multiplex", ["mux-0"])]

    back_at = spell(time.time())
    await mux.listen()
    after = await one.until(lambda: becomes("visible"), "the channel to be sent again", 120)
    assert after["first_sent_at"] == alone["first_sent_at"]
    assert after["last_sent_at"] >= back_at
    assert after["needs"] == []


async def test_a_lower_allocation_is_obeyed_at_once(one: Headend) -> None:
    await one.start()
    mux = one.multiplexers[0]
    async with portal(one.broker, "kaisa") as kaisa:
        await set_up(kaisa, *(one.card(FIRST["kaisa"] + n).number for n in range(60)))
        await asyncio.sleep(3)
        mux.allocate(20)
        at = len(mux.arrivals)
        await asyncio.sleep(4)
    # What was on the way when the order came may still arrive.
    later = [a for a in mux.arrivals[at:] if a.at > mux.arrivals[at].at + 0.2]
    costs = [(a.at, cost_bits(len(a.data), "packed")) for a in later]
    assert costs
    for start, _ in costs:
        assert sum(bits for moment, bits in costs if start <= moment < start + 1) <= 20_000


async def test_a_full_disk_loses_nothing(one: Headend) -> None:
    await one.start()
    mine = one.card(FIRST["kaisa"])
    async with portal(one.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        assert one.process is not None
        wal = one.folder / "state" / "ledger.db-wal"
        limit = max(wal.stat().st_size, one.log.stat().st_size) + 64 * 1024
        before = resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
        commands = []
        for number in range(150):
            names = {"fi": f"{number} " + "x" * 150, "sv": "y" * 150, "en": "z" * 150}
            offer = {"offer": f"o-{number}", "rev": 1, "kind": "channel", "names": names, "products": ["sport"]}
            commands.append(await kaisa.order("offer", "put", offer))

        async def said() -> bool:
            # A checkpoint may make room for a moment: that it is told, and that it keeps orders out, is seen together.
            return bool(await broken(one, "ledger")) and (await one.ask("/readyz")).status_code == 503

        await one.until(said, "the fault to be told", 30)
        assert (await one.ask("/livez")).status_code == 200
        resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, before)
        for command in commands:
            assert (await kaisa.reply(command, timeout_s=60)).payload["status"] in {"committed", "duplicate"}
        await one.until(one.is_ready, "the daemon to be ready again", 30)
        assert (await one.ask("/v1/audit/verify")).status_code == 200


async def test_reload_adds_a_multiplex_and_refuses_nonsense(one: Headend) -> None:
    await one.start()
    mine = one.card(FIRST["kaisa"])
    assert one.process is not None
    async with portal(one.broker, "kaisa") as kaisa, StrictMultiplexer(bandwidth_kbps=100) as second:
        await set_up(kaisa, mine.number)
        await committed(kaisa, "subscription", "put", subscription="s", rev=1, card=mine.number, offer="sport")
        good = one.config.read_text()
        one.config.write_text(good.replace("[ca]", "[ca]\nunknown_key = 1"))
        os.kill(one.process.pid, signal.SIGHUP)

        async def refused() -> str:
            return await broken(one, "settings")

        assert "unknown_key" in await one.until(refused, "the refusal")
        added = MULTIPLEX.format(name="mux-late", port=second.port, kbps=100)
        one.config.write_text(good.replace("[[networks.services]]", f"{added}\n[[networks.services]]", 1))
        os.kill(one.process.pid, signal.SIGHUP)
        await second.until(lambda: second.sections, 30)
        assert await refused() == ""
        header = parse_emm(second.sections[0]).header
        assert header.address == mine.address
    assert one.multiplexers[0].faults == []


async def test_a_second_daemon_on_the_same_state_is_refused(one: Headend) -> None:
    await one.start()
    first, one.process = one.process, None
    one.spawn()
    second, one.process = one.process, first
    assert second is not None
    assert await asyncio.to_thread(second.wait, 30) == 7
    assert "process" in one.log_tail()
    assert await one.is_ready()


async def test_an_orderly_stop_closes_the_stream_politely(one: Headend) -> None:
    await one.start()
    assert await one.stop() == 0
    close_request, channel_close = 0x0114, 0x0014
    assert one.multiplexers[0].types()[-2:] == [close_request, channel_close]
    assert [event["event"] for event in one.events()][-1] == "stopped in order"
