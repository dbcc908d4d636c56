"""A catalogue held against the ledger: what would be done is what is done, and nothing is done by looking."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cad.errors import NotFoundError
from cad.ledger.acts import catalogue
from cad.ledger.acts.catalogue import OfferChange
from cad.ledger.store import Store
from protocol.portal.commands.catalogue import read
from tests.support.hand_headend import GRANTS, at
from tests.support.ledgers import open_store, order, take

NOW = at("2026-11-20 12:00")
MATCH = {
    "offer": "match",
    "kind": "event",
    "names": {"fi": "Ottelu"},
    "service": "cinema",
    "starts_at": "2026-11-21T20:00:00+02:00",
    "ends_at": "2026-11-21T22:00:00+02:00",
}
SPORT: dict[str, Any] = {"offer": "sport", "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport", "film"]}


class Desk:
    """A ledger that catalogues are loaded into."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self._ids = count(1)
        self.store: Store = open_store(folder, grants=GRANTS, now=self.now)

    def compare(self, *offers: dict[str, Any], operator: str = "karjaa") -> list[OfferChange]:
        wanted = read({"operator": operator, "offers": list(offers)})
        return self.store.perform(lambda act, held: catalogue.compare(act, held, wanted, "anna"), float(self.now))

    def load(self, *offers: dict[str, Any]) -> list[OfferChange]:
        """Compare and do it; what comes of it must be what was rehearsed."""
        shown = self.compare(*offers)
        done = []
        for one in shown:
            if one.order is None:
                done.append(one)
            else:
                (outcome,) = take(self.store, one.order, now=float(self.now))
                done.append(catalogue.done(one, outcome))
        assert [(one.offer, one.code, one.cards) for one in done] == [(one.offer, one.code, one.cards) for one in shown]
        assert catalogue.fingerprint(done) == catalogue.fingerprint(shown)
        return done

    def order(self, command: str, **body: Any) -> None:
        (outcome,) = take(
            self.store, order("karjaa", *command.split(), f"id-{next(self._ids)}", **body), now=float(self.now)
        )
        assert outcome.code == "ok", outcome


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    one = Desk(tmp_path)
    yield one
    one.store.close()


def spelt(changes: list[OfferChange]) -> dict[str, str]:
    return {one.offer: f"{one.change} {one.code}" for one in changes}


def test_an_event_is_loaded_moved_and_left_alone_when_it_is_over(desk: Desk) -> None:
    assert spelt(desk.load(MATCH, SPORT)) == {"match": "new ok", "sport": "new ok"}
    assert spelt(desk.compare(MATCH, SPORT)) == {"match": "unchanged ok", "sport": "unchanged ok"}
    desk.order("card assign", card=1, rev=1, subscriber="anna")
    desk.order("subscription put", subscription="s", rev=1, card=1, offer="match")
    (moved, _) = desk.load(MATCH | {"ends_at": "2026-11-21T22:30:00+02:00"}, SPORT)
    assert [(one.field, one.before, one.after) for one in moved.fields] == [
        ("ends_at", "2026-11-21T20:00:00Z", "2026-11-21T20:30:00Z")
    ]
    assert moved.cards == 1
    desk.now = at("2026-11-22 12:00")
    assert spelt(desk.compare(SPORT)) == {"sport": "unchanged ok"}, "it is over: there is nothing to withdraw"
    assert spelt(desk.compare(MATCH, SPORT))["match"] == "changed event_over"


def test_the_cards_that_are_counted_are_those_whose_rights_change(desk: Desk) -> None:
    mix = {"offer": "mix", "kind": "mix", "choose": 1, "names": {"fi": "M"}, "products": ["basic", "film", "sport"]}
    desk.load(SPORT, mix)
    for card, choice in ((1, "basic"), (2, "film"), (3, "sport")):
        desk.order("card assign", card=card, rev=1, subscriber="anna")
        desk.order("subscription put", subscription=f"s-{card}", rev=1, card=card, offer="mix", choice=[choice])
    desk.order("subscription put", subscription="all", rev=1, card=1, offer="sport")
    less = mix | {"products": ["basic", "sport"]}
    assert {one.offer: one.cards for one in desk.compare(SPORT | {"products": ["sport"]}, less)} == {
        "sport": 1,
        "mix": 1,
    }
    renamed = mix | {"names": {"fi": "Valitse"}, "choose": 2}
    assert [(one.change, one.cards) for one in desk.load(SPORT, renamed)] == [("unchanged", 0), ("changed", 0)]
    assert [(one.change, one.cards) for one in desk.load(less)] == [("changed", 1), ("withdrawn", 0)]


def test_the_order_of_products_and_unsaid_defaults_are_told_apart_rightly(desk: Desk) -> None:
    desk.load(SPORT | {"terms": {"price": "1 EUR"}})
    assert spelt(desk.compare(SPORT | {"terms": {"price": "1 EUR", "ended_by": "customer"}}))["sport"] == "unchanged ok"
    (turned,) = desk.compare(SPORT | {"terms": {"price": "1 EUR"}, "products": ["film", "sport"]})
    assert ([one.field for one in turned.fields], turned.cards) == (["products"], 0)
    (freed,) = desk.compare(SPORT)
    assert [(one.field, one.before, one.after) for one in freed.fields] == [("terms.price", "1 EUR", None)]


def test_a_withdrawn_offer_is_sold_again_when_it_comes_back(desk: Desk) -> None:
    other = SPORT | {"offer": "other"}
    desk.load(SPORT, other)
    assert spelt(desk.load(other)) == {"other": "unchanged ok", "sport": "withdrawn ok"}
    assert spelt(desk.load(other)) == {"other": "unchanged ok"}
    (back, _) = desk.load(SPORT, other)
    assert [(one.field, one.before, one.after) for one in back.fields] == [("withdrawn", True, None)]


def test_looking_changes_nothing(desk: Desk) -> None:
    desk.load(SPORT)
    before = desk.store.head
    desk.compare(MATCH, SPORT | {"products": ["news"]})
    desk.store.perform(lambda act, held: catalogue.standing(act, held, None), float(desk.now))
    assert desk.store.head == before
    assert spelt(desk.compare(SPORT)) == {"sport": "unchanged ok"}


def test_an_operator_that_is_not_in_the_settings_has_no_catalogue(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="karjaa, kaspnet"):
        desk.compare(SPORT, operator="nobody")
