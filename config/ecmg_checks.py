"""What must fit together between [ecmg] and the other tables, and what is legal but most likely a mistake."""

from collections import defaultdict
from collections.abc import Iterator

from config.errors import Problem
from config.event_checks import event_services
from config.fields import is_loopback, listen_address
from config.settings import PRODUCTS_PER_SERVICE_MAX, Settings


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield what is refused."""
    ecmg = settings.ecmg
    if ecmg is None:
        return
    host, _ = listen_address(ecmg.listen) or ("", 0)
    if ecmg.listen == settings.node.http_listen:
        yield Problem("ecmg.listen", "is node.http_listen as well; take another port")
    if not ecmg.clients and not is_loopback(host):
        text = "is open to the network: name in [[ecmg.clients]] the scramblers that may ask for ECMs"
        yield Problem("ecmg.listen", text)
    for key in ("id", "address"):
        seen: dict[str, int] = {}
        for i, client in enumerate(ecmg.clients):
            value = getattr(client, key)
            if value in seen:
                yield Problem(
                    f"ecmg.clients.{i}.{key}", f"{value!r} is used twice: first at ecmg.clients.{seen[value]}"
                )
            else:
                seen[value] = i
    yield from _too_many_products(settings)


def remarks(settings: Settings) -> Iterator[Problem]:
    """Yield what is shown by `cad check`."""
    ecmg = settings.ecmg
    if ecmg is None:
        return
    ids = [("ecmg.super_cas_id", ecmg.super_cas_id)]
    ids += [
        (f"ecmg.clients.{i}.super_cas_ids", one)
        for i, client in enumerate(ecmg.clients)
        for one in client.super_cas_ids
    ]
    for at, number in ids:
        # ETSI TS 103 197, clause 5.3: Super_CAS_id is CA_system_id and, below it, CA_subsystem_id.
        if number >> 16 != settings.ca.ca_system_id:
            yield Problem(
                at,
                f"its upper half is 0x{number >> 16:04X}, not ca_system_id 0x{settings.ca.ca_system_id:04X}: the"
                " scrambler then puts another CA_system_id into the PMT, and no card of ours is asked",
            )
    for i, network in enumerate(settings.networks):
        used = {service for product in network.products for service in product.services}
        for j, service in enumerate(network.services):
            if service.id not in used:
                text = f"service {service.id} is in no product: a scrambler is refused its ECMs"
                yield Problem(f"networks.{i}.services.{j}", text)


def _too_many_products(settings: Settings) -> Iterator[Problem]:
    """A service that two networks carry has one ECM, with the products of both."""
    found: dict[tuple[int, int, int], dict[str, int]] = defaultdict(dict)
    for i, network in enumerate(settings.networks):
        for j, service in enumerate(network.services):
            triplet = (service.original_network_id, service.transport_stream_id, service.service_id)
            events = network.events_at_once if service.id in event_services(settings, network.id) else 0
            found[triplet][f"networks.{i}.services.{j}"] = events + sum(
                service.id in one.services for one in network.products
            )
    for places in found.values():
        total = sum(places.values())
        if len(places) > 1 and total > PRODUCTS_PER_SERVICE_MAX:
            text = (
                f"the same service is in {len(places)} networks and in {total} products and events of them; an ECM has"
                f" room for {PRODUCTS_PER_SERVICE_MAX}"
            )
            yield Problem(list(places)[-1], text)
