"""S5, S6, S7, S18 over months, under a clock that the test moves: broker, daemon, multiplexer, card."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.hand_headend import at, on_the_wall
from tests.support.headend import FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

BEGINS = at("2027-01-31 12:00")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1, begins_at=BEGINS) as one:
        await one.start()
        yield one


async def customer(kaisa: Portal, card: Viewer, **terms: dict[str, Any]) -> None:
    """A customer with a card, and the offers `sport` and `film`, under terms where such are given."""
    for offer in ("sport", "film"):
        more = {"terms": terms[offer]} if offer in terms else {}
        names = {"fi": offer}
        await kaisa.committed("offer put", offer=offer, rev=1, kind="channel", names=names, products=[offer], **more)
    await kaisa.committed("card assign", card=card.number, rev=1, subscriber="anna")


def seconds(spelt: str) -> int:
    return int(datetime.fromisoformat(spelt).timestamp())


def opened(card: Viewer, moment: float | None = None) -> set[str]:
    return {service for service in ("sport-1", "film-1") if card.opens(service, moment)}


async def test_s06_s18_a_term_ends_by_itself_and_a_minimum_of_a_month_is_kept(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card, sport={"fixed_months": 1}, film={"minimum_months": 1})
        order = {"rev": 1, "card": card.number}
        deal = await kaisa.committed("subscription put", subscription="deal", offer="sport", **order)
        bound = await kaisa.committed("subscription put", subscription="bound", offer="film", **order)
        assert deal["ends_at"] == deal["starts_at"].replace("-01-31T", "-02-28T"), "the last day of a shorter month"
        assert bound["ends_at"] is None
        ends, free = seconds(deal["ends_at"]), seconds(bound["starts_at"].replace("-01-31T", "-02-28T"))
        await running.until(lambda: opened(card) == {"sport-1", "film-1"}, "both to open")

        running.go_to(ends - 3600)
        for name in ("deal", "bound"):
            refused = await kaisa.answer("subscription end", subscription=name, rev=2)
            assert (refused["status"], refused["code"]) == ("rejected", "minimum_term"), name
        await running.until(lambda: opened(card) == {"sport-1", "film-1"}, "what was renewed meanwhile")
        assert [opened(card, moment) for moment in (ends - 1, ends)] == [{"sport-1", "film-1"}, {"film-1"}]

        running.go_to(max(ends, free))
        told = await kaisa.until(lambda one: one.topic.endswith("/service-ended"), 60)
        assert [told.payload[field] for field in ("subscription", "at", "command")] == ["deal", deal["ends_at"], None]
        assert opened(card) == {"film-1"}, "the term has ended by itself"
        await kaisa.committed("subscription end", subscription="bound", rev=2)
        await running.until(lambda: opened(card) == set(), "the other to close")


async def test_s07_in_the_next_calendar_month_the_choice_may_be_changed_again(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    mix = {"offer": "mix", "kind": "mix", "choose": 1, "names": {"fi": "Valitse"}, "products": ["sport", "film"]}

    def choose(rev: int, product: str) -> dict[str, Any]:
        return {"subscription": "s", "rev": rev, "card": card.number, "offer": "mix", "choice": [product]}

    async with portal(running.broker, "kaisa") as kaisa:
        await kaisa.committed("offer put", rev=1, **mix)
        await kaisa.committed("card assign", card=card.number, rev=1, subscriber="anna")
        await kaisa.committed("subscription put", **choose(1, "sport"))
        changed = await kaisa.committed("subscription put", **choose(2, "film"))
        assert on_the_wall(changed["next_change_at"]) == "2027-02-01 00:00"
        await running.until(lambda: opened(card) == {"film-1"}, "the changed choice to open")

        running.go_to(at("2027-01-31 23:00"))
        refused = await kaisa.answer("subscription put", **choose(3, "sport"))
        assert (refused["status"], refused["code"]) == ("rejected", "choice_locked")
        assert refused["next_change_at"] == changed["next_change_at"]
        assert opened(card) == {"film-1"}

        running.go_to(at("2027-02-01 00:00"))
        changed = await kaisa.committed("subscription put", **choose(3, "sport"))
        assert on_the_wall(changed["next_change_at"]) == "2027-03-01 00:00"
        await running.until(lambda: opened(card) == {"sport-1"}, "the choice of the new month to open")
        refused = await kaisa.answer("subscription put", **choose(4, "film"))
        assert (refused["code"], refused["next_change_at"]) == ("choice_locked", changed["next_change_at"])
        (held,) = (await running.ask(f"/v1/explain/{card.number}")).json()["subscriptions"]
        assert (held["choice"], held["next_change_at"]) == (["sport"], changed["next_change_at"])


async def explained(running: Headend, card: Viewer) -> dict[str, tuple[str, str | None, str]]:
    """Start, end and state of each subscription, as `cad explain` and the control socket say them alike."""
    found = (await running.ask(f"/v1/explain/{card.number}")).json()["subscriptions"]
    arguments = (sys.executable, "-m", "cad", "explain", card.number, "--json", "--config", str(running.config))
    told = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["subscriptions"] == found
    return {one["subscription"]: (one["starts_at"], one["ends_at"], one["state"]) for one in found}


async def in_snapshot(kaisa: Portal) -> dict[str, tuple[str, str | None]]:
    """Start and end of each subscription in a snapshot that the portal has the headend take."""
    fields = {"subscription": ["starts_at", "ends_at"]}
    taken = await kaisa.committed("snapshot request", fields=fields, ended_after="2027-01-01T00:00:00Z")
    read = await kaisa.committed("snapshot read", snapshot=taken["id"])
    pages = [one.payload for one in kaisa.heard if one.topic.endswith("/page") and one.payload["command"] == read["id"]]
    items = [item for page in pages for item in page["items"]]
    return {item["subscription"]: (item["starts_at"], item["ends_at"]) for item in items}


async def test_s05_start_and_end_can_be_looked_up_before_between_and_after(running: Headend) -> None:
    card = running.card(FIRST["kaisa"])
    starts, ends = at("2027-02-10 18:00"), at("2027-03-10 18:00")
    async with portal(running.broker, "kaisa") as kaisa:
        await customer(kaisa, card)
        window = {"starts_at": "2027-02-10T18:00:00+02:00", "ends_at": "2027-03-10T18:00:00+02:00"}
        order = {"rev": 1, "card": card.number}
        replies = {
            "now": await kaisa.committed("subscription put", subscription="now", offer="film", **order),
            "term": await kaisa.committed("subscription put", subscription="term", offer="sport", **order, **window),
        }
        told = {name: (reply["starts_at"], reply["ends_at"]) for name, reply in replies.items()}
        assert told["now"][1] is None, "until further notice"
        assert told["term"] == ("2027-02-10T16:00:00Z", "2027-03-10T16:00:00Z")

        async def look(state: str, channels: set[str]) -> None:
            await running.until(lambda: opened(card) == channels, f"{channels} to open")
            found = await explained(running, card)
            assert {name: each[:2] for name, each in found.items()} == told == await in_snapshot(kaisa)
            assert {name: each[2] for name, each in found.items()} == {"now": "live", "term": state}

        await look("to come", {"film-1"})
        running.go_to(starts)
        await look("live", {"film-1", "sport-1"})
        running.go_to(ends)
        await look("ended", {"film-1"})
