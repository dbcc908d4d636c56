"""Events in the settings: their numbers, the services they run on, the room in those services' ECMs."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from cad.ledger.model import Grants
from config import crosscheck
from config.errors import SettingsError
from config.load import from_mapping, load
from config.settings import Settings

EXAMPLE = Path("config/cad.example.toml")


def raw(**network: Any) -> dict[str, Any]:
    """The example with these keys of its first network."""
    example = tomllib.loads(EXAMPLE.read_text())
    example["networks"][0] |= network
    return example


def problems(settings: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        from_mapping(settings)
    return {problem.where: problem.text for problem in caught.value.problems}


def in_products(count: int) -> list[dict[str, Any]]:
    """Products, so many of which have the service of the example on which events are sold."""
    services = ["sport-1", "movies"]
    return [
        {"id": name, "product_id": 100 + number, "services": services if number <= count else ["sport-1"]}
        for number, name in enumerate(["sport", "all-channels", *(f"p{i}" for i in range(3, 12))], 1)
        if number <= max(count, 2)
    ]


def test_the_example_sells_events_on_one_service() -> None:
    grants = Grants.from_settings(load(EXAMPLE)).operators
    granted = grants["north-telco"].events
    assert granted is not None
    assert (granted.services, granted.numbers, granted.at_once) == ({"movies"}, range(40_000, 41_000), 2)
    assert granted.sellers == {"north-telco", "south-telco"}
    assert grants["south-telco"].events is None


@pytest.mark.parametrize(
    ("network", "where", "words"),
    [
        ({"event_products": [9, 8]}, "networks.0", "write the lower number first"),
        ({"event_products": [0, 8]}, "networks.0.event_products.0", "greater than or equal to 1"),
        ({"event_products": [2, 9]}, "networks.0.products.1.product_id", "2 of all-channels is a number for events"),
        ({"event_products": [3, 9]}, "networks.1.products.0.product_id", "3 of ip-basic is a number for events"),
        ({"events_at_once": 11}, "networks.0.events_at_once", "less than or equal to 10"),
        ({"events_at_once": 10, "products": in_products(2)}, "networks.0.services.1", "room for 11"),
    ],
)
def test_what_does_not_fit_is_refused(network: dict[str, Any], where: str, words: str) -> None:
    assert words in problems(raw(**network))[where]


def test_events_need_numbers_and_services_of_the_network() -> None:
    example = raw()
    del example["networks"][0]["event_products"]
    assert "name the first and the last" in problems(example)["operators.0.events_on"]
    example = raw()
    example["operators"][0]["events_on"] = ["movie"]
    assert "did you mean 'movies'" in problems(example)["operators.0.events_on.0"]
    example = raw()
    example["networks"][1]["event_products"] = [40_999, 41_999]
    assert "in common" in problems(example)["networks.1.event_products"]


@pytest.mark.parametrize(("products", "said"), [(5, False), (6, True), (9, True)])
def test_more_than_one_packet_is_remarked(products: int, said: bool) -> None:
    settings: Settings = from_mapping(raw(products=in_products(products)))
    told = [one.text for one in crosscheck.remarks(settings) if one.where == "networks.0.services.1"]
    assert [("two TS packets" in text) for text in told] == ([True] if said else [])


def test_a_service_of_two_networks_needs_room_for_the_events_of_both() -> None:
    example = raw(products=in_products(8))
    service = dict(example["networks"][0]["services"][1], id="movies-ip")
    second = example["networks"][1]
    second["services"].append(service)
    second["products"][0]["services"].append("movies-ip")
    second |= {"event_products": [50_000, 50_999]}
    third = {"id": "ip-telco", "network": "iptv-south", "products": ["ip-basic"], "events_on": ["movies-ip"]}
    example["operators"].append(third)
    assert "in 13 products and events" in problems(example)["networks.1.services.1"]
