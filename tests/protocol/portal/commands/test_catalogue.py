"""A catalogue is read strictly, and everything that is wrong with it is said at once."""

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.portal.commands import catalogue
from protocol.portal.commands.catalogue import CatalogueError

SPORT = {"offer": "sport", "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}


def document(*offers: Any, **more: Any) -> dict[str, Any]:
    return {"operator": "karjaa", "offers": list(offers) or [SPORT]} | more


def wrong(found: object) -> dict[str, str]:
    with pytest.raises(CatalogueError) as refused:
        catalogue.read(found)
    for one in refused.value.errors:
        assert f"{one.field}: {one.text}" in str(refused.value) or not one.field
    return {one.field: one.text for one in refused.value.errors}


def test_the_example_that_ships_is_a_catalogue() -> None:
    plain = json.dumps(tomllib.loads(Path("config/catalogue.example.toml").read_text()), default=datetime.isoformat)
    found = catalogue.read(json.loads(plain))
    assert found.operator == "karjaa"
    assert [(one.offer, one.kind, one.choose) for one in found.offers] == [
        ("sport", "channel", None),
        ("family", "package", None),
        ("mix-2", "mix", 2),
        ("film-autumn", "channel", None),
        ("final-2027", "event", None),
    ]
    assert {one.id for one in found.offers} == {""}
    assert found.offers[0].heading == {"en": "Channels", "fi": "Kanavat", "sv": "Kanaler"}


def test_a_heading_stands_once_or_in_the_offer() -> None:
    headings = {"tv": {"fi": "Kanavat"}}
    found = catalogue.read(document(SPORT | {"heading": "tv"}, headings=headings))
    assert found.offers[0].heading == {"fi": "Kanavat"}
    assert catalogue.read(document(SPORT | {"heading": {"sv": "TV"}})).offers[0].heading == {"sv": "TV"}
    assert wrong(document(SPORT | {"heading": "radio"}, headings=headings)) == {
        "offers.0.heading": "there is no radio among the headings"
    }


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = wrong(
        {
            "oprator": "karjaa",
            "headings": {"Tv": {"fi": ""}},
            "offers": [
                SPORT | {"prodcts": ["film"]},
                SPORT | {"kind": "mix"},
                SPORT | {"offer": "film", "id": "x", "rev": 3, "terms": {"fixed_months": 0}},
                "sport",
                SPORT,
                SPORT,
            ],
        }
    )
    assert found["oprator"] == "unknown key; did you mean operator?"
    assert found["operator"] == "is missing"
    assert found["offers.0.prodcts"] == "unknown key; did you mean products?"
    assert found["offers.1.choose"] == "say it for a mix, and for no other kind"
    assert found["offers.2.id"].startswith("unknown key")
    assert found["offers.2.rev"].startswith("unknown key")
    assert "greater than or equal to 1" in found["offers.2.terms.fixed_months"]
    assert found["offers.3"] == "should be a table"
    assert found["offers.5.offer"] == "sport stands in the catalogue twice"
    assert {"headings.Tv", "headings.Tv.fi"} <= found.keys()


@pytest.mark.parametrize(
    ("found", "field"),
    [
        (None, ""),
        ([], ""),
        ({"operator": "karjaa"}, "offers"),
        ({"operator": "karjaa", "offers": []}, "offers"),
        ({"operator": "karjaa", "offers": {"sport": SPORT}}, "offers"),
        (document(*[SPORT] * 1001), "offers"),
        (document(operator="Karjaa Oy"), "operator"),
        (document(operator=7), "operator"),
        (document(headings=["tv"]), "headings"),
        (document(SPORT | {"names": {"fi": float("nan")}}), "offers.0.names.fi"),
    ],
)
def test_what_is_no_catalogue_is_refused(found: object, field: str) -> None:
    assert list(wrong(found)) == [field]


NOTHING_OR_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "operator": st.just("karjaa") | NOTHING_OR_ANYTHING,
            "headings": NOTHING_OR_ANYTHING,
            "offers": st.lists(
                st.fixed_dictionaries({}, optional=dict.fromkeys([*SPORT, "heading"], NOTHING_OR_ANYTHING))
                | st.just(SPORT)
            ),
            "more": NOTHING_OR_ANYTHING,
        },
    )
)
def test_anything_is_a_catalogue_or_says_why_not(found: dict[str, Any]) -> None:
    try:
        read = catalogue.read(found)
    except CatalogueError as error:
        read = None
        said = error.errors
    assert said if read is None else read.offers


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert wrong(document(SPORT | {"terms": deep})) == {"offers.0": "is nested too deeply"}


def test_an_offer_has_the_fields_of_the_command() -> None:
    keys = set(catalogue.OFFER_KEYS)
    schema = json.loads(Path("docs/portal/schemas/command.offer.put.json").read_text())
    assert keys | {"id", "reply_to", "rev"} == set(schema["properties"])
