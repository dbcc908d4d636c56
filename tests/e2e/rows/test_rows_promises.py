"""S4, M2, C13, X2 through daemon, broker and multiplexer: what replies promise is kept, also beside a mass change."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from emm.message import parse_emm
from protocol import card_number
from tests.support.headend import FIRST, Headend, headend
from tests.support.multiplexer import StrictMultiplexer
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

MANY = 300
SPORT = {"offer": "sport", "kind": "channel", "names": {"fi": "Urheilu"}}
FILM = {"offer": "film", "rev": 1, "kind": "channel", "names": {"fi": "Elokuva"}, "products": ["film"]}


@asynccontextmanager
async def running(folder: Path, kbps: int, weight: float = 1.0) -> AsyncIterator[Headend]:
    """A running headend; `weight` is that of the operator `kaisa`."""
    async with headend(folder, multiplexers=1, kbps=kbps) as one:
        one.write_settings(lambda text: text.replace('id = "kaisa"\n', f'id = "kaisa"\nweight = {weight}\n'))
        await one.start()
        yield one


async def committed(own: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    reply = (await own.reply(await own.order(resource, verb, body), timeout_s=60)).payload
    assert reply["status"] == "committed", reply
    return dict(reply)


async def subscribers(kaisa: Portal) -> list[int]:
    """Cards of one operator that all have the same offer, and whose EMMs have all been sent."""
    addresses = [FIRST["kaisa"] + number for number in range(MANY)]
    await committed(kaisa, "offer put", **SPORT, rev=1, products=["sport"])
    cards = [(await kaisa.order("card", "assign", assign(address)), address) for address in addresses]
    for command, _ in cards:
        await kaisa.reply(command, "committed", 60)
    for address in addresses[:-1]:
        await kaisa.order("subscription", "put", put(address, "sport"))
    await committed(kaisa, "subscription put", **put(addresses[-1], "sport"))
    return addresses


def assign(address: int) -> dict[str, Any]:
    return {"card": card_number.spell(address), "rev": 1, "subscriber": f"customer-{address}"}


def put(address: int, offer: str) -> dict[str, Any]:
    return {"subscription": f"{offer}-{address}", "rev": 2, "card": card_number.spell(address), "offer": offer}


def by(reply: dict[str, Any], promise: str) -> float:
    return datetime.fromisoformat(reply[promise]).timestamp()


def sent_at(mux: StrictMultiplexer, address: int) -> list[float]:
    """When EMMs of a card arrived that was assigned and then ordered for (Unix seconds)."""
    to_unix = time.time() - time.monotonic()
    headers = ((one.at, parse_emm(one.data).header) for one in mux.arrivals)
    return [at + to_unix for at, one in headers if one.address == address and one.version.revision >= 2]


def all_sent(mux: StrictMultiplexer, addresses: Iterable[int], since: int) -> bool:
    return set(addresses) <= {parse_emm(one.data).header.address for one in mux.arrivals[since:]}


async def metric(one: Headend, begins: str) -> list[float]:
    lines = (await one.ask("/metrics")).text.splitlines()
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(begins)]


async def test_s04_x02_an_order_is_on_the_air_and_visible_when_its_reply_said(tmp_path: Path) -> None:
    async with running(tmp_path, 200) as one, portal(one.broker, "kaisa") as kaisa:
        card, mux = one.card(FIRST["kaisa"]), one.multiplexers[0]
        await committed(kaisa, "offer put", **SPORT, rev=1, products=["sport"])
        await committed(kaisa, "card assign", **assign(card.address))
        ordered_at = time.time()
        reply = await committed(kaisa, "subscription put", **put(card.address, "sport"))
        assert by(reply, "on_air_by") - ordered_at < 10
        assert by(reply, "visible_by") - ordered_at < 3600
        await one.until(lambda: card.opens("sport-1", time.time()), "the channel to open")
        await mux.until(lambda: len(sent_at(mux, card.address)) >= 2, 30)
        first, second = sent_at(mux, card.address)[:2]
        assert first <= by(reply, "on_air_by")
        assert second <= by(reply, "visible_by")

        async def counted() -> bool:
            kept = 'cad_promises_total{operator="kaisa",outcome="kept",promise='
            return await metric(one, kept + '"on_air_by"') == [2] == await metric(one, kept + '"visible_by"')

        await one.until(counted, "the promises for assignment and order to be counted")
        assert await metric(one, 'cad_promises_total{operator="kaisa",outcome="missed"') == []
        assert await metric(one, "cad_promise_worst_miss_seconds{") == []


async def test_m02_c13_single_orders_pass_a_mass_change_and_every_promise_is_kept(tmp_path: Path) -> None:
    async with (
        running(tmp_path, 20) as one,
        portal(one.broker, "kaisa") as kaisa,
        portal(one.broker, "other") as other,
    ):
        mux, singles = one.multiplexers[0], [FIRST["kaisa"] + MANY, FIRST["other"]]
        addresses = await subscribers(kaisa)
        for own, address in zip((kaisa, other), singles, strict=True):
            await committed(own, "offer put", **FILM)
            await committed(own, "card assign", **assign(address))

        async def quiet() -> bool:
            return bool((await one.ask("/v1/status")).json()["networks"][0]["multiplexes"][0]["waiting_changes"] == 0)

        await one.until(quiet, "what was ordered to be sent", 90)
        since = len(mux.arrivals)
        mass = await committed(kaisa, "offer put", **SPORT, rev=2, products=["sport", "film"])
        assert f"{MANY} cards" in mass["detail"]
        replies = [
            await committed(own, "subscription put", **put(address, "film"))
            for own, address in zip((kaisa, other), singles, strict=True)
        ]
        now = time.time()
        assert all(by(reply, "on_air_by") - now < 10 for reply in replies)
        assert by(mass, "on_air_by") - now > 30
        for address, reply in zip(singles, replies, strict=True):
            await mux.until(lambda address=address: len(sent_at(mux, address)) >= 1, 30)
            assert sent_at(mux, address)[0] <= by(reply, "on_air_by")
        waiting = (await one.ask("/v1/carousel")).json()["multiplexes"][0]["operators"]
        assert [(row["operator"], row["weight"]) for row in waiting] == [("kaisa", 1), ("other", 1)]
        assert waiting[0]["bulk_cards"] > 10
        await mux.until(lambda: all_sent(mux, addresses, since), 120)
        assert time.time() <= by(mass, "on_air_by")
        assert await metric(one, 'cad_promises_total{operator="other",outcome="missed"') == []


async def test_x02_where_the_bandwidth_does_not_suffice_the_reply_says_so_and_an_alarm_is_raised(
    tmp_path: Path,
) -> None:
    # With so little weight, what is left for the operator's own cards at the lower rate lasts for hours.
    async with running(tmp_path, 200, weight=0.01) as one, portal(one.broker, "kaisa") as kaisa:
        mux = one.multiplexers[0]
        await subscribers(kaisa)

        async def hours_kept(kaisa: int, other: int) -> bool:
            begins = 'cad_condition_ok{condition="hour",subject='
            found = [await metric(one, f'{begins}"{operator}"}}') for operator in ("kaisa", "other")]
            return found == [[kaisa], [other]]

        await one.until(lambda: hours_kept(1, 1), "the hour to be kept for all")
        mux.allocate(4)

        async def slow() -> bool:
            return await metric(one, "cad_rate_allocated_bps{") == [4000]

        await one.until(slow, "the lower rate to be taken", 30)
        mass = await committed(kaisa, "offer put", **SPORT, rev=2, products=["sport", "film"])
        assert "more than an hour" in mass["detail"]
        assert by(mass, "visible_by") - time.time() > 3600

        async def alarmed() -> bool:
            return await metric(one, 'cad_condition_ok{condition="rate",subject="mux-0"}') == [0]

        await one.until(alarmed, "the alarm to be raised")
        await one.until(lambda: hours_kept(0, 1), "the alarm that the hour is at risk, for that operator alone")
        assert await metric(one, "cad_shortfall{") == [1]
