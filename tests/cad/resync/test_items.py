"""Rows of the ledger as items: what the models in `protocol` say, and nothing else."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from cad.ledger.look.copying import Copied, Watch, _changed
from cad.ledger.store import Store
from cad.resync.items import EXTRACTS, Spelling
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import FIELDS, Item
from tests.support.ledgers import NOW, assign, end, offer, open_store, order, subscribe, take

READ = TypeAdapter(Item)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = open_store(tmp_path)
    terms = {"minimum_months": 3, "price": "9.90 EUR"}
    take(one, offer(heading={"fi": "Kanavat ä"}, terms=terms), assign(), assign("a-2", card=8))
    take(one, subscribe(), subscribe("two", subscription="s-2", ends_at="2027-03-01T00:00:00+02:00"))
    take(one, order("karjaa", "card", "suspend", "x", card=8, rev=2, reason="unpaid"))
    yield one
    one.close()


def rows(store: Store) -> Copied:
    watch = Watch("karjaa", {7, 8}, {"s-1", "s-2"}, offers=True)
    return store.read(lambda held: _changed(held, watch, store, NOW))


def test_every_field_of_a_model_is_filled_and_no_other() -> None:
    assert {item: set(extracts) for item, extracts in EXTRACTS.items()} == FIELDS


def test_lines_are_what_the_portal_spells(store: Store) -> None:
    for key, line in Spelling(None, int(NOW)).lines(rows(store)):
        assert line is not None
        item = READ.validate_json(line)
        assert key == snapshot.key(item.item, snapshot.name_of(snapshot.spell(item)))
        assert snapshot.line(snapshot.spell(item)) == line


def test_the_canonical_form_is_as_the_page_says(store: Store) -> None:
    found = dict(Spelling({"card": ("state", "subscriber")}, int(NOW)).lines(rows(store)))
    name = "000000000075"
    bucket = hashlib.sha256(f"card/{name}".encode()).hexdigest()[:2]
    line = f'{{"card":"{name}","item":"card","state":"active","subscriber":"anna"}}\n'
    assert found[f"{bucket}/card/{name}"] == line
    assert {json.loads(one or "{}")["item"] for one in found.values()} == {"card"}


def test_ended_subscriptions_are_left_out_from_the_moment_that_was_named(store: Store) -> None:
    take(store, end(authority="customer-service"), now=NOW + 10)
    key = snapshot.key("subscription", "s-1")
    assert dict(Spelling(None, int(NOW) + 10).lines(rows(store)))[key] is None
    assert dict(Spelling(None, int(NOW) + 9).lines(rows(store)))[key] is not None


def test_a_region_goes_by_its_name(store: Store) -> None:
    with store.database.transaction() as held:
        held.exec_driver_sql("UPDATE cards SET region = 3 WHERE address = 7")
    spelt = dict(Spelling({"card": ("region",)}, int(NOW)).lines(replace(rows(store), regions={3: "north"})))
    regions = {card["card"]: card["region"] for card in map(json.loads, filter(None, spelt.values()))}
    assert regions == {"000000000075": "north", "000000000083": None}


def test_what_a_card_has_not_is_null(store: Store) -> None:
    found = dict(Spelling(None, int(NOW)).lines(rows(store)))
    card = json.loads(found[snapshot.key("card", "000000000083")] or "{}")
    assert card == {
        "item": "card",
        "card": "000000000083",
        "rev": 2,
        "state": "suspended",
        "subscriber": "anna",
        "reason": "unpaid",
        "until": None,
        "replacement": None,
        "receiver": None,
        "region": None,
        "parental_level": 0,
    }
