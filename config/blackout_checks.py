"""What must fit together about regions and blackouts: names, numbers, and the room in the ECMs of a blackout."""

from collections import Counter
from collections.abc import Iterator

from config.errors import Problem
from config.event_checks import event_services
from config.settings import NetworkSettings, Settings

ECM_BYTES_MAX = 256
PACKET_BYTES_MAX = 183


def problems(settings: Settings) -> Iterator[Problem]:
    """Yield what is refused; that names stand for something is checked with the other references."""
    for i, network in enumerate(settings.networks):
        for at, service, size in _sizes(settings, f"networks.{i}", network):
            if size > ECM_BYTES_MAX:
                text = (
                    f"the ECMs of {service} would need {size} bytes in this blackout, but {ECM_BYTES_MAX} is the most:"
                    " name fewer regions, or let offers share products"
                )
                yield Problem(at, text)


def remarks(settings: Settings) -> Iterator[Problem]:
    """Yield what is shown by `cad check`."""
    for i, network in enumerate(settings.networks):
        for at, service, size in _sizes(settings, f"networks.{i}", network):
            if PACKET_BYTES_MAX < size <= ECM_BYTES_MAX:
                yield Problem(at, f"the ECMs of {service} take two TS packets in this blackout")


def _sizes(settings: Settings, at: str, network: NetworkSettings) -> Iterator[tuple[str, str, int]]:
    """Yield for each blackout its place, its service, and the largest ECM with two words of 8 bytes that it needs.

    The most regions are blacked out at the beginning of one of the service's blackouts.
    """
    counts = Counter(service for product in network.products for service in set(product.services))
    on = event_services(settings, network.id)
    for i, blackout in enumerate(network.blackouts):
        regions = len(network.blacked_out(blackout.service, blackout.window[0]))
        products = counts[blackout.service] + (network.events_at_once if blackout.service in on else 0)
        yield f"{at}.blackouts.{i}", blackout.service, 46 + 18 * products + 1 + 2 * regions
