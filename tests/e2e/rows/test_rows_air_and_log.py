"""C1, C4, C9, C12 through daemon, broker and multiplexers: what is on the air, at which rate, and what is on record."""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cad.demo.receiver import card_filters
from emm.message import EmmKind
from emm.pacer import cost_bits
from protocol import card_number
from tests.support.headend import FIRST, Headend, headend
from tests.support.multiplexer import StrictMultiplexer
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=2) as one:
        await one.start()
        yield one


async def committed(kaisa: Portal, command: str, **body: Any) -> str:
    resource, verb = command.split()
    command_id = await kaisa.order(resource, verb, body)
    reply = (await kaisa.reply(command_id)).payload
    assert reply["status"] == "committed", reply
    return command_id


async def customer(kaisa: Portal, number: str, *offers: str) -> None:
    for offer in ("sport", "film"):
        await kaisa.order(
            "offer", "put", {"offer": offer, "rev": 1, "kind": "channel", "names": {"fi": offer}, "products": [offer]}
        )
    await committed(kaisa, "card assign", card=number, rev=1, subscriber="customer")
    for offer in offers:
        await committed(kaisa, "subscription put", subscription=f"{number}-{offer}", rev=1, card=number, offer=offer)


async def on_air(kaisa: Portal, command: str, multiplexes: int = 2) -> None:
    """Wait until a command is on the air everywhere."""
    await kaisa.until(
        lambda heard: (
            heard.topic.endswith("/on-air") and heard.payload["command"] == command and not heard.payload["remaining"]
        ),
        60,
    )


async def test_c01_short_sections_that_receivers_filter_by_address(running: Headend) -> None:
    mine, neighbour, far = FIRST["kaisa"], FIRST["kaisa"] + 1, FIRST["kaisa"] + 5_000
    async with portal(running.broker, "kaisa") as kaisa:
        for address in (mine, neighbour, far):
            await customer(kaisa, card_number.spell(address), "sport")
        many = [
            await kaisa.order(
                "subscription",
                "put",
                {
                    "subscription": f"later-{number}",
                    "rev": 1,
                    "card": card_number.spell(mine),
                    "offer": "film",
                    "starts_at": later(number),
                    "ends_at": later(number, 600),
                },
            )
            for number in range(12)
        ]
        for one in many:
            assert (await kaisa.reply(one)).payload["code"] == "ok"
        # A message to all is for the cards of an operator, which are told apart by what they can open.
        await committed(kaisa, "message put", message="m-1", rev=1, to={"all": True}, text={"fi": "Hei"})
        await on_air(kaisa, await committed(kaisa, "card refresh", card=card_number.spell(mine)))
        kinds = {EmmKind.UNIQUE: 5, EmmKind.GROUP: 4, EmmKind.GLOBAL: 0}

        def seen() -> bool:
            return len({section[0] for section in running.multiplexers[0].whole_sections}) > 1

        await running.until(seen, "an EMM that is not for one card", 60)
    sections = set(running.multiplexers[0].whole_sections)
    assert max(len(section) for section in sections) <= 256
    assert any(section[16] & 15 for section in sections if section[0] == EmmKind.UNIQUE), "an EMM in several sections"
    for section in sections:
        kind = EmmKind(section[0])
        assert section[1] & 0x80 == 0, "short: no CRC"
        assert len(section) == 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
        passed = {
            address
            for address in (mine, neighbour, far)
            if any(one.passes(section[:16]) for one in card_filters(address))
        }
        addressed = section[3 : 3 + kinds[kind]]
        assert passed == {
            address for address in (mine, neighbour, far) if address.to_bytes(5, "big")[: kinds[kind]] == addressed
        }


async def test_c04_recall_sends_everything_again_at_once_to_a_card_that_heard_nothing(running: Headend) -> None:
    number = card_number.spell(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, number, "sport", "film")
        on = [await committed(kaisa, "card refresh", card=number)]
        await on_air(kaisa, on[0])
        blank = running.card(FIRST["kaisa"])
        blank._seen = [len(mux.whole_sections) for mux in running.multiplexers]
        asked_at = time.time()
        recall = await committed(kaisa, "card refresh", card=number)
        await on_air(kaisa, recall)
        events = [
            one.payload for one in kaisa.heard if one.topic.endswith("/on-air") and one.payload["command"] == recall
        ]
        assert {one["multiplex"] for one in events} == {"mux-0", "mux-1"}
        for multiplexer in (0, 1):
            await running.until(lambda at=multiplexer: blank.opens("sport-1", asked_at + 1, at), "sport to open again")
            assert blank.opens("film-1", asked_at + 1, multiplexer)
        reply = (await kaisa.reply(recall)).payload
        assert reply["on_air_by"] is not None


async def test_c09_each_multiplex_is_sent_what_it_allocates_whatever_was_asked_for(running: Headend) -> None:
    slow, fast = running.multiplexers
    async with portal(running.broker, "kaisa") as kaisa:
        numbers = [card_number.spell(FIRST["kaisa"] + one) for one in range(40)]
        for number in numbers:
            await kaisa.order("card", "assign", {"card": number, "rev": 1, "subscriber": "customer"})
        slow.allocate(5)
        fast.allocate(150)
        begun = [len(mux.arrivals) for mux in (slow, fast)]
        await running.until(lambda: len(slow.arrivals) > begun[0] + 80, "the slow one to be sent to", 60)
        await on_air(kaisa, await committed(kaisa, "card refresh", card=numbers[0]))
    bits = [sent_after(mux, at) for mux, at in zip((slow, fast), begun, strict=True)]
    assert bits[1] > 2 * bits[0], "each at its own rate"
    for mux, at, kbps in ((slow, begun[0], 5), (fast, begun[1], 150)):
        costs = [(one.at, cost_bits(len(one.data), "packed")) for one in mux.arrivals[at:]]
        # What was on the way when the order came may still arrive.
        costs = [one for one in costs if one[0] > costs[0][0] + 0.5]
        for start, _ in costs:
            assert sum(cost for moment, cost in costs if start <= moment < start + 1) <= kbps * 1000
        assert mux.faults == []


def sent_after(mux: StrictMultiplexer, at: int) -> int:
    return sum(cost_bits(len(one.data), "packed") for one in mux.arrivals[at:])


async def test_c12_every_command_is_on_record_also_the_operators_own_and_none_can_be_altered(running: Headend) -> None:
    number = card_number.spell(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, number, "sport")
        refused = await kaisa.order(
            "subscription", "put", {"subscription": "x", "rev": 1, "card": number, "offer": "none"}
        )
        assert (await kaisa.reply(refused)).payload["code"] == "unknown_offer"
        broken = await kaisa.order("card", "assign", {"card": "12", "rev": 1, "subscriber": "x"})
        assert (await kaisa.reply(broken)).payload["code"] == "invalid"
        await kaisa.send("cad/v1/kaisa/cmd/card/explode", b"{}")
        await kaisa.until(lambda one: one.topic.endswith("/rej"))
    transport = httpx.AsyncHTTPTransport(uds=str(running.folder / "s"))
    async with httpx.AsyncClient(transport=transport, base_url="http://cad", timeout=30) as terminal:
        assert (await terminal.post("/v1/clock/believe")).status_code == 200
        assert (await terminal.post("/v1/multiplexes/mux-0/switch/standby")).status_code == 404
    records = [json.loads(line) for line in (await running.ask("/v1/audit/export")).text.splitlines()]
    told = {(one["kind"], one.get("code"), one.get("verb")) for one in records}
    assert {
        ("command", "ok", "put"),
        ("command", "ok", "assign"),
        ("command", "unknown_offer", "put"),
        ("refused", "invalid", "assign"),
        ("unreadable", "unknown_command", "explode"),
        ("clock-believed", None, None),
        ("multiplex-switched", None, None),
    } <= told
    assert [one["seq"] for one in records] == list(range(1, len(records) + 1))

    path = running.folder / "state" / "ledger.db"
    with (
        contextlib.closing(sqlite3.connect(path, timeout=0.1)) as beside,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        beside.execute("DELETE FROM audit")
    assert await running.stop() == 0
    with contextlib.closing(sqlite3.connect(path)) as beside:
        beside.execute("UPDATE audit SET record = replace(record, '\"customer\"', '\"somebody\"')")
        beside.commit()
    running.spawn()
    await running.until(running.is_ready, "the daemon to be ready", 60)
    arguments = (sys.executable, "-m", "cad", "audit", "verify", "--config", str(running.config))
    verified = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, check=False)
    assert verified.returncode == 4
    assert "was changed" in verified.stderr


def later(days: int, seconds: int = 0) -> str:
    moment = time.gmtime(time.time() + 600 + days * 1800 + seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
