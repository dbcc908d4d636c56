"""S10, S12, S15, S17, S18, C6, C7 through daemon, broker and multiplexers: what a portal hears, what the card opens."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from protocol import card_number
from tests.support.hand_headend import at
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        yield one


async def committed(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply
    return dict(reply)


async def customer(kaisa: Portal, number: str) -> None:
    names = {"fi": "Urheilu"}
    await committed(kaisa, "offer put", offer="sport", rev=1, kind="channel", names=names, products=["sport"])
    await committed(kaisa, "card assign", card=number, rev=1, subscriber="customer")
    await committed(kaisa, "subscription put", subscription="s-1", rev=1, card=number, offer="sport")


def spelt(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).isoformat()


async def test_s15_a_stolen_card_goes_dark_and_its_replacement_opens(running: Headend) -> None:
    old, new = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, old.number)
        await running.until(lambda: old.opens("sport-1", time.time()), "the channel to open")
        await committed(kaisa, "card report", card=old.number, rev=2, condition="stolen")
        await running.until(lambda: not old.opens("sport-1", time.time()), "the stolen card to close")
        reply = await committed(kaisa, "card replace", card=old.number, rev=3, replacement=new.number)
        assert reply["card"] == new.number
        assert reply["visible_by"] is not None
        await running.until(lambda: new.opens("sport-1", time.time()), "the new card to open")
        assert not old.opens("sport-1", time.time())
        found = (await running.ask(f"/v1/explain/{old.number}", channel="sport-1")).json()
        assert (found["channel"]["code"], found["replaced_by"]) == ("card_replaced", new.number)
        await kaisa.until(lambda one: one.topic.endswith("/evt/invoice/card-replaced"))
        assert [one["fact"] for one in kaisa.facts()] == [
            "card-issued",
            "service-started",
            "card-reported",
            "card-replaced",
        ]


async def test_s18_c06_a_paired_card_opens_in_its_receiver_and_in_no_other(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card.number)
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open")
        reply = await committed(kaisa, "card pair", card=card.number, rev=2, receiver=card.receiver)
        assert reply["visible_by"] is not None
        card.put_into(2)
        await running.until(lambda: not card.opens("sport-1", time.time()), "the neighbour's receiver to close")
        card.put_into(1)
        assert card.opens("sport-1", time.time())

        async def explained() -> dict[str, Any] | None:
            found = (await running.ask(f"/v1/explain/{card.number}", channel="sport-1")).json()
            return found if found["channel"]["visible"] else None

        found = await running.until(explained, "the first transmission to be noted")
        assert found["receiver"] == card.receiver
        assert card.receiver in found["channel"]["sentence"]
        mistyped = {"card": card.number, "rev": 3, "receiver": card.receiver[::-1]}
        refused = (await kaisa.reply(await kaisa.order("card", "pair", mistyped))).payload
        assert (refused["code"], refused["errors"][0]["field"]) == ("invalid", "receiver")
        # The daemon comes back, and says to a card that heard nothing before what the ledger says.
        running.kill()
        await running.start()
        fresh = running.card(FIRST["kaisa"])
        fresh.forget()
        await running.until(lambda: fresh.opens("sport-1", time.time()), "the card to hear the daemon again")
        fresh.put_into(2)
        assert not fresh.opens("sport-1", time.time())
        await committed(kaisa, "card unpair", card=card.number, rev=3)
        await running.until(lambda: fresh.opens("sport-1", time.time()), "the channel to open anywhere")


async def test_c06_a_pin_is_reset_and_a_parental_level_set_over_the_air(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card.number)
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open")
        card.session.change_pin("0000", "4711")
        await committed(kaisa, "card pin-reset", card=card.number, rev=2)
        await committed(kaisa, "card parental", card=card.number, rev=3, level=12)

        def access() -> tuple[int, int]:
            card.listen()
            found = card.session.read_info().access
            return found.parental, found.pin_reset

        await running.until(lambda: access()[0] == 12, "the level to be on the card")
        assert access()[1] > 0
        card.session.give_pin("0000")
        found = (await running.ask(f"/v1/explain/{card.number}")).json()
        assert found["parental_level"] == 12
        refused = (
            await kaisa.reply(await kaisa.order("card", "parental", {"card": card.number, "rev": 4, "level": 3}))
        ).payload
        assert (refused["code"], refused["errors"][0]["field"]) == ("invalid", "level")
        assert "4711" not in running.log.read_text()


async def test_s12_s17_a_promise_to_pay_opens_at_once_and_closes_by_itself(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card.number)
        await committed(kaisa, "card suspend", card=card.number, rev=2, reason="unpaid")
        await running.until(lambda: running.multiplexers[0].sections, "EMMs")
        until = int(time.time()) + 4
        await committed(kaisa, "card reopen", card=card.number, rev=3, until=spelt(until))
        await running.until(lambda: card.opens("sport-1", until - 1), "the channel to open")
        assert not card.opens("sport-1", until), "the card's own window"
        told = await kaisa.until(
            lambda one: one.topic.endswith("/service-suspended") and one.payload["command"] is None, 15
        )
        assert told.payload["at"] == spelt(until).replace("+00:00", "Z")
        await running.until(lambda: not card.opens("sport-1", until - 1), "the card to be suspended")
        found = (await running.ask(f"/v1/explain/{card.number}")).json()
        assert found["state"] == "suspended"
        await committed(kaisa, "card reopen", card=card.number, rev=4)
        await running.until(lambda: card.opens("sport-1", time.time()), "the channel to open for good")


@pytest.mark.slow
async def test_s10_facts_come_once_though_the_daemon_is_killed_at_their_moments(tmp_path: Path) -> None:
    begins, ends = at("2027-01-21 18:00"), at("2027-01-22 18:00")
    async with headend(tmp_path, multiplexers=1, begins_at=at("2027-01-20 12:00")) as one:
        await one.start()
        first, second, third = (card_number.spell(FIRST["kaisa"] + place) for place in range(3))
        async with portal(one.broker, "kaisa") as kaisa:
            await customer(kaisa, first)
            await kaisa.committed("card assign", card=second, rev=1, subscriber="customer")
            moved = {"subscription": "s-1", "rev": 2, "card": second, "offer": "sport"}
            await kaisa.committed("subscription put", **moved)
            window = {"starts_at": spelt(begins), "ends_at": spelt(ends)}
            await kaisa.committed("subscription put", subscription="s-2", rev=1, card=second, offer="sport", **window)
            await kaisa.committed("card suspend", card=second, rev=2, reason="unpaid")
            await kaisa.committed("card reopen", card=second, rev=3)
            await kaisa.committed("card replace", card=second, rev=4, replacement=third, reason="new model")
            one.go_to(begins)
            await asyncio.sleep(0.5)
            one.kill()
            await one.start()
            await told(kaisa, "service-started", "s-2")
            one.kill()
            one.go_to(ends + 3600)
            await one.start()
            await told(kaisa, "service-ended", "s-2")
            one.kill()
            await one.start()
            known = len(kaisa.facts())
            await kaisa.committed("invoice replay", since="2027-01-01T00:00:00Z")

            def all_twice() -> bool:
                numbers = [one.payload["number"] for one in kaisa.heard if "/evt/invoice/" in one.topic]
                return all(numbers.count(number) > 1 for number in range(1, known + 1))

            await one.until(all_twice, "all to be told again")
            facts = kaisa.facts()
            assert [(fact["fact"], fact["card"]) for fact in facts] == [
                ("card-issued", first),
                ("service-started", first),
                ("card-issued", second),
                ("service-moved", second),
                ("service-suspended", second),
                ("service-reopened", second),
                ("card-replaced", second),
                ("service-started", third),
                ("service-ended", third),
            ]
            assert [fact["number"] for fact in facts] == list(range(1, 10))
            assert [(fact["subscription"], fact["at"]) for fact in facts[-2:]] == [
                ("s-2", spelt(begins).replace("+00:00", "Z")),
                ("s-2", spelt(ends).replace("+00:00", "Z")),
            ]
            assert (facts[3]["previous"], facts[6]["replacement"]) == (first, third)


async def told(kaisa: Portal, fact: str, subscription: str) -> None:
    """Wait until the portal has heard a fact of a subscription."""
    await kaisa.until(
        lambda one: one.topic.endswith(f"/invoice/{fact}") and one.payload["subscription"] == subscription, 60
    )
