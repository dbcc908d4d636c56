"""The network that the whole headend is tested with, and what its operators sell at the beginning."""

from typing import Any
from zoneinfo import ZoneInfo

from config.settings import Settings
from protocol.card_number import spell
from tests.support.headend_model.headend import HeadendModel
from tests.support.headend_model.state import Operator

HELSINKI = ZoneInfo("Europe/Helsinki")
MUXES = ("mux-1", "mux-2")
PRODUCTS = {"basic": 1, "sport": 2, "film": 3, "news": 4}
NOBODYS = 9
"""The product of a service on which only events are sold."""
SERVICES = {"basic-1": 101, "sport-1": 102, "film-1": 103, "news-1": 104, "cinema": 105}
OPENED_BY = {"basic-1": 1, "sport-1": 2, "film-1": 3, "news-1": 4, "cinema": NOBODYS}
EVENTS_ON = ("cinema", "sport-1")
EVENT_NUMBERS = range(40_000, 40_004)
EVENTS_AT_ONCE = 2
REGIONS = {"coast": 7, "inland": 8}
CARDS = {"karjaa": range(10), "kaspnet": range(1000, 1003)}
SOLD = {"karjaa": tuple(PRODUCTS), "kaspnet": ("sport",)}
SERVED = {"karjaa": tuple(SERVICES), "kaspnet": EVENTS_ON}
ADDRESSES = (1, 2, 3, 4, 1000, 5000)
"""Cards that orders speak of; the last one is nobody's."""
RECEIVERS = (1, 2, 3, 4, 1000)
"""Cards that lie in a receiver."""
OFFERS: dict[str, dict[str, Any]] = {
    "basic": {},
    "sport": {"requires": ["basic"]},
    "film": {"minimum_months": 2, "ended_by": "customer-service"},
    "season": {"fixed_months": 1},
    "loose": {},
    "pick-1": {},
    "pick-2": {},
}
"""Offers by name, with their terms."""
CHOOSE = {"pick-1": 1, "pick-2": 2}
"""How many products are chosen in each mix."""


def settings() -> Settings:
    """The headend's settings."""
    return Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1"},
            "keys": {"passphrase_file": "/nowhere"},
            "ca": {"ca_system_id": 0x4AD1},
            "networks": [_network()],
            "operators": [
                {
                    "id": name,
                    "network": "south",
                    "products": list(SOLD[name]),
                    "events_on": list(EVENTS_ON),
                    "card_ranges": [{"first": spell(cards[0]), "last": spell(cards[-1])}],
                    "time_zone": HELSINKI.key,
                }
                for name, cards in CARDS.items()
            ],
        }
    )


def _network() -> dict[str, Any]:
    dvb = {"original_network_id": 1, "transport_stream_id": 1}
    opened_by = {slug: f"{slug}-1" for slug in PRODUCTS} | {"nobodys": "cinema"}
    return {
        "id": "south",
        "multiplexes": [{"id": name, "host": "127.0.0.1", "port": 1, "client_id": 1} for name in MUXES],
        "services": [{"id": name, "name": name, "service_id": number, **dvb} for name, number in SERVICES.items()],
        "products": [
            {"id": slug, "product_id": OPENED_BY[service], "services": [service]} for slug, service in opened_by.items()
        ],
        "regions": [{"id": name, "name": name, "number": number} for name, number in REGIONS.items()],
        "event_products": [EVENT_NUMBERS[0], EVENT_NUMBERS[-1]],
        "events_at_once": EVENTS_AT_ONCE,
    }


def model() -> HeadendModel:
    """The same for the model."""
    operators = {
        name: Operator(
            {slug: PRODUCTS[slug] for slug in SOLD[name]},
            cards,
            HELSINKI,
            {service: SERVICES[service] for service in SERVED[name]},
            EVENTS_ON,
            REGIONS,
        )
        for name, cards in CARDS.items()
    }
    return HeadendModel(operators, EVENT_NUMBERS, EVENTS_AT_ONCE)
