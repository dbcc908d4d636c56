"""S12, S15, S17, C2 over days and months, under a clock that the test moves: broker, daemon, multiplexer, card."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hand_headend import at
from tests.support.headend import FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

DAY = 86_400
BEGINS = at("2027-01-20 12:00")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1, begins_at=BEGINS) as one:
        await one.start()
        yield one


async def customer(kaisa: Portal, card: Viewer) -> None:
    """A customer who has `sport` on a card."""
    for offer in ("sport", "film"):
        names = {"fi": offer}
        await kaisa.committed("offer put", offer=offer, rev=1, kind="channel", names=names, products=[offer])
    await kaisa.committed("card assign", card=card.number, rev=1, subscriber="anna")
    await kaisa.committed("subscription put", subscription="sport", rev=1, card=card.number, offer="sport")


async def explained(running: Headend, card: Viewer) -> dict[str, Any]:
    return dict((await running.ask(f"/v1/explain/{card.number}")).json())


def expiry(running: Headend) -> int:
    """When what a card hears now ends by itself."""
    return running.calendar.rights_end(running.calendar.period(running.now()))


async def test_s12_trust_lasts_for_days_and_ends_by_itself_also_where_nothing_is_heard(running: Headend) -> None:
    card, deaf = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"])
    until = at("2027-01-25 18:00")

    def open_now(one: Viewer) -> bool:
        return one.opens("sport-1")

    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card)
        await running.until(lambda: open_now(card), "the channel to open")
        await kaisa.committed("card suspend", card=card.number, rev=2, reason="unpaid")
        await running.until(lambda: not open_now(card), "the suspended card to close")
        running.go_to(at("2027-01-22 12:00"))
        await kaisa.committed("card reopen", card=card.number, rev=3, until="2027-01-25T18:00:00+02:00")
        await running.until(lambda: open_now(card) and open_now(deaf), "the channel to open at once")
        deaf.blocked = True
        for day in ("2027-01-23 12:00", "2027-01-25 17:00"):
            running.go_to(at(day))
            await running.until(lambda: open_now(card), f"the channel on {day}")
            assert open_now(deaf)
        assert (await explained(running, card))["open_until"] == "2027-01-25T16:00:00Z"
        assert [card.opens("sport-1", moment) for moment in (until - 1, until)] == [True, False], (
            "the card's own window"
        )

        running.go_to(until)
        told = await kaisa.until(
            lambda one: one.topic.endswith("/service-suspended") and one.payload["command"] is None, 60
        )
        assert told.payload["at"] == "2027-01-25T16:00:00Z"
        assert (await explained(running, card))["state"] == "suspended"
        await running.until(lambda: not card.opens("sport-1", until - 1), "the card to hear that it is suspended")
        assert not open_now(deaf)
        running.go_to(at("2027-01-28 12:00"))
        assert not open_now(card)
        await kaisa.committed("card reopen", card=card.number, rev=4)
        await running.until(lambda: open_now(card), "the channel to open for good")


async def test_s15_the_old_card_dies_by_expiry_when_its_emms_are_blocked(running: Headend) -> None:
    old, new = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, old)
        await running.until(lambda: old.opens("sport-1"), "the channel to open")
        old.blocked, ends = True, expiry(running)
        await kaisa.committed("card report", card=old.number, rev=2, condition="stolen")
        await kaisa.committed("card replace", card=old.number, rev=3, replacement=new.number)
        await running.until(lambda: new.opens("sport-1"), "the new card to open")
        assert old.opens("sport-1"), "it has not heard that it is stolen"
        running.go_to(ends - 3600)
        await running.until(lambda: new.opens("sport-1"), "the new card's renewal")
        assert [old.opens("sport-1", moment) for moment in (running.now(), ends - 1, ends)] == [True, True, False]
        running.go_to(ends)
        await running.until(lambda: new.opens("sport-1"), "the new card to go on")
        assert not old.opens("sport-1"), "dead, by the end of its rights alone"
        old.blocked = False
        await running.until(lambda: new.opens("sport-1") and not old.opens("sport-1", ends - 1), "what it hears now")


async def test_s17_two_months_of_suspension_leave_the_subscriptions_as_they_were(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card)
        later = {"starts_at": "2027-02-10T18:00:00+02:00", "ends_at": "2027-06-01T00:00:00+03:00"}
        order = {"subscription": "later", "rev": 1, "card": card.number, "offer": "film"}
        await kaisa.committed("subscription put", **order, **later)
        await running.until(lambda: card.opens("sport-1"), "the channel to open")
        before = (await explained(running, card))["subscriptions"]
        assert [one["state"] for one in before] == ["live", "to come"]
        await kaisa.committed("card suspend", card=card.number, rev=2, reason="unpaid")
        await running.until(lambda: not card.opens("sport-1"), "the card to close")

        running.go_to(BEGINS + 61 * DAY)
        await kaisa.until(lambda one: one.topic.endswith("/service-started") and one.payload["offer"] == "film", 60)
        card.listen()
        assert not card.opens("sport-1")
        assert not card.opens("film-1")
        await kaisa.committed("card reopen", card=card.number, rev=3)
        await running.until(lambda: card.opens("sport-1") and card.opens("film-1"), "both channels to open")
        after = (await explained(running, card))["subscriptions"]
        assert after == [one | {"state": "live"} for one in before]
        assert "service-ended" not in {one["fact"] for one in kaisa.facts()}


async def on_the_air(running: Headend) -> bool:
    """Whether all changes have been sent, and all that was to be told has been."""
    status = (await running.ask("/v1/status")).json()
    waiting = [one["waiting_changes"] for network in status["networks"] for one in network["multiplexes"]]
    return [*waiting, status["broker"]["outbox"]] == [0, 0]


def written(running: Headend) -> list[str]:
    """All that stands in the ledger of a daemon that does not run, but for the notes on clock and period."""
    with contextlib.closing(sqlite3.connect(running.folder / "state" / "ledger.db")) as held:
        return [line for line in held.iterdump() if not line.startswith('INSERT INTO "meta"')]


async def test_c02_two_months_in_a_drawer_and_right_again_within_a_cycle(running: Headend) -> None:
    card, others = running.card(FIRST["kaisa"]), [running.card(FIRST["kaisa"] + place) for place in range(1, 6)]
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card)
        for other in others:
            await kaisa.committed("card assign", card=other.number, rev=1, subscriber=other.number)
        for number in {one.number for one in (card, *others)}:
            await kaisa.until(
                lambda one, number=number: one.topic.endswith("/on-air") and one.payload["card"] == number, 60
            )
        await running.until(lambda: card.opens("sport-1"), "the channel to open")
        ends = expiry(running)
        assert ends - running.now() <= 35 * DAY
        assert [card.opens("sport-1", moment) for moment in (ends - 1, ends)] == [True, False]
    await running.until(lambda: on_the_air(running), "all to be sent and told")
    assert await running.stop() == 0
    before = written(running)
    await running.start()

    card.blocked = True
    running.go_to(ends)
    assert not card.opens("sport-1"), "dark by expiry"
    running.go_to(BEGINS + 61 * DAY)
    assert not card.opens("sport-1")
    card.blocked = False
    card.forget()
    await running.until(lambda: card.opens("sport-1"), "its turn in the cycle", 120)
    assert await running.stop() == 0
    assert written(running) == before, "renewals are a matter of the clock"
