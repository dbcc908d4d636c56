"""S3, S6, S7, S8 through command line, daemon, broker and multiplexer: what is sold, chosen, changed, and opens."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

HELSINKI = ZoneInfo("Europe/Helsinki")
CATALOGUE = """
operator = "kaisa"
[headings]
channels = { fi = "Kanavat", en = "Channels" }
packages = { fi = "Paketit", en = "Packages" }
[[offers]]
offer = "sport"
kind = "channel"
names = { fi = "Urheilu", en = "Sport" }
heading = "channels"
products = ["sport"]
[offers.terms]
price = "9.90 EUR/kk"
[[offers]]
offer = "mix-1"
kind = "mix"
choose = 1
names = { fi = "Valitse yksi", en = "Choose one" }
heading = "packages"
products = ["film", "sport"]
[[offers]]
offer = "both"
kind = "package"
names = { fi = "Molemmat", en = "Both" }
heading = "packages"
products = ["film", "sport"]
"""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        yield one


async def cad(running: Headend, *arguments: str) -> tuple[int, str]:
    """Run the `cad` command against the daemon; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cad", *arguments, "--config", str(running.config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "140"},
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def load(running: Headend, text: str) -> dict[str, str]:
    """Load a catalogue; return what became of each offer."""
    file = running.folder / "catalogue.toml"
    file.write_text(text)
    code, shown = await cad(running, "offer", "load", str(file), "--yes", "--json")
    assert code == 0, shown
    found = json.loads(shown)
    return {one["offer"]: one["change"] for one in found["offers"]}


async def ask(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    return dict((await kaisa.reply(await kaisa.order(resource, verb, body))).payload)


async def committed(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    reply = await ask(kaisa, command, **body)
    assert reply["status"] == "committed", reply
    return reply


def next_month(spelt: str) -> str:
    """The first moment of the month after a time in Helsinki, both as replies spell them."""
    local = datetime.fromisoformat(spelt).astimezone(HELSINKI)
    year, month = (local.year, local.month + 1) if local.month < 12 else (local.year + 1, 1)
    return datetime(year, month, 1, tzinfo=HELSINKI).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_s03_s06_a_catalogue_is_loaded_listed_ordered_and_withdrawn(running: Headend) -> None:
    assert await load(running, CATALOGUE) == {"sport": "new", "mix-1": "new", "both": "new"}
    code, shown = await cad(running, "offer", "list", "--operator", "kaisa", "--language", "fi")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert code == 0
    assert {"kaisa: Kanavat", "kaisa: Paketit"} <= set(lines)
    assert "mix-1 Valitse yksi mix-1 film sport - 0 yes" in lines
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="anna")
        assert not card.opens("sport-1", time.time()), "no right without an order"
        await committed(kaisa, "subscription put", subscription="s", rev=1, card=card.number, offer="sport")
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open")
        told = await kaisa.until(lambda one: one.topic.endswith("/evt/invoice/service-started"))
        assert (told.payload["offer"], told.payload["price"]) == ("sport", "9.90 EUR/kk")
        head, _, *others = CATALOGUE.split("[[offers]]")
        without = "[[offers]]".join([head, *others])
        assert await load(running, without) == {"mix-1": "unchanged", "both": "unchanged", "sport": "withdrawn"}
        again = await ask(kaisa, "subscription put", subscription="t", rev=1, card=card.number, offer="sport")
        assert (again["status"], again["code"]) == ("rejected", "offer_withdrawn")
        assert card.opens("sport-1", time.time()), "who has it keeps it"
        more = without.replace('offer = "both"', 'offer = "sport"').replace(
            'names = { fi = "Molemmat"', 'names = { fi = "S"'
        )
        assert await load(running, more) == {"mix-1": "unchanged", "sport": "changed", "both": "withdrawn"}
        await running.until(lambda: card.opens("film-1", time.time()), "what the offer has now")


async def test_s07_s08_a_choice_opens_and_is_changed_once_and_upgraded(running: Headend) -> None:
    await load(running, CATALOGUE)
    card = running.card(FIRST["kaisa"])
    mine: dict[str, Any] = {"subscription": "s", "card": card.number, "offer": "mix-1"}
    async with portal(running.broker, "kaisa") as kaisa:
        await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="anna")
        first = await committed(kaisa, "subscription put", **mine, rev=1, choice=["sport"])
        assert first["next_change_at"] == first["starts_at"], "it may be changed at once"
        await running.until(lambda: card.opens("sport-1", time.time()), "what was chosen to open")
        assert not card.opens("film-1", time.time())
        changed = await committed(kaisa, "subscription put", **mine, rev=2, choice=["film"])
        assert changed["next_change_at"] == next_month(first["starts_at"])
        await running.until(lambda: card.opens("film-1", time.time()), "the other to open")
        assert not card.opens("sport-1", time.time())
        refused = await ask(kaisa, "subscription put", **mine, rev=3, choice=["sport"])
        assert (refused["code"], refused["next_change_at"]) == ("choice_locked", changed["next_change_at"])
        found = (await running.ask(f"/v1/explain/{card.number}")).json()["subscriptions"]
        assert [(one["choice"], one["products"], one["next_change_at"]) for one in found] == [
            (["film"], ["film"], changed["next_change_at"])
        ]
        upgraded = await committed(kaisa, "subscription put", **(mine | {"offer": "both"}), rev=4)
        assert upgraded["next_change_at"] is None
        await running.until(
            lambda: card.opens("sport-1", time.time()) and card.opens("film-1", time.time()), "both to open"
        )
        running.kill()
        await running.start()
        fresh = running.card(FIRST["kaisa"])
        await running.until(
            lambda: fresh.opens("sport-1", time.time()) and fresh.opens("film-1", time.time()), "the same after a crash"
        )
