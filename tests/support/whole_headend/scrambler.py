"""The scrambler of every service: it orders an ECM now, of the real ECMG, which follows the ledger's events."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cad.ecmg.maker import SealingMaker
from cad.ecmg.services import ServiceBook, criteria_of
from cad.ledger.look import reading
from cad.ledger.model import EventWindow
from emm.ecm import EcmSealer
from tests.support.hand_air import HandAir
from tests.support.whole_headend.network import REGIONS


@dataclass(frozen=True)
class Blackout:
    """A service is not to be seen in these regions, from when until before when."""

    service: str
    regions: tuple[str, ...]
    without_region: bool
    start: int
    end: int

    def holds_in(self, service: str, now: float) -> list[int]:
        """The numbers of the regions in which a service is blacked out; 0: cards without one."""
        if service != self.service or not self.start <= now < self.end:
            return []
        return sorted([REGIONS[name] for name in self.regions] + [0] * self.without_region)


@dataclass(frozen=True)
class Ecm:
    """An ECM: its bytes, the control words in it, and what it names in clear."""

    section: bytes
    words: list[bytes]
    products: list[int]
    regions: list[int]


class Scrambler:
    """`ecms` of all services at this moment. Blackouts are put into the settings, which the ECMG follows."""

    def __init__(self, air: HandAir) -> None:
        self.air = air
        self.network = air.settings.networks[0]
        self.book = ServiceBook([self.network])
        self.maker = SealingMaker(EcmSealer(air.ladder), air.calendar, air.clock, self.book)
        self.criteria = dict(criteria_of(self.network))
        self.blackout: Blackout | None = None

    def black_out(self, blackout: Blackout | None) -> None:
        """Take this blackout into the settings in place of the one before, and reload."""
        self.blackout = blackout
        tables = [] if blackout is None else [_spell(blackout)]
        self.book.follow([self.network.model_validate(self.network.model_dump() | {"blackouts": tables})])

    def events(self) -> list[EventWindow]:
        """What the ledger says of events, which the ECMG is told when it changes."""
        air = self.air
        found = air.store.read(lambda held: reading.event_windows(held, air.grants, air.clock.now()))
        if found != list(self.book.events):
            self.book.follow_events(found)
        return found

    def ecms(self) -> dict[str, Ecm]:
        """Order an ECM of each service."""
        made = {}
        for service, criteria in self.criteria.items():
            words = [os.urandom(8), os.urandom(8)]
            section = self.maker.make(0, words, criteria)
            made[service] = Ecm(section, words, *_named(section))
        return made


def _named(section: bytes) -> tuple[list[int], list[int]]:
    """The products and regions that an ECM names (docs/ecm.md)."""
    count = section[12]
    end = 14 + 18 * count
    products = [int.from_bytes(section[at : at + 2], "big") for at in range(13, end - 1, 18)]
    if section[3] == 1:
        return products, []
    assert section[3] == 2
    regions = range(end + 1, end + 1 + 2 * section[end], 2)
    return products, [int.from_bytes(section[at : at + 2], "big") for at in regions]


def _spell(blackout: Blackout) -> dict[str, Any]:
    return {
        "service": blackout.service,
        "regions": list(blackout.regions),
        "without_region": blackout.without_region,
        "starts_at": datetime.fromtimestamp(blackout.start, UTC),
        "ends_at": datetime.fromtimestamp(blackout.end, UTC),
    }
