"""Whom access criteria stand for: the services and products of the settings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from config.settings import NetworkSettings
from protocol import access_criteria
from protocol.access_criteria import AccessCriteria, ProductsCriteria, ServiceCriteria
from protocol.errors import DecodeError
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import ACCESS_CRITERIA, ErrorStatus

CACHED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Audience:
    """What an ECM is made for: its service_id (0 = none), and the products that open it, at least one."""

    service_id: int
    product_ids: tuple[int, ...]


class ServiceBook:
    """Finds the audience of access criteria; `follow` settings that have changed."""

    def __init__(self, networks: Iterable[NetworkSettings]) -> None:
        self._services: dict[ServiceCriteria, Audience] = {}
        self._products: dict[int, frozenset[int]] = {}
        self._found: dict[bytes, Audience] = {}
        self.follow(networks)

    def follow(self, networks: Iterable[NetworkSettings]) -> None:
        """Take these networks from now on. A service that several of them carry has the products of all of them."""
        services: dict[ServiceCriteria, set[int]] = {}
        self._products = {}
        for network in networks:
            ids = {service.id: service.service_id for service in network.services}
            for product in network.products:
                self._products[product.product_id] = frozenset(ids.values())
            for criteria, product_ids in _services_of(network):
                services.setdefault(criteria, set()).update(product_ids)
        self._services = {one: Audience(one.service_id, tuple(sorted(ids))) for one, ids in services.items()}
        self._found.clear()

    def audience(self, data: bytes) -> Audience:
        """Return for whom an ECM with these access criteria is. Raises OrderRefusedError for all that are not right."""
        found = self._found.get(data)
        if found is None:
            try:
                found = self._look_up(access_criteria.parse(data))
            except DecodeError as error:
                raise refusal(str(error)) from None
            if len(self._found) >= CACHED_MAX:
                self._found.clear()
            self._found[data] = found
        return found

    def _look_up(self, criteria: AccessCriteria) -> Audience:
        if isinstance(criteria, ProductsCriteria):
            return self._named(criteria)
        found = self._services.get(criteria)
        spelled = f"{criteria.original_network_id}/{criteria.transport_stream_id}/{criteria.service_id}"
        if found is None:
            raise refusal(
                f"there is no service {spelled} in the settings (original network, transport stream, service)"
            )
        if not found.product_ids:
            raise refusal(f"service {spelled} is in no product: nobody could open its ECM")
        return found

    def _named(self, criteria: ProductsCriteria) -> Audience:
        unknown = [one for one in criteria.product_ids if one not in self._products]
        if unknown:
            raise refusal(f"there is no product {unknown[0]} in the settings")
        if criteria.service_id and not any(criteria.service_id in self._products[one] for one in criteria.product_ids):
            raise refusal(f"there is no service {criteria.service_id} in the network of these products")
        return Audience(criteria.service_id, tuple(sorted(criteria.product_ids)))


def refusal(what: str) -> OrderRefusedError:
    """Return the error about access criteria."""
    return OrderRefusedError(
        f"{what}; cad check shows the access criteria of every service",
        ErrorStatus.INV_PARAM_VALUE,
        ACCESS_CRITERIA.parameter_type,
    )


def criteria_of(network: NetworkSettings) -> Iterator[tuple[str, bytes]]:
    """Yield the id of each service that a product opens, and the access criteria to enter for it in a scrambler."""
    by_criteria = dict(_services_of(network))
    for service, criteria in zip(network.services, by_criteria, strict=True):
        if by_criteria[criteria]:
            yield service.id, access_criteria.build(criteria)


def _services_of(network: NetworkSettings) -> Iterator[tuple[ServiceCriteria, set[int]]]:
    for service in network.services:
        criteria = ServiceCriteria(service.original_network_id, service.transport_stream_id, service.service_id)
        yield criteria, {one.product_id for one in network.products if service.id in one.services}
