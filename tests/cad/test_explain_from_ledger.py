"""X5: what `explain` takes from the ledger: offers that can be ordered, and offers that a card has not followed yet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cad.air.sent import CardOnAir
from cad.explain.document import explain_card, explain_channel
from cad.ledger.look import selling
from cad.ledger.model import Grants
from config.settings import NetworkSettings
from tests.support.hand_headend import GRANTS, NUMBERS, PRODUCTS, HandHeadend, at
from tests.support.ledgers import Air

SOUTH = NetworkSettings.model_validate(
    {
        "id": "south",
        "services": [
            {"id": slug, "name": slug.title(), "original_network_id": 1, "transport_stream_id": 2, "service_id": number}
            for slug, number in (PRODUCTS | {"cinema": 101}).items()
        ],
        "products": [{"id": slug, "product_id": number, "services": [slug]} for slug, number in PRODUCTS.items()],
    }
)
TOMORROW = at("2026-11-21 20:00")


@pytest.fixture
def headend(tmp_path: Path) -> Iterator[HandHeadend]:
    """Three cards with the package `home`; an offer that changes reaches one card at a time."""
    one = HandHeadend(tmp_path, at("2026-11-20 12:00"), roll_at_once=1)
    put(one, "home", "basic", "film")
    for number in NUMBERS[:3]:
        one.done("card assign", card=number, subscriber=f"of-{number}")
        one.done("subscription put", subscription=f"s-{number}", card=number, offer="home")
    yield one
    one.close()


def put(headend: HandHeadend, offer: str, *products: str, **more: Any) -> None:
    listed = {"products": list(products)} if products else {}
    headend.done("offer put", offer=offer, **({"kind": "package", "names": {"fi": offer}} | listed | more))


def sold(headend: HandHeadend, service: str, operator: str = "karjaa", grants: Grants = GRANTS) -> tuple[str, ...]:
    """The offers with the product of that name, or events on the service."""
    now = float(headend.now)
    return headend.store.read(lambda held: selling.offers_with(held, grants, operator, [service], service, now))


def test_what_can_be_ordered_is_told_and_nothing_else(headend: HandHeadend) -> None:
    put(headend, "sports", "sport")
    put(headend, "mix", "sport", "news", kind="mix", choose=1)
    put(headend, "old", "sport")
    headend.done("offer withdraw", offer="old")
    assert sold(headend, "sport") == ("mix", "sports")
    assert sold(headend, "basic") == ("home",)
    assert sold(headend, "sport", "kaspnet") == ()
    assert sold(headend, "sport", grants=Grants({})) == ()


def test_events_are_sold_until_they_are_over(headend: HandHeadend) -> None:
    window = {"service": "cinema", "starts_at": "2026-11-21T18:00:00Z", "ends_at": "2026-11-21T20:00:00Z"}
    put(headend, "match", kind="event", **window)
    assert sold(headend, "cinema") == ("match",)
    assert sold(headend, "sport") == ()
    headend.go_to(TOMORROW + 7_200)
    assert sold(headend, "cinema") == ()


def test_a_card_that_has_not_followed_its_offer_yet_is_told_so(headend: HandHeadend) -> None:
    heard = [CardOnAir("mux-1", True, "base", headend.now, headend.now, headend.now + 60.0)]
    services = {service.id: service for service in SOUTH.services}

    def channel(number: str, service: str) -> tuple[str, str, list[str]]:
        changes = headend.view(number).changes
        headend.store.first_air([Air(change.change_seq, "mux-1", change.at) for change in changes], headend.now)
        found = explain_channel(headend.view(number), SOUTH, services[service], headend.calendar, headend.now, heard)
        return found["code"], found["sentence"], [need["code"] for need in found["needs"]]

    put(headend, "home", "basic", "sport")
    first, last = NUMBERS[0], NUMBERS[2]
    assert channel(first, "sport")[0] == "visible"
    assert channel(first, "film")[0] == "no_subscription"
    code, sentence, needs = channel(last, "sport")
    assert (code, needs) == ("on_its_way", ["offer_changed"])
    assert sentence == "home has changed and includes Sport now; this card follows within minutes."
    code, sentence, needs = channel(last, "film")
    assert (code, needs) == ("visible", [])
    assert "home has changed and does not include Film any more" in sentence
    assert channel(last, "basic")[1].endswith("for some minutes.")
    whole = explain_card(headend.view(last), SOUTH, headend.calendar, headend.now, heard)
    assert whole["behind"] == ["home"]

    headend.go_to(headend.now + 60)
    assert [channel(last, service)[0] for service in ("sport", "film")] == ["visible", "no_subscription"]
    assert explain_card(headend.view(last), SOUTH, headend.calendar, headend.now, heard)["behind"] == []
