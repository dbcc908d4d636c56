"""S16 through daemon, broker, multiplexer and scrambler: a film that is bought opens in its window, and no other."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cards.errors import CardRefusedError
from emm.ecm import parse_ecm
from tests.support.broker import free_port
from tests.support.hand_headend import at
from tests.support.headend import CA_SYSTEM_ID, FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal
from tests.support.scrambler import StrictScrambler

pytestmark = pytest.mark.integration

FILM = bytes.fromhex("01 0001 0001 0066")
WORDS = {7: b"word-007", 8: b"word-008"}
ECMG = """
[ecmg]
listen = "127.0.0.1:{port}"
[[ecmg.clients]]
id = "lab"
address = "127.0.0.1"
[[networks]]
event_products = [500, 503]
"""


@pytest.fixture
def port() -> int:
    return free_port()


@contextlib.asynccontextmanager
async def selling_events(folder: Path, port: int, begins_at: float | None = None) -> AsyncIterator[Headend]:
    """A running headend with an ECMG on that port, whose operator may sell events on `film-1`."""

    def with_events(text: str) -> str:
        text = text.replace("[[networks]]", ECMG.format(port=port), 1)
        return text.replace('products = ["sport", "film"]', 'products = ["sport", "film"]\nevents_on = ["film-1"]')

    async with headend(folder, multiplexers=1, begins_at=begins_at) as one:
        one.write_settings(with_events)
        await one.start()
        yield one


@pytest.fixture
async def running(tmp_path: Path, port: int) -> AsyncIterator[Headend]:
    async with selling_events(tmp_path, port) as one:
        yield one


async def committed(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply
    return dict(reply)


def spelt(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def opens(card: Viewer, ecm: bytes) -> bool:
    card.listen()
    try:
        return list(card.session.process_ecm(ecm).words) == list(WORDS.values())
    except CardRefusedError:
        return False


async def test_s16_a_film_opens_for_who_bought_it_and_only_while_it_runs(running: Headend, port: int) -> None:
    buyer, other, guest = (running.card(FIRST["kaisa"] + number) for number in range(3))
    async with portal(running.broker, "kaisa") as kaisa, StrictScrambler("127.0.0.1", port, CA_SYSTEM_ID << 16) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        for card in (buyer, other, guest):
            await committed(kaisa, "card assign", card=card.number, rev=1, subscriber=card.number)
        begins = int(time.time()) + 4
        common = {"rev": 1, "kind": "event", "service": "film-1", "terms": {"price": "4.90 EUR"}}
        for name, starts_at in (("film-a", begins), ("film-b", begins + 3600)):
            window = {"starts_at": spelt(starts_at), "ends_at": spelt(starts_at + 3600)}
            await committed(kaisa, "offer put", offer=name, names={"fi": name}, **common, **window)
        for name, card in (("film-a", buyer), ("film-b", other)):
            order = {"subscription": name, "rev": 1, "card": card.number, "offer": name}
            reply = await committed(kaisa, "subscription put", **order)
        assert reply["starts_at"] == spelt(begins + 3600).replace("+00:00", "Z")

        async def ecm() -> bytes:
            return await scs.order(1, 7, WORDS, FILM)

        async def begun() -> bool:
            return opens(buyer, await ecm())

        await running.until(begun, "the film to open")
        film = await ecm()
        header = parse_ecm(film)
        assert header.header.time >= begins
        assert header.product_ids == (8, 500)
        assert not opens(other, film), "who bought the next film"
        assert not opens(guest, film), "who bought none"
        # It is over early: card and ECM follow, and what is over is not sold.
        over = int(time.time()) + 3
        window = {"starts_at": spelt(begins), "ends_at": spelt(over)}
        again = common | {"rev": 2}
        await committed(kaisa, "offer put", offer="film-a", names={"fi": "film-a"}, **again, **window)

        async def ended() -> bool:
            return parse_ecm(await ecm()).product_ids == (8,)

        await running.until(ended, "the end of the film")
        late = {"subscription": "late", "rev": 1, "card": guest.number, "offer": "film-a"}
        refused = (await kaisa.reply(await kaisa.order("subscription", "put", late))).payload
        assert refused["code"] == "event_over"
        running.kill()
        await running.start()
        await committed(kaisa, "invoice replay", since=spelt(begins - 3600))
        facts = {one.payload["number"]: one.payload for one in kaisa.heard if "/evt/invoice/" in one.topic}
        bought = [(one["card"], one["offer"], one["price"]) for one in facts.values() if one["subscription"]]
        assert bought == [(buyer.number, "film-a", "4.90 EUR"), (other.number, "film-b", "4.90 EUR")]
        assert {one["fact"] for one in facts.values() if one["subscription"]} == {"programme-bought"}


async def test_s16_bought_in_the_middle_it_opens_at_once_and_is_dark_after(tmp_path: Path, port: int) -> None:
    begins, ends = at("2027-01-23 20:00"), at("2027-01-23 22:00")
    film = {"offer": "film-a", "kind": "event", "names": {"fi": "a"}, "service": "film-1"}
    film |= {"starts_at": spelt(begins), "ends_at": spelt(ends)}
    async with (
        selling_events(tmp_path, port, begins_at=at("2027-01-20 12:00")) as one,
        portal(one.broker, "kaisa") as kaisa,
        StrictScrambler("127.0.0.1", port, CA_SYSTEM_ID << 16) as scs,
    ):
        await scs.open_channel()
        await scs.open_stream(1)
        buyer, guest = (one.card(FIRST["kaisa"] + number) for number in range(2))
        for card in (buyer, guest):
            await kaisa.committed("card assign", card=card.number, rev=1, subscriber=card.number)
        await kaisa.committed("offer put", rev=1, **film)

        async def seen() -> tuple[bool, bool, tuple[int, ...]]:
            """Who opens what the scrambler gets now, and which products it names."""
            ecm = await scs.order(1, 7, WORDS, FILM)
            return opens(buyer, ecm), opens(guest, ecm), parse_ecm(ecm).product_ids

        async def sees(buys: bool, products: tuple[int, ...]) -> bool:
            return await seen() == (buys, False, products)

        assert await sees(False, (8,)), "days before"
        one.go_to(begins + 3600)
        await one.until(lambda: sees(False, (8, 500)), "the film to begin, which nobody has bought")
        reply = await kaisa.committed("subscription put", subscription="f", rev=1, card=buyer.number, offer="film-a")
        assert (seconds(reply["starts_at"]), seconds(reply["ends_at"])) == (begins, ends)
        assert seconds(reply["visible_by"]) < ends
        await one.until(lambda: sees(True, (8, 500)), "the film to open in its middle")
        one.go_to(ends)
        await one.until(lambda: sees(False, (8,)), "the end of the film")
        late = {"subscription": "late", "rev": 1, "card": guest.number, "offer": "film-a"}
        assert (await kaisa.answer("subscription put", **late))["code"] == "event_over"
        one.go_to(ends + 3 * 86_400)
        assert await sees(False, (8,)), "days after"
        assert [fact["offer"] for fact in kaisa.facts() if fact["fact"] == "programme-bought"] == ["film-a"]
