"""M4: an offer that very many cards have changes, the daemon is killed in the middle, and every card follows."""

import sqlite3
import time
from pathlib import Path

import pytest

from bench.daemon import populate
from protocol import card_number
from tests.support.headend import FIRST, headend
from tests.support.portal_client import portal

pytestmark = pytest.mark.integration

MANY = 2_000
# Of two cards one has the offer alone; these are among the last to follow.
ORDERED, LAST = FIRST["kaisa"] + MANY - 4, FIRST["kaisa"] + MANY - 2


async def test_cards_follow_a_changed_offer_across_kill9_while_orders_are_taken(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1, kbps=8_000) as one, portal(one.broker, "kaisa") as kaisa:
        await populate(one, MANY)
        await one.start()
        mass = {"offer": "sport", "rev": 2, "kind": "channel", "names": {"fi": "sport"}, "products": ["sport", "film"]}
        await kaisa.order("offer", "put", mass, "mass")
        reply = (await kaisa.reply("mass", "committed", 60)).payload
        assert reply["detail"].startswith(f"{MANY} cards are sent")
        one.kill()
        await one.start()

        body = {"subscription": "more", "rev": 1, "card": card_number.spell(ORDERED), "offer": "film"}
        await kaisa.order("subscription", "put", body, "single")
        assert (await kaisa.reply("single", "committed", 60)).payload["code"] == "ok"
        for address in (ORDERED, LAST):
            card = one.card(address)
            await one.until(lambda card=card: card.opens("film-1", time.time()), "the card to follow", 120)

        async def none_left() -> bool:
            return (await one.ask("/v1/status")).json()["rollouts"] == []

        await one.until(none_left, "all cards to follow", 120)
    with sqlite3.connect(next(tmp_path.rglob("ledger.db"))) as connection:
        revisions = connection.execute("SELECT revision, count(*) FROM cards GROUP BY revision").fetchall()
        changes = connection.execute("SELECT count(*) FROM changes WHERE command_id = 'mass'").fetchone()
    connection.close()
    assert dict(revisions) == {2: MANY - 1, 3: 1}
    assert changes == (MANY,), "each card followed once"
