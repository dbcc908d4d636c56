"""M1, M3: an order over MQTT opens a channel on a card, through real broker and multiplexers, and is undone so."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emm.message import parse_emm
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path) as one:
        await one.start()
        yield one


async def committed(kaisa: Portal, resource: str, verb: str, **body: Any) -> dict[str, Any]:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply
    return reply


async def set_up(kaisa: Portal, *numbers: str) -> None:
    await committed(
        kaisa, "offer", "put", offer="sport", rev=1, kind="channel", names={"fi": "Urheilu"}, products=["sport"]
    )
    for number in numbers:
        await committed(kaisa, "card", "assign", card=number, rev=1, subscriber="customer")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_an_order_opens_the_channel_on_its_card_and_on_no_other(running: Headend) -> None:
    mine, other = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number, other.number)
        assert not mine.opens("sport-1", time.time())
        before = time.time()
        command = await kaisa.order(
            "subscription", "put", {"subscription": "s-1", "rev": 1, "card": mine.number, "offer": "sport"}
        )
        reply = await kaisa.reply(command)
        assert reply.correlation == command.encode()
        assert reply.payload["status"] == "committed"
        assert reply.payload["card"] == mine.number
        on_air_by, visible_by = moment(reply.payload["on_air_by"]), moment(reply.payload["visible_by"])
        assert before < on_air_by < visible_by < before + 3600
        heard: list[str] = []
        for name in ("mux-0", "mux-1"):
            event = await kaisa.until(
                lambda one, name=name: (
                    one.topic.endswith("/card/on-air")
                    and one.payload["command"] == command
                    and one.payload["multiplex"] == name
                )
            )
            assert moment(event.payload["at"]) <= on_air_by
            heard.append(event.payload["multiplex"])
        assert heard == ["mux-0", "mux-1"]
        await running.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
        await running.until(lambda: mine.opens("sport-1", time.time(), 1), "the channel to open on the other multiplex")
        assert not mine.opens("film-1", time.time())
        assert not other.opens("sport-1", time.time())
        assert not other.opens("sport-1", time.time(), 1)


async def test_suspended_reopened_ended(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        await committed(kaisa, "subscription", "put", subscription="s-1", rev=1, card=mine.number, offer="sport")
        await running.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
        await committed(kaisa, "card", "suspend", card=mine.number, rev=2, reason="unpaid")
        await running.until(lambda: not mine.opens("sport-1", time.time()), "the channel to close")
        found = (await running.ask(f"/v1/explain/{mine.number}", channel="sport-1")).json()
        assert found["channel"]["code"] == "suspended"
        await committed(kaisa, "card", "reopen", card=mine.number, rev=3)
        await running.until(lambda: mine.opens("sport-1", time.time()), "the channel to open again")
        await committed(kaisa, "subscription", "end", subscription="s-1", rev=2)
        await running.until(lambda: not mine.opens("sport-1", time.time()), "the channel to close for good")


async def test_a_right_that_begins_later_is_sent_ahead_and_opens_at_its_minute(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    start = int(time.time()) + 3600
    spelt = datetime.fromtimestamp(start, UTC).isoformat()
    ends = datetime.fromtimestamp(start + 600, UTC).isoformat()
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        await committed(
            kaisa,
            "subscription",
            "put",
            subscription="s-1",
            rev=1,
            card=mine.number,
            offer="sport",
            starts_at=spelt,
            ends_at=ends,
        )
        await running.until(lambda: mine.opens("sport-1", start), "the right to arrive")
        assert [mine.opens("sport-1", at) for at in (start - 1, start, start + 599, start + 600)] == [
            False,
            True,
            True,
            False,
        ]


async def test_what_was_ordered_outlives_a_restart_without_a_new_version(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        await committed(kaisa, "subscription", "put", subscription="s-1", rev=1, card=mine.number, offer="sport")
        await running.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
    sent = {section for section in running.multiplexers[0].sections if parse_emm(section).header.version.revision == 2}
    assert await running.stop() == 0
    assert running.multiplexers[0].faults == []
    before = len(running.multiplexers[0].sections)
    await running.start()
    later = running.card(FIRST["kaisa"])
    await running.until(
        lambda: later.opens("sport-1", time.time()), "the channel to open on a card that heard nothing before"
    )
    assert set(running.multiplexers[0].sections[before:]) <= sent, "same content, same bytes"


async def test_refresh_sends_again_at_once(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        command = await kaisa.order("card", "refresh", {"card": mine.number})
        reply = (await kaisa.reply(command)).payload
        assert reply["status"] == "committed"
        await kaisa.until(lambda one: one.topic.endswith("/on-air") and one.payload["command"] == command)


async def test_operators_do_not_see_each_other(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa, portal(running.broker, "other") as other:
        await set_up(kaisa, mine.number)
        for resource, verb, body in (
            ("card", "suspend", {"card": mine.number, "rev": 9}),
            ("card", "assign", {"card": mine.number, "rev": 9, "subscriber": "thief"}),
            ("card", "refresh", {"card": mine.number}),
            ("subscription", "put", {"subscription": "x", "rev": 1, "card": mine.number, "offer": "sport"}),
            (
                "offer",
                "put",
                {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "x"}, "products": ["sport"]},
            ),
        ):
            reply = (await other.reply(await other.order(resource, verb, body))).payload
            assert reply["status"] == "rejected", (resource, verb, reply)
        assert all("/kaisa/" not in one.topic for one in other.heard)
        assert all("/other/" not in one.topic for one in kaisa.heard)


async def test_metrics_and_status_tell_what_happened(running: Headend) -> None:
    mine = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await set_up(kaisa, mine.number)
        for mux in running.multiplexers:
            await mux.until(lambda mux=mux: mux.sections)
    text = (await running.ask("/metrics")).text
    assert 'cad_commands_total{code="ok",operator="kaisa"} 2.0' in text
    assert 'cad_publish_to_air_seconds_bucket{le="3600.0",multiplex="mux-0"} 1.0' in text
    assert 'cad_rate_allocated_bps{multiplex="mux-1"} 200000.0' in text
    assert 'outcome="missed"' not in text
    status = (await running.ask("/v1/status")).json()
    assert [one["cards"] for one in status["networks"]] == [1]
    assert (await running.ask("/v1/audit/verify")).json()["records"] > 2
