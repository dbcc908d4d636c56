"""What must fit together about events: their numbers, the services they run on, the room in those services' ECMs."""

from collections import Counter
from collections.abc import Iterator

from config.errors import Problem
from config.settings import PRODUCTS_IN_PACKET_MAX, PRODUCTS_PER_SERVICE_MAX, NetworkSettings, Settings


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield what is refused."""
    yield from _numbers(settings)
    networks = {network.id: network for network in settings.networks}
    for i, operator in enumerate(settings.operators):
        network = networks.get(operator.network)
        if operator.events_on and network is not None and not network.event_numbers:
            text = f"network {network.id} has no event_products: name the first and the last product_id for events"
            yield Problem(f"operators.{i}.events_on", text)
    for at, network, service, count in _rooms(settings):
        if count > PRODUCTS_PER_SERVICE_MAX:
            text = (
                f"{service} is in {count - network.events_at_once} products, and may have {network.events_at_once}"
                f" events at once; an ECM has room for {PRODUCTS_PER_SERVICE_MAX}: lower events_at_once, or let offers"
                " share products"
            )
            yield Problem(at, text)


def remarks(settings: Settings) -> Iterator[Problem]:
    """Yield what is shown by `cad check`."""
    for at, network, service, count in _rooms(settings):
        if PRODUCTS_IN_PACKET_MAX < count <= PRODUCTS_PER_SERVICE_MAX:
            text = (
                f"with {network.events_at_once} events at once {service} is in {count} products: its ECMs then take two"
                f" TS packets; one has room for {PRODUCTS_IN_PACKET_MAX}"
            )
            yield Problem(at, text)


def event_services(settings: Settings, network: str) -> frozenset[str]:
    """Return the services of a network on which some operator may sell events."""
    return frozenset(
        one for operator in settings.operators if operator.network == network for one in operator.events_on
    )


def _numbers(settings: Settings) -> Iterator[Problem]:
    """One master key serves all networks: a number means the same in all of them."""
    pools = [
        (network.event_numbers, f"networks.{i}.event_products", network.id)
        for i, network in enumerate(settings.networks)
        if network.event_numbers
    ]
    for i, network in enumerate(settings.networks):
        for j, product in enumerate(network.products):
            for numbers, at, _ in pools:
                if product.product_id in numbers:
                    text = f"{product.product_id} of {product.id} is a number for events ({at})"
                    yield Problem(f"networks.{i}.products.{j}.product_id", text)
    for place, (numbers, at, name) in enumerate(pools):
        for earlier, _, other in pools[:place]:
            if numbers[0] <= earlier[-1] and earlier[0] <= numbers[-1]:
                yield Problem(at, f"networks {other} and {name} have numbers for events in common")


def _rooms(settings: Settings) -> Iterator[tuple[str, NetworkSettings, str, int]]:
    """Yield each service with events: its place, network, id, and the most products that its ECMs may name."""
    for i, network in enumerate(settings.networks):
        if not network.event_numbers:
            continue
        counts = Counter(service for product in network.products for service in set(product.services))
        on = event_services(settings, network.id)
        for j, service in enumerate(network.services):
            if service.id in on:
                yield f"networks.{i}.services.{j}", network, service.id, counts[service.id] + network.events_at_once
