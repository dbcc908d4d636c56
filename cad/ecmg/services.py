"""Whom access criteria stand for: the services and products of the settings, and the events that run."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cad.ledger.model import EventWindow
from config.settings import NetworkSettings
from emm.ecm import products_max
from protocol import access_criteria
from protocol.access_criteria import AccessCriteria, ProductsCriteria, ServiceCriteria
from protocol.errors import DecodeError
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import ACCESS_CRITERIA, ErrorStatus

CACHED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Audience:
    """What an ECM is made for: its service_id (0 = none), and the products that open it, at least one.

    `regions`: those in which it is blacked out, rising; 0 stands for cards without a region.
    """

    service_id: int
    product_ids: tuple[int, ...]
    regions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """An audience, and the time for which it is the right one."""

    audience: Audience
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class _Blackout:
    """Regions in which a service is not to be seen from `starts_at` until before `ends_at`."""

    starts_at: int
    ends_at: int
    regions: frozenset[int]


class ServiceBook:
    """Finds the audience of access criteria; `follow` settings that have changed, `follow_events` other events.

    Blackouts are in the settings. Where several networks carry a service, those of each count for all of them.
    """

    def __init__(self, networks: Iterable[NetworkSettings]) -> None:
        self._networks: tuple[NetworkSettings, ...] = ()
        self._events: tuple[EventWindow, ...] = ()
        self._services: dict[ServiceCriteria, Audience] = {}
        self._plans: dict[ServiceCriteria, list[EventWindow]] = {}
        self._blackouts: dict[ServiceCriteria, list[_Blackout]] = {}
        self._products: dict[int, frozenset[int]] = {}
        self._found: dict[bytes, _Found] = {}
        self.follow(networks)

    @property
    def events(self) -> Sequence[EventWindow]:
        """The events that it knows."""
        return self._events

    def follow(self, networks: Iterable[NetworkSettings]) -> None:
        """Take these networks from now on. A service that several of them carry has the products of all of them."""
        self._networks = tuple(networks)
        services: dict[ServiceCriteria, set[int]] = {}
        self._products = {}
        self._blackouts = {}
        for network in self._networks:
            for criteria, blackout in _blackouts_of(network):
                self._blackouts.setdefault(criteria, []).append(blackout)
            ids = {service.id: service.service_id for service in network.services}
            for product in network.products:
                self._products[product.product_id] = frozenset(ids.values())
            for criteria, product_ids in _services_of(network):
                services.setdefault(criteria, set()).update(product_ids)
        self._services = {one: Audience(one.service_id, tuple(sorted(ids))) for one, ids in services.items()}
        self.follow_events(self._events)

    def follow_events(self, events: Iterable[EventWindow]) -> None:
        """Take these events from now on; one on a service that is not in the settings is for nobody."""
        self._events = tuple(events)
        criteria = {
            (network.id, service.id): one
            for network in self._networks
            for service, (one, _) in zip(network.services, _services_of(network), strict=True)
        }
        self._plans = {}
        for event in sorted(self._events, key=lambda event: (event.starts_at, event.product_id)):
            if (found := criteria.get((event.network, event.service))) is not None:
                self._plans.setdefault(found, []).append(event)
        self._found.clear()

    def audience(self, data: bytes, now: float) -> Audience:
        """Return for whom an ECM made now is. Raises OrderRefusedError for access criteria that are not right."""
        found = self._found.get(data)
        if found is None or not found.since <= now < found.until:
            try:
                found = self._look_up(access_criteria.parse(data), now)
            except DecodeError as error:
                raise refusal(str(error)) from None
            if len(self._found) >= CACHED_MAX:
                self._found.clear()
            self._found[data] = found
        return found.audience

    def _look_up(self, criteria: AccessCriteria, now: float) -> _Found:
        if isinstance(criteria, ProductsCriteria):
            return _Found(self._named(criteria), -math.inf, math.inf)
        always = self._services.get(criteria)
        spelled = f"{criteria.original_network_id}/{criteria.transport_stream_id}/{criteria.service_id}"
        if always is None:
            raise refusal(
                f"there is no service {spelled} in the settings (original network, transport stream, service)"
            )
        found = _at(now, always, self._plans.get(criteria, ()), self._blackouts.get(criteria, ()))
        if not found.audience.product_ids:
            raise refusal(f"service {spelled} is in no product: nobody could open its ECM")
        return found

    def _named(self, criteria: ProductsCriteria) -> Audience:
        unknown = [one for one in criteria.product_ids if one not in self._products]
        if unknown:
            raise refusal(f"there is no product {unknown[0]} in the settings")
        if criteria.service_id and not any(criteria.service_id in self._products[one] for one in criteria.product_ids):
            raise refusal(f"there is no service {criteria.service_id} in the network of these products")
        return Audience(criteria.service_id, tuple(sorted(criteria.product_ids)))


def _at(now: float, always: Audience, plan: Sequence[EventWindow], blackouts: Sequence[_Blackout]) -> _Found:
    """Add the events that run now, and the regions that are blacked out now.

    There are never so many events that the ECM could not be made for those who open the service anyway.
    """
    edges = [edge for event in plan for edge in (event.starts_at, event.ends_at)]
    edges += [edge for one in blackouts for edge in (one.starts_at, one.ends_at)]
    since = max((edge for edge in edges if edge <= now), default=-math.inf)
    until = min((edge for edge in edges if edge > now), default=math.inf)
    regions = sorted({region for one in blackouts if one.starts_at <= now < one.ends_at for region in one.regions})
    room = max(0, products_max(region_count=len(regions)) - len(always.product_ids))
    running = [event.product_id for event in plan if event.starts_at <= now < event.ends_at][:room]
    product_ids = tuple(sorted({*always.product_ids, *running}))
    return _Found(Audience(always.service_id, product_ids, tuple(regions)), since, until)


def _blackouts_of(network: NetworkSettings) -> Iterator[tuple[ServiceCriteria, _Blackout]]:
    numbers = {region.id: region.number for region in network.regions}
    criteria = {service.id: one for service, (one, _) in zip(network.services, _services_of(network), strict=True)}
    for blackout in network.blackouts:
        if blackout.service in criteria:
            regions = {numbers[region] for region in blackout.regions if region in numbers}
            all_regions = frozenset(regions | {0} if blackout.without_region else regions)
            yield criteria[blackout.service], _Blackout(*blackout.window, all_regions)


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
