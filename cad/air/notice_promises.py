"""What is promised for messages that are ordered now (M3): by when each has been sent once to all that it is for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from cad.air.promises import ROUNDING_S, Told
from cad.frame.clock import Clock
from cad.ledger.promise import Showing
from cad.ledger.tables.messages import OnAirMessage
from config.settings import OperatorSettings
from emm.message import EmmKind
from emm.notices.content import RANGES_MAX, Members, Ranges
from emm.notices.seal import section_sizes
from emm.rotation.notice_forecast import Arrival, NoticeForecast, lanes_for

NOBODY: Final = "no card is among the recipients at present"
TOO_SHORT: Final = "no time can be told: it may end before it has been sent to all, the bandwidth does not suffice"
SEAL_S: Final = 0.005
"""What is allowed for looking up the cards of one EMM and sealing it; it takes a third of that."""
READY_S: Final = 0.5
"""What is allowed beside that until a message that is to be sent is handed to the outlets."""


class Outlet(Protocol):
    """What sends notices on one multiplex (`cad.air.broadcast.Channel`)."""

    def notice_forecast(self) -> NoticeForecast: ...
    def notice_bits(self, sections: Sequence[int]) -> int: ...


class Network(Protocol):
    """A network on the air (`cad.air.network.NetworkOnAir`)."""

    @property
    def id(self) -> str: ...
    @property
    def channels(self) -> Sequence[Outlet]: ...
    @property
    def cards(self) -> int: ...
    def count_groups(self, ranges: Sequence[tuple[int, int]]) -> int: ...


class Reach(NamedTuple):
    """How far an operator's messages reach: ranges of its cards, the versions of their keys, how many groups they are.

    `cards`: of the whole network at that time; each that came since may be a group of its own.
    """

    ranges: Sequence[tuple[int, int]]
    key_versions: Sequence[int]
    groups: int
    cards: int
    network: str


@dataclass(frozen=True, slots=True)
class Load:
    """A message as something to send: EMMs at the most (`known`: just so many), sections of each in bytes."""

    starts_at: int
    ends_at: int
    emms: int
    known: bool
    sizes: tuple[int, ...]

    def arrival(self, outlet: Outlet, at: float) -> Arrival:
        """Return what joins the queue of an outlet with it."""
        return Arrival(at, self.emms * outlet.notice_bits(self.sizes), lanes_for(self.emms, known=self.known))


def load_of(message: OnAirMessage, reach: Reach, most: int | None = None, newcomers: int = 0) -> Load:
    """Reckon what a message takes; `newcomers`: cards of the network that came after the reach was looked up."""
    versions = max(1, len(reach.key_versions))
    if message.cards is not None:
        emms, sizes = len(message.cards), section_sizes(EmmKind.UNIQUE, message.content, None)
    elif message.everyone:
        emms = -(-len(reach.ranges) // RANGES_MAX) * versions
        ranges = Ranges(tuple(reach.ranges[:RANGES_MAX]))
        sizes = section_sizes(EmmKind.GLOBAL, message.content, ranges) if emms else ()
    else:
        emms = reach.groups * versions + newcomers
        emms = emms if most is None else min(emms, most)
        sizes = section_sizes(EmmKind.GROUP, message.content, Members.of(()))
    return Load(message.starts_at, message.ends_at, emms, message.cards is not None or message.everyone, sizes)


@dataclass(frozen=True, slots=True)
class Screening:
    """What can be promised to an operator for messages that are committed at `now`, on all outlets of its network.

    `earlier`: what is ordered and not on the outlets yet; what is promised for joins `asked`, which all promises of one
    commit share. `busy_s`: how long it may take until a change of the ledger is looked at. `elapsed` as in `Promise`.
    """

    now: float
    outlets: Sequence[Outlet]
    forecasts: Sequence[NoticeForecast]
    reach: Reach
    newcomers: int
    earlier: Sequence[Load]
    asked: list[Load]
    busy_s: float
    elapsed: Callable[[], float]

    def of(self, showing: Showing) -> Told:
        """What to promise a message, behind those asked for before it."""
        load = load_of(showing.message, self.reach, showing.most, self.newcomers)
        if not load.emms:
            return Told(None, None, NOBODY)
        before = [*self.earlier, *self.asked]
        self.asked.append(load)
        now = self.now + self.elapsed()
        slowest = max(
            _sent_by(outlet, forecast, now, self._ready_s(load, before), load, before)
            for outlet, forecast in zip(self.outlets, self.forecasts, strict=True)
        )
        if slowest + ROUNDING_S > load.ends_at:
            return Told(None, None, TOO_SHORT)
        return Told(math.ceil(slowest + ROUNDING_S), None)

    def _ready_s(self, load: Load, before: Iterable[Load]) -> float:
        """Return how long it may take until a message is handed to the outlets: others may begin with it."""
        return READY_S + self.busy_s + SEAL_S * (load.emms + sum(one.emms for one in before))


def _sent_by(
    outlet: Outlet, forecast: NoticeForecast, now: float, ready_s: float, load: Load, before: Iterable[Load]
) -> float:
    """Return when all of a message has left one outlet at the latest."""
    own_at = max(now, load.starts_at) + ready_s

    def joins_at(one: Load) -> float:
        # What is to be handed over before may take as long as this, and nothing of it is sent meanwhile.
        at = max(now, one.starts_at)
        return at if at > own_at else min(at + ready_s, own_at)

    return forecast.sent_by(now, load.arrival(outlet, own_at), [one.arrival(outlet, joins_at(one)) for one in before])


class Ahead:
    """What is ordered and not on the outlets yet, for promises to reckon with. Follows what the board looks up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reach: dict[str, Reach] = {}  # by operator
        self._coming: dict[str, tuple[Load, ...]] = {}  # by network: what begins later
        self._expected: dict[tuple[str, str], Load] = {}  # by operator and message: what no look has found yet
        self._asked_at = -math.inf
        self._asked: dict[str, list[Load]] = {}  # by network: what is promised for in the commit under way
        self._look_s = 0.0

    @property
    def expected(self) -> Mapping[tuple[str, str], Load]:
        """What a look that begins now will have found when it ends."""
        return dict(self._expected)

    def expect(self, showing: Showing) -> None:
        """Reckon with a message that was committed."""
        message = showing.message
        if (reach := self._reach.get(message.operator)) is not None:
            self._expected[message.operator, message.message] = load_of(message, reach, showing.most)

    def look(
        self,
        network: Network,
        operators: Iterable[OperatorSettings],
        versions: Sequence[int],
        messages: Iterable[OnAirMessage],
    ) -> None:
        """Take what a look has found of one network: how far its operators reach, and what begins later."""
        now = self._clock.now()
        for operator in operators:
            ranges = tuple((one.first, one.last) for one in operator.card_ranges)
            self._reach[operator.id] = Reach(ranges, versions, network.count_groups(ranges), network.cards, network.id)
        later = [one for one in messages if one.starts_at > now]
        self._coming[network.id] = tuple(load_of(one, self._reach[one.operator]) for one in later)

    def settle(self, expected: Mapping[tuple[str, str], Load], look_s: float) -> None:
        """End a look that took so long: what was `expected` when it began has been found."""
        self._look_s = look_s
        self._expected = {name: load for name, load in self._expected.items() if expected.get(name) is not load}

    def promise(self, operator: str, network: Network, now: float) -> Screening | None:
        """What can be promised to an operator for messages that are committed at `now`, None before the first look."""
        if (reach := self._reach.get(operator)) is None or reach.network != network.id:
            return None
        if now != self._asked_at:
            self._asked_at, self._asked = now, {}
        expected = [load for (who, _), load in self._expected.items() if self._reach[who].network == network.id]
        began = self._clock.monotonic()
        return Screening(
            now,
            network.channels,
            [channel.notice_forecast() for channel in network.channels],
            reach,
            max(0, network.cards - reach.cards),
            [*self._coming.get(network.id, ()), *expected],
            self._asked.setdefault(network.id, []),
            2 * self._look_s,  # one that may be under way, and the next
            lambda: self._clock.monotonic() - began,
        )
