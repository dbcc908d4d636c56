"""What must fit together across the tables of the settings: ids, references, card ranges, stream ids.

`problems` are refused; `remarks` are legal, but most likely not what was meant.
"""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from config import blackout_checks, ecmg_checks, event_checks
from config.errors import Problem
from config.fields import is_loopback, listen_address
from config.outlets import MultiplexSettings, StreamSettings
from config.settings import (
    PRODUCTS_PER_SERVICE_MAX,
    NetworkSettings,
    Settings,
)
from protocol import card_number


def problems(settings: Settings) -> list[Problem]:
    """Return everything that does not fit together; an empty list means that the settings can be used."""
    return [
        *_twice("networks", "id", ((f"networks.{i}", n.id) for i, n in enumerate(settings.networks))),
        *_twice("operators", "id", ((f"operators.{i}", o.id) for i, o in enumerate(settings.operators))),
        *_twice("multiplexes and streams of all networks", "id", _outlet_ids(settings)),
        *_product_ids(settings),
        *(problem for i, network in enumerate(settings.networks) for problem in _network(f"networks.{i}", network)),
        *_stream_ids(settings),
        *_twice("(host, port) of streams", "port", ((at, (one.host, one.port)) for at, one in _streams(settings))),
        *_operators(settings),
        *_card_ranges(settings),
        *event_checks.problems(settings),
        *blackout_checks.problems(settings),
        *ecmg_checks.problems(settings),
        *_people(settings),
    ]


def remarks(settings: Settings) -> list[Problem]:
    """Return what is allowed and yet likely a mistake; shown by `cad check` and at start."""
    found = []
    if settings.mqtt.tls is None and not is_loopback(settings.mqtt.host):
        found.append(Problem("mqtt", "the broker is on another machine and there is no [mqtt.tls]: orders go in clear"))
    listen = listen_address(settings.node.http_listen)
    if listen is not None and not is_loopback(listen[0]):
        text = "is not on the loopback: whoever reaches it reads operators and figures; leave that to a proxy"
        found.append(Problem("node.http_listen", text))
    if settings.technicians is not None and not settings.technicians.people:
        found.append(Problem("technicians", "nobody stands in technicians.people: the port lets nobody in"))
    for at, mux in _multiplexes(settings):
        # ETSI TS 103 197 clause 6.2.3: the upper half of client_id should be the CA_system_id.
        if mux.client_id >> 16 != settings.ca.ca_system_id:
            found.append(
                Problem(
                    f"{at}.client_id",
                    f"its upper half is 0x{mux.client_id >> 16:04X}, not ca_system_id 0x{settings.ca.ca_system_id:04X}:"
                    " keep it only if the multiplexer is set up so",
                )
            )
    for at, stream in _streams(settings):
        # RFC 3550, 11: RTP takes an even port, its RTCP the next.
        if stream.protocol == "rtp" and stream.port % 2:
            found.append(Problem(f"{at}.port", "RTP takes an even port; some receivers round an odd one down"))
    for i, network in enumerate(settings.networks):
        if not network.outlets:
            text = f"network {network.id} has no multiplex and no stream: nothing is sent to its cards"
            found.append(Problem(f"networks.{i}", text))
    for i, operator in enumerate(settings.operators):
        if not operator.card_ranges:
            found.append(Problem(f"operators.{i}", f"operator {operator.id} has no card_ranges: it can use no card"))
        if not operator.products and not operator.events_on:
            found.append(Problem(f"operators.{i}", f"operator {operator.id} has no products: it can sell nothing"))
    found += [*event_checks.remarks(settings), *blackout_checks.remarks(settings)]
    return [*found, *ecmg_checks.remarks(settings)]


def _multiplexes(settings: Settings) -> Iterator[tuple[str, MultiplexSettings]]:
    for i, network in enumerate(settings.networks):
        for j, mux in enumerate(network.multiplexes):
            yield f"networks.{i}.multiplexes.{j}", mux


def _streams(settings: Settings) -> Iterator[tuple[str, StreamSettings]]:
    for i, network in enumerate(settings.networks):
        for j, stream in enumerate(network.streams):
            yield f"networks.{i}.streams.{j}", stream


def _outlet_ids(settings: Settings) -> Iterator[tuple[str, str]]:
    yield from ((at, mux.id) for at, mux in _multiplexes(settings))
    yield from ((at, stream.id) for at, stream in _streams(settings))


def _twice(where: str, key: str, located: Iterable[tuple[str, object]]) -> Iterator[Problem]:
    """Yield one problem for every value that came before, at the later place."""
    first: dict[object, str] = {}
    for at, value in located:
        if value in first:
            yield Problem(f"{at}.{key}", f"{value!r} is used twice in {where}: first at {first[value]}")
        else:
            first[value] = at


def _unknown(at: str, kind: str, name: str, known: Collection[str]) -> Problem:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(sorted(known)) or 'none'}"
    return Problem(at, f"unknown {kind} {name!r}{hint}")


def _references(at: str, kind: str, names: tuple[str, ...], known: Collection[str]) -> Iterator[Problem]:
    for i, name in enumerate(names):
        if name not in known:
            yield _unknown(f"{at}.{i}", kind, name, known)
        elif name in names[:i]:
            yield Problem(f"{at}.{i}", f"{kind} {name!r} stands twice in this list")


def _product_ids(settings: Settings) -> Iterator[Problem]:
    return _twice(
        "products of all networks",
        "product_id",
        (
            (f"networks.{i}.products.{j}", product.product_id)
            for i, network in enumerate(settings.networks)
            for j, product in enumerate(network.products)
        ),
    )


def _network(at: str, network: NetworkSettings) -> Iterator[Problem]:
    where = f"network {network.id}"
    services = {service.id for service in network.services}
    yield from _twice(where, "id", ((f"{at}.services.{i}", s.id) for i, s in enumerate(network.services)))
    yield from _twice(where, "id", ((f"{at}.products.{i}", p.id) for i, p in enumerate(network.products)))
    triplets = (
        (f"{at}.services.{i}", (s.original_network_id, s.transport_stream_id, s.service_id))
        for i, s in enumerate(network.services)
    )
    yield from _twice(where, "service_id", triplets)
    for i, product in enumerate(network.products):
        yield from _references(f"{at}.products.{i}.services", "service", product.services, services)
    yield from _twice(where, "id", ((f"{at}.regions.{i}", r.id) for i, r in enumerate(network.regions)))
    yield from _twice(where, "number", ((f"{at}.regions.{i}", r.number) for i, r in enumerate(network.regions)))
    regions = {region.id for region in network.regions}
    for i, blackout in enumerate(network.blackouts):
        if blackout.service not in services:
            yield _unknown(f"{at}.blackouts.{i}.service", "service", blackout.service, services)
        yield from _references(f"{at}.blackouts.{i}.regions", "region", blackout.regions, regions)
    counts = Counter(service for product in network.products for service in set(product.services))
    for i, service in enumerate(network.services):
        if counts[service.id] > PRODUCTS_PER_SERVICE_MAX:
            text = (
                f"{service.id} is in {counts[service.id]} products; an ECM has room for {PRODUCTS_PER_SERVICE_MAX}:"
                " let offers share products"
            )
            yield Problem(f"{at}.services.{i}", text)


def _stream_ids(settings: Settings) -> Iterator[Problem]:
    """Yield what one multiplexer, main or standby, could not tell apart: its errors 0x11 to 0x14."""
    inputs = [(at, one) for at, mux in _multiplexes(settings) for one in (mux, mux.at_standby) if one is not None]
    channels = ((at, (mux.host, mux.port, mux.client_id, mux.data_channel_id)) for at, mux in inputs)
    yield from _twice("(host, port, client_id, data_channel_id)", "data_channel_id", channels)
    data = ((at, (mux.host, mux.port, mux.client_id, mux.data_id)) for at, mux in inputs)
    yield from _twice("(host, port, client_id, data_id)", "data_id", data)


def _operators(settings: Settings) -> Iterator[Problem]:
    networks = {network.id: network for network in settings.networks}
    for i, operator in enumerate(settings.operators):
        at = f"operators.{i}"
        if operator.network not in networks:
            yield _unknown(f"{at}.network", "network", operator.network, networks)
            continue
        known = {product.id for product in networks[operator.network].products}
        yield from _references(f"{at}.products", f"product of network {operator.network}", operator.products, known)
        known = {service.id for service in networks[operator.network].services}
        yield from _references(f"{at}.events_on", f"service of network {operator.network}", operator.events_on, known)


def _people(settings: Settings) -> Iterator[Problem]:
    people = settings.technicians.people if settings.technicians else ()
    yield from _twice("technicians.people", "name", ((f"technicians.people.{i}", p.name) for i, p in enumerate(people)))
    known = {operator.id for operator in settings.operators}
    for i, person in enumerate(people):
        if person.operator not in known:
            yield _unknown(f"technicians.people.{i}.operator", "operator", person.operator, known)


def _card_ranges(settings: Settings) -> Iterator[Problem]:
    ranges = sorted(
        (one.first, one.last, f"operators.{i}.card_ranges.{j}", operator.id)
        for i, operator in enumerate(settings.operators)
        for j, one in enumerate(operator.card_ranges)
    )
    reach, owner, at = -1, "", ""
    for first, last, here, operator_id in ranges:
        if first <= reach:
            text = (
                f"card {card_number.spell(first)} of operator {operator_id} lies in a range of operator {owner} as well"
                f" ({at}, up to {card_number.spell(reach)})"
            )
            yield Problem(here, text)
        if last > reach:
            reach, owner, at = last, operator_id, here
