"""What there is in the sandbox: channels, products, two operators, a few cards."""

from __future__ import annotations

import json
from typing import Final

from cad.demo import place as places
from protocol import card_number

CARDS: Final = 4
OTHER_OPERATOR: Final = "other-telco"
OPERATORS: Final = (places.OPERATOR, OTHER_OPERATOR)
CHANNELS: Final = {"sport-1": 101, "sport-2": 102, "film-1": 111, "news-1": 121}
"""service_id by the channel's id."""
PRODUCTS: Final = {"sport": (7, ("sport-1", "sport-2")), "film": (8, ("film-1",)), "news": (9, ("news-1",))}
"""product_id and channels by the product's id."""

_SERVICE: Final = """
[[networks.services]]
id = "{id}"
name = "{name}"
original_network_id = 1
transport_stream_id = 1
service_id = {number}
"""
_PRODUCT: Final = """
[[networks.products]]
id = "{id}"
product_id = {number}
services = {services}
"""
_OPERATOR: Final = """
[[operators]]
id = "{id}"
network = "demo-net"
products = {products}
card_ranges = [{{ first = "{first}", last = "{last}" }}]
"""


def template() -> str:
    """Return the settings, with places for directory, ports and CA_system_id still in braces."""
    head, _, _ = places.SETTINGS.partition("[[networks.services]]")
    parts = [
        *(_SERVICE.format(id=one, name=one.replace("-", " ").title(), number=CHANNELS[one]) for one in CHANNELS),
        *(
            _PRODUCT.format(id=one, number=number, services=json.dumps(channels))
            for one, (number, channels) in PRODUCTS.items()
        ),
        *(_operator(place, one) for place, one in enumerate(OPERATORS)),
    ]
    return head + "".join(parts).replace("{", "{{").replace("}", "}}")


def first_card(operator: str) -> int:
    """Return the address of an operator's first card; it has a hundred."""
    return places.FIRST_CARD + 1000 * OPERATORS.index(operator)


def _operator(place: int, name: str) -> str:
    first = first_card(name)
    granted = list(PRODUCTS)[place:]
    return _OPERATOR.format(
        id=name, products=json.dumps(granted), first=card_number.spell(first), last=card_number.spell(first + 99)
    )
