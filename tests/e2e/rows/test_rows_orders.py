"""S1, S2, S5, S9, S14, S19, C7 through daemon, broker and multiplexer: what a portal hears, what the card opens."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        yield one


async def answer(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    return dict((await kaisa.reply(await kaisa.order(resource, verb, body), timeout_s=60)).payload)


async def committed(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    reply = await answer(kaisa, command, **body)
    assert reply["status"] == "committed", reply
    return reply


async def offer(kaisa: Portal, name: str, **terms: Any) -> None:
    more = {"terms": terms} if terms else {}
    await committed(kaisa, "offer put", offer=name, rev=1, kind="channel", names={"fi": name}, products=[name], **more)


def spelt(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).isoformat().replace("+00:00", "Z")


async def test_s01_s19_the_reply_names_the_card_and_what_is_missing_is_said(running: Headend) -> None:
    one, two, none = (running.card(FIRST["kaisa"] + place) for place in range(3))
    async with portal(running.broker, "kaisa") as kaisa:
        await offer(kaisa, "sport")
        await offer(kaisa, "film", requires=["sport"])
        for card in (one, two):
            await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="anna")
        order = {"subscription": "s", "rev": 1, "offer": "sport"}
        refused = await answer(kaisa, "subscription put", card=none.number, **order)
        assert (refused["status"], refused["code"], refused["retryable"]) == ("rejected", "unknown_card", True)
        reply = await committed(kaisa, "subscription put", card=two.number, **order)
        assert reply["card"] == two.number
        await running.until(lambda: two.opens("sport-1", time.time()), "the channel to open on the second card", 30)
        film = {"subscription": "f", "rev": 1, "offer": "film"}
        refused = await answer(kaisa, "subscription put", card=one.number, **film)
        assert refused["code"] == "precondition_missing"
        assert "sport" in refused["detail"]
        await committed(kaisa, "subscription put", card=two.number, **film)
        await running.until(lambda: two.opens("film-1", time.time()), "the film to open where sport is", 30)
        assert not one.opens("sport-1", time.time())
        assert not one.opens("film-1", time.time())


async def test_s02_s05_a_chosen_start_and_an_end_that_can_be_looked_up(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await offer(kaisa, "sport")
        await offer(kaisa, "film")
        await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="anna")
        start, end = int(time.time()) + 3600, int(time.time()) + 7200
        order = {"subscription": "later", "rev": 1, "card": card.number, "offer": "sport"}
        reply = await committed(kaisa, "subscription put", starts_at=spelt(start), ends_at=spelt(end), **order)
        assert (reply["starts_at"], reply["ends_at"]) == (spelt(start), spelt(end))
        assert reply["visible_by"] >= spelt(start)
        reply = await committed(kaisa, "subscription put", subscription="now", rev=1, card=card.number, offer="film")
        assert reply["ends_at"] is None, "until further notice"
        await running.until(lambda: card.opens("film-1", time.time()), "what starts at once to open", 30)
        await running.until(lambda: card.opens("sport-1", start), "the right that starts later to be on the card", 30)
        # The card's clock is the time in the ECM.
        opened = [card.opens("sport-1", at) for at in (start - 1, start, end - 1, end)]
        assert opened == [False, True, True, False]
        found = (await running.ask(f"/v1/explain/{card.number}")).json()
        shown = {each["subscription"]: each for each in found["subscriptions"]}
        assert set(shown) == {"later", "now"}


async def test_s09_what_the_customer_cannot_end_customer_service_ends(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await offer(kaisa, "sport", ended_by="customer-service")
        await committed(kaisa, "card assign", card=card.number, rev=1, subscriber="anna")
        await committed(kaisa, "subscription put", subscription="s", rev=1, card=card.number, offer="sport")
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open", 30)
        refused = await answer(kaisa, "subscription end", subscription="s", rev=2)
        assert (refused["status"], refused["code"]) == ("rejected", "needs_authority")
        assert card.opens("sport-1", time.time())
        await committed(kaisa, "subscription end", subscription="s", rev=3, authority="customer-service")
        await running.until(lambda: not card.opens("sport-1", time.time()), "the channel to close", 30)
    records = [json.loads(line) for line in (await running.ask("/v1/audit/export")).text.splitlines()]
    ends = [one for one in records if one["kind"] == "command" and one["verb"] == "end"]
    assert [(one["operator"], one["code"], one["body"].get("authority")) for one in ends] == [
        ("kaisa", "needs_authority", None),
        ("kaisa", "ok", "customer-service"),
    ]


async def test_c07_s14_a_card_is_lent_changed_and_returned_by_legal_moves_only(running: Headend) -> None:
    old, new = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)

    async def state(number: str) -> str:
        return str((await running.ask(f"/v1/explain/{number}")).json()["state"])

    async with portal(running.broker, "kaisa") as kaisa:
        await offer(kaisa, "sport")
        await committed(kaisa, "card assign", card=old.number, rev=1, subscriber="anna")
        assert await state(old.number) == "assigned"
        await committed(kaisa, "subscription put", subscription="s", rev=1, card=old.number, offer="sport")
        assert await state(old.number) == "active"
        await running.until(lambda: old.opens("sport-1", time.time()), "the channel to open", 30)
        other = await answer(kaisa, "card assign", card=old.number, rev=2, subscriber="bertil")
        assert other["code"] == "card_in_use"
        await committed(kaisa, "card report", card=old.number, rev=3, condition="lost")
        assert await state(old.number) == "lost"
        await running.until(lambda: not old.opens("sport-1", time.time()), "the lost card to close", 30)
        await committed(kaisa, "card reopen", card=old.number, rev=4)
        assert await state(old.number) == "active"
        await running.until(lambda: old.opens("sport-1", time.time()), "the card that was found to open", 30)
        await committed(kaisa, "card report", card=old.number, rev=5, condition="defective")
        assert await state(old.number) == "defective"
        await committed(kaisa, "card reopen", card=old.number, rev=6)
        assert await state(old.number) == "defective", "only a lost card is opened again"
        await committed(kaisa, "card replace", card=old.number, rev=7, replacement=new.number)
        await running.until(lambda: new.opens("sport-1", time.time()), "the new card to open", 30)
        await running.until(lambda: not old.opens("sport-1", time.time()), "the old card to close", 30)
        assert (await state(old.number), await state(new.number)) == ("replaced", "active")
        await committed(kaisa, "card return", card=old.number, rev=8)
        assert await state(old.number) == "returned"
        await committed(kaisa, "card blacklist", card=old.number, rev=9)
        for command in ("card reopen", "card assign", "card report"):
            more = {"subscriber": "anna"} if command == "card assign" else {}
            more |= {"condition": "lost"} if command == "card report" else {}
            refused = await answer(kaisa, command, card=old.number, rev=10, **more)
            assert refused["status"] == "rejected", (command, refused)
        assert await state(old.number) == "blacklisted"
        assert not old.opens("sport-1", time.time())

        refused = await answer(kaisa, "card release", card=new.number, rev=1)
        assert refused["code"] == "card_has_subscriptions"
        await committed(kaisa, "subscription end", subscription="s", rev=2)
        await committed(kaisa, "card release", card=new.number, rev=1)
        assert await state(new.number) == "stock"
        await running.until(lambda: not new.opens("sport-1", time.time()), "the card in stock to be dark", 30)
        await committed(kaisa, "card assign", card=new.number, rev=2, subscriber="bertil")
        assert await state(new.number) == "assigned"
