"""Events in ECMs: exact to the second, told after each commit, never in the way of who opens the service anyway."""

from pathlib import Path

import pytest

from cad.ecmg.events import LOOK_EVERY_S, EventFeed
from cad.ecmg.services import Audience, ServiceBook
from cad.ledger.ledger import Ledger
from cad.ledger.model import EventGrant, EventWindow, Grants, OperatorGrant
from config.settings import PRODUCTS_PER_SERVICE_MAX
from emm.ecm import parse_ecm
from tests.support.cards import CALENDAR
from tests.support.clock import ManualClock
from tests.support.ecmg import FILM, NETWORK, SPORT, running_ecmg
from tests.support.eventually import eventually
from tests.support.ledgers import KEY, order

NOW = 1_800_000_000
GRANTS = Grants(
    {
        "karjaa": OperatorGrant(
            "net",
            {},
            ((0, 99),),
            (),
            events=EventGrant(frozenset({"film"}), range(500, 510), 2, CALENDAR, frozenset({"karjaa"})),
        )
    }
)


def window(product_id: int, starts_at: int, ends_at: int, service: str = "sport", network: str = "net") -> EventWindow:
    return EventWindow(network, "karjaa", f"e-{product_id}", service, product_id, starts_at, ends_at)


def test_the_audience_changes_with_the_second() -> None:
    book = ServiceBook([NETWORK])
    book.follow_events([window(500, 100, 200), window(501, 150, 300), window(502, 100, 300, "free")])
    for now, events in ((99, ()), (100, (500,)), (149, (500,)), (150, (500, 501)), (200, (501,)), (300, ()), (99, ())):
        for _ in range(2):
            assert book.audience(SPORT, now) == Audience(101, (1, 2, *events)), now
        assert book.audience(FILM, now) == Audience(102, (2,))


def test_events_follow_the_settings_and_leave_with_their_service() -> None:
    book = ServiceBook([NETWORK])
    book.follow_events([window(500, 100, 200), window(501, 100, 200, "gone"), window(502, 100, 200, network="other")])
    assert book.audience(SPORT, 100).product_ids == (1, 2, 500)
    services = [one.model_dump() for one in NETWORK.services if one.id != "sport"]
    products = [{"id": "all", "product_id": 2, "services": ["film"]}]
    changed = NETWORK.model_validate(NETWORK.model_dump() | {"services": services, "products": products})
    book.follow([changed])
    assert book.audience(FILM, 100).product_ids == (2,)
    book.follow([NETWORK])
    assert book.audience(SPORT, 100).product_ids == (1, 2, 500)


def test_more_events_than_fit_never_take_the_ecm_from_others() -> None:
    book = ServiceBook([NETWORK])
    book.follow_events([window(product_id, product_id, 2000) for product_id in range(500, 530)])
    found = book.audience(SPORT, 1000).product_ids
    assert len(found) == PRODUCTS_PER_SERVICE_MAX
    assert found == (1, 2, *range(500, 509)), "those that began first stay"


@pytest.mark.slow
async def test_the_feed_tells_at_the_start_and_after_each_commit(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        ledger = await Ledger.open(tmp_path / "ledger.db", audit_key=KEY, grants=GRANTS, clock=clock)
        feed = EventFeed(ledger, clock, ecmg.server.follow_events)
        await feed.refresh()
        ecmg.supervisor.start("events", feed.run)
        await scs.open_channel()
        await scs.open_stream(1)

        async def products() -> tuple[int, ...]:
            return parse_ecm(await scs.order(1, 7, {7: b"word-007", 8: b"word-008"}, FILM)).product_ids

        assert await products() == (2,)
        body = {"offer": "cup", "rev": 1, "kind": "event", "names": {"fi": "Cup"}, "service": "film"}
        times = {"starts_at": "2027-01-15T08:00:00Z", "ends_at": "2027-01-15T08:00:10Z"}
        (outcome,) = await ledger.commit([order("karjaa", "offer", "put", "c-1", **body, **times)])
        assert outcome.code == "ok"

        await eventually(lambda: ecmg.server.facts()["events"])
        assert await products() == (2, 500)
        (shown,) = ecmg.server.facts()["events"]
        assert (shown["offer"], shown["product_id"], shown["running"]) == ("cup", 500, True)
        clock.set(NOW + 9.999)
        assert await products() == (2, 500)
        clock.set(NOW + 10)
        assert await products() == (2,)
        assert ecmg.server.facts()["events"] == []
        await clock.advance(LOOK_EVERY_S)
        await eventually(lambda: not ecmg.server._book.events)
        await ecmg.supervisor.stop("events")
        await ledger.close()
