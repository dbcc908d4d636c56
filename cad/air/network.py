"""One network on the air: the roster of its cards and the channels of its multiplexes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import structlog

from cad.air.broadcast import NOTICE_RING, Channel, resend_horizon_s
from cad.air.links import Link
from cad.air.mass import Promised
from cad.air.mux_pair import MAIN, MuxPair
from cad.air.outgoing import FirstAir, WaitingChange
from cad.air.promises import HOUR_S, Promise, Told, is_urgent
from cad.air.roster import CardBlock, RightBlock, Roster, SectionCache
from cad.air.sent import CardOnAir
from cad.frame import clock as clocks
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.ledger.model import CardChange, OpenChange
from config.outlets import Outlet
from config.settings import CarouselSettings, NetworkSettings
from emm.calendar import Calendar
from emm.carousel import Carousel, CarouselPolicy, RingFacts
from emm.errors import EmmError
from emm.pacer import cost_bits
from emm.seal import EmmSealer, section_sizes

log = structlog.get_logger("cad.air.network")

FIRST_HOUR_S: Final = 3600.0
WEIGHT_OF_THE_GONE: Final = 0.01
TYPICAL_SECTIONS: Final = (256,)
"""What a promise reckons with before the content is known: one section, the largest there is."""


class NetworkOnAir:
    """Takes each change of the ledger to every multiplex of the network; derived again at each start."""

    def __init__(
        self,
        settings: NetworkSettings,
        carousel: CarouselSettings,
        links: Mapping[str, Link],
        calendar: Calendar,
        sealer: EmmSealer,
        clock: Clock,
        metrics: Metrics,
        aired: Callable[[Sequence[FirstAir]], None],
        operators: Mapping[str, float],
    ) -> None:
        self.id = settings.id
        self.operators: dict[str, int] = {}
        weights = self._number(operators)
        self._clock = clock
        self._metrics = metrics
        self._calendar = calendar
        self.roster = Roster()
        cache = SectionCache(self.roster, calendar, sealer)
        policy = carousel_policy(carousel)
        self.channels = tuple(
            Channel(
                outlet,
                links[outlet.id],
                Carousel(policy, resend_horizon_s=resend_horizon_s(outlet), weights=weights),
                cache,
                clock,
                metrics,
                aired,
                carousel.message_share,
            )
            for outlet in settings.outlets
        )

    def weigh(self, operators: Mapping[str, float]) -> None:
        """Follow changed settings: the weights of the operators, of which some may be new."""
        weights = self._number(operators)
        for channel in self.channels:
            channel.carousel.set_weights(weights)

    def _number(self, operators: Mapping[str, float]) -> tuple[float, ...]:
        """Give each operator its number in the carousels, and return the weights in that order.

        Whoever is gone keeps his number and has the least weight.
        """
        for operator in operators:
            self.operators.setdefault(operator, len(self.operators))
        return tuple(operators.get(operator, WEIGHT_OF_THE_GONE) for operator in self.operators) or (1.0,)

    def load(self, cards: CardBlock, rights: RightBlock, open_changes: Iterable[OpenChange]) -> None:
        """Derive all carousels from the ledger: every card, what changed in the last hour, what was never sent."""
        self.roster.load(cards, rights)
        slots = np.arange(len(self.roster))
        sizes = self.roster.typical_sizes()
        unsettled = {self.roster.slot_of(change.address): change for change in open_changes}
        unsettled.pop(None, None)
        settled = np.ones(len(slots), np.bool_)
        settled[np.fromiter(unsettled, np.int64, len(unsettled))] = False
        now = self._clock.now()
        together = Counter((change.operator, change.at) for change in unsettled.values())
        for channel in self.channels:
            on_air = on_air_sizes(sizes, channel.settings)
            channel.carousel.add_many(slots[settled], on_air[settled], self._clock.monotonic())
        for slot, change in unsettled.items():
            assert slot is not None
            sections = self._sections(slot)
            operator = self.operators[change.operator]
            urgent = is_urgent(together[change.operator, change.at])
            for channel in self.channels:
                if channel.multiplex not in change.aired:
                    waiting = WaitingChange(change.change_seq, change.at, None, operator=change.operator)
                    channel.change(slot, sections, waiting, urgent, operator)
                elif now - change.at < FIRST_HOUR_S:
                    channel.restore(slot, sections, change.at, operator)
                else:
                    channel.carousel.add(slot, channel.size(sections), self._clock.monotonic())

    def apply(self, change: CardChange, promised: Promised, urgent: bool = True) -> None:
        """Follow one change of a commit; one of very many at once is not urgent, and lets single orders pass."""
        slot, _ = self.roster.apply(change)
        sections = self._sections(slot)
        waiting = WaitingChange(change.change_seq, change.committed_at, *promised, change.operator)
        operator = self.operators[change.operator]
        for channel in self.channels:
            channel.change(slot, sections, waiting, urgent, operator)

    def promise(self, operator: str, now: float, pending: int = 0) -> Promise | Told:
        """What can be promised to an operator for changes made now, on the slowest multiplex of the network.

        `pending`: cards of its mass changes that are still on their way here.
        """
        if not self.channels:
            return Told(None, None, "this network has no multiplex yet; the change is kept")
        down = [channel.multiplex for channel in self.channels if not channel.link.ready]
        if down:
            return Told(
                None,
                None,
                f"no time can be told while multiplex {', '.join(down)} is not connected; the change is kept",
            )
        number = self.operators[operator]
        forecasts = [channel.forecast(TYPICAL_SECTIONS, number) for channel in self.channels]
        if any(math.isinf(one.first_s + one.repeat_s) for one in forecasts):
            return Told(None, None, "no time can be told while a multiplex has no bandwidth; the change is kept")
        short = any(channel.carousel.shortfalls(channel.carousel_bps) for channel in self.channels)
        began = self._clock.monotonic()
        return Promise(now, forecasts, pending, short, lambda: self._clock.monotonic() - began)

    def key_versions(self) -> tuple[int, ...]:
        """Versions of the keys that cards of this network have; the first one where there is no card yet."""
        return self.roster.key_versions() or (1,)

    @property
    def cards(self) -> int:
        """How many cards the network has."""
        return len(self.roster)

    def count_groups(self, ranges: Sequence[tuple[int, int]]) -> int:
        """How many groups of cards there are in ranges of addresses, at the most."""
        return self.roster.count_groups(ranges)

    def _sections(self, slot: int) -> tuple[int, ...]:
        try:
            period = self._calendar.period(self._clock.now())
            return section_sizes(self.roster.content(slot, period, self._calendar))
        except EmmError as error:
            log.error("a card's EMM cannot be made", network=self.id, slot=slot, error=str(error))
            return TYPICAL_SECTIONS

    def on_air(self, address: int, operator: str, aired: Mapping[str, float]) -> tuple[CardOnAir, ...]:
        """How a card of an operator stands on each multiplex; `aired`: when its newest change was first sent where."""
        slot = self.roster.slot_of(address)
        ahead_s = self._clock.now() - self._clock.monotonic()
        found = []
        for channel in self.channels:
            place = None if slot is None else channel.carousel.place(slot)
            sent_at = None if slot is None else channel.last_sent.at(slot)
            next_at = None if place is None else channel.next_at(place, self.operators.get(operator, 0))
            found.append(
                CardOnAir(
                    channel.multiplex,
                    channel.link.ready,
                    None if place is None else place.ring,
                    aired.get(channel.multiplex),
                    None if sent_at is None else sent_at + ahead_s,
                    None if next_at is None else next_at + ahead_s,
                )
            )
        return tuple(found)

    def facts(self) -> list[dict[str, Any]]:
        """Each multiplex with its rings, as `cad carousel top` shows them."""
        now = self._clock.monotonic()
        return [
            {
                "network": self.id,
                "multiplex": channel.multiplex,
                "connected": channel.link.ready,
                "since": None if channel.link.since is None else clocks.spell(channel.link.since),
                "carried_by": carried_by(channel.link),
                "error": None if channel.link.ready else channel.link.last_error,
                "allocated_bps": channel.link.allocated_bps,
                "sent_bits": channel.sent_bits,
                "waiting_changes": channel.waiting,
                "oldest_unsent_s": _rounded(channel.carousel.oldest_new(now)),
                "operators": self._operator_facts(channel),
                "shortfalls": [one.text for one in self.shortfalls(channel)],
                "rings": [
                    {
                        "ring": ring.name,
                        "cards": ring.cards,
                        "bytes": ring.size,
                        "limit_s": _finite(ring.limit_s),
                        "cycle_s": _finite(ring.cycle_s),
                    }
                    for ring in (*channel.carousel.cycle_facts(channel.carousel_bps), *notice_ring(channel))
                ],
            }
            for channel in self.channels
        ]

    def _look_at_promise(self, operator: str, health: Health, pending: int) -> None:
        """Say what an order made now would be promised, and raise the alarm before an hour cannot be kept."""
        now = self._clock.now()
        told = self.promise(operator, now, pending).of(1)
        for name, moment in (("on_air_by", told.on_air_by), ("visible_by", told.visible_by)):
            self._metrics.tell_order_promise(operator, name, math.nan if moment is None else moment - now)
        if told.visible_by is not None:
            late_s = told.visible_by - now
            text = f"an order made now is visible within {late_s / 60:.0f} min" if late_s > HOUR_S else ""
            health.set("hour", late_s <= HOUR_S, text, subject=operator)

    def _operator_facts(self, channel: Channel) -> list[dict[str, Any]]:
        found = zip(self.operators, channel.carousel.operator_facts(), strict=False)
        return [{"operator": operator, **facts._asdict()} for operator, facts in found]

    def shortfalls(self, channel: Channel) -> list[Any]:
        """Why the promise cannot, or soon will not, be kept on a channel; empty while its link is down."""
        if not channel.link.ready:
            return []
        rate = channel.carousel_bps
        return channel.carousel.shortfalls(rate) or channel.carousel.outlook(rate)

    def look(self, health: Health, backlog_s: float, pending: Callable[[str], int]) -> None:
        """Bring metrics and conditions of every multiplex and operator up to date."""
        for operator in self.operators:
            self._look_at_promise(operator, health, pending(operator))
        now = self._clock.monotonic()
        for channel in self.channels:
            channel.yield_share()
            name = channel.multiplex
            up = channel.link.ready
            health.set("link", up, "" if up else channel.link.last_error or "not connected yet", subject=name)
            if isinstance(channel.link, MuxPair):
                at_home = channel.link.carrying == MAIN
                health.set("standby", at_home, channel.link.verdict, subject=name)
                self._metrics.on_standby.labels(name).set(0 if at_home else 1)
            short = self.shortfalls(channel)
            health.set("rate", not short, "; ".join(one.text for one in short), subject=name)
            self._metrics.shortfall.labels(name).set(1 if short else 0)
            oldest = channel.carousel.oldest_new(now) or 0.0
            self._metrics.oldest_unsent.labels(name).set(oldest)
            late = oldest > backlog_s
            health.set("backlog", not late, f"a change waits for {oldest:.0f} s" if late else "", subject=name)
            for ring in channel.carousel.cycle_facts(channel.carousel_bps):
                self._metrics.ring_cards.labels(name, ring.name).set(ring.cards)
                self._metrics.cycle_seconds.labels(name, ring.name).set(ring.cycle_s)


def notice_ring(channel: Channel) -> list[RingFacts]:
    """The notices of a channel as a ring of EMMs, where there are any; none of them has a limit."""
    notices = channel.notices
    if not len(notices):
        return []
    return [RingFacts(NOTICE_RING, len(notices), notices.bits // 8, math.inf, notices.cycle_s)]


def carried_by(link: Link) -> str | None:
    """Which multiplexer carries the stream, "main" or "standby"; None where there is no standby."""
    return link.carrying if isinstance(link, MuxPair) else None


def carousel_policy(settings: CarouselSettings) -> CarouselPolicy:
    """The carousel's policy as the settings want it."""
    return CarouselPolicy(
        first_transmission_s=settings.first_transmission_s,
        first_hour_repeat_s=settings.first_hour_repeat_s,
        cycle_s=settings.cycle_s,
        min_repeat_s=settings.min_repeat_s,
        new_share=settings.new_share,
    )


def on_air_sizes(sizes: np.ndarray[Any, np.dtype[np.uint16]], outlet: Outlet) -> np.ndarray[Any, Any]:
    """Bytes on the air for EMMs of so many bytes: few distinct sizes, so a table does."""
    table = {size: -(-cost_bits(size, outlet.packing) // 8) for size in np.unique(sizes).tolist()}
    return np.vectorize(table.__getitem__, otypes=[np.int64])(sizes) if len(sizes) else sizes.astype(np.int64)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _finite(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None
