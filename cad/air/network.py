"""One network on the air: the roster of its cards and the channels of its multiplexes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from cad.air.broadcast import Channel, FirstAir, WaitingChange, resend_horizon_s
from cad.air.links import Link
from cad.air.mux_pair import MAIN, MuxPair
from cad.air.roster import CardBlock, RightBlock, Roster, SectionCache
from cad.frame import clock as clocks
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.ledger.model import CardChange, OpenChange
from config.settings import CarouselSettings, NetworkSettings, Outlet
from emm.calendar import Calendar
from emm.carousel import Carousel, CarouselPolicy
from emm.errors import EmmError
from emm.pacer import cost_bits
from emm.seal import EmmSealer, section_sizes

log = structlog.get_logger("cad.air.network")

FIRST_HOUR_S: Final = 3600.0
ROUNDING_S: Final = 1.0
TYPICAL_SECTIONS: Final = (256,)
"""What a promise reckons with before the content is known: one section, the largest there is."""


@dataclass(frozen=True, slots=True)
class Promise:
    """When a change made now will be on the air and by when visible (Unix seconds), or why that cannot be told."""

    on_air_by: int | None
    visible_by: int | None
    detail: str | None = None


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
    ) -> None:
        self.id = settings.id
        self._repeat_s = carousel.first_hour_repeat_s
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
                Carousel(policy, resend_horizon_s=resend_horizon_s(outlet)),
                cache,
                clock,
                metrics,
                aired,
            )
            for outlet in settings.outlets
        )

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
        for channel in self.channels:
            on_air = on_air_sizes(sizes, channel.settings)
            channel.carousel.add_many(slots[settled], on_air[settled], self._clock.monotonic())
        for slot, change in unsettled.items():
            assert slot is not None
            sections = self._sections(slot)
            for channel in self.channels:
                if channel.multiplex not in change.aired:
                    channel.change(slot, sections, WaitingChange(change.change_seq, change.at, None))
                elif now - change.at < FIRST_HOUR_S:
                    channel.restore(slot, sections, change.at)
                else:
                    channel.carousel.add(slot, channel.size(sections), self._clock.monotonic())

    def apply(self, change: CardChange, on_air_by: float | None, urgent: bool = True) -> None:
        """Follow one change of a commit; one of very many at once is not urgent, and lets single orders pass."""
        slot, _ = self.roster.apply(change)
        sections = self._sections(slot)
        waiting = WaitingChange(change.change_seq, change.committed_at, on_air_by)
        for channel in self.channels:
            channel.change(slot, sections, waiting, urgent)

    def promise(self, now: float) -> Promise:
        """What can be promised for a change made now, on the slowest multiplex of the network."""
        if not self.channels:
            return Promise(None, None, "this network has no multiplex yet; the change is kept")
        down = [channel.multiplex for channel in self.channels if not channel.link.ready]
        if down:
            return Promise(
                None,
                None,
                f"no time can be told while multiplex {', '.join(down)} is not connected; the change is kept",
            )
        slowest = max(channel.forecast(TYPICAL_SECTIONS) for channel in self.channels)
        if math.isinf(slowest):
            return Promise(None, None, "no time can be told while a multiplex has no bandwidth; the change is kept")
        on_air_by = math.ceil(now + slowest + ROUNDING_S)
        short = any(channel.carousel.shortfalls(channel.link.allocated_bps) for channel in self.channels)
        detail = "the bandwidth does not suffice for the usual repetition" if short else None
        return Promise(on_air_by, math.ceil(on_air_by + self._repeat_s), detail)

    def _sections(self, slot: int) -> tuple[int, ...]:
        try:
            period = self._calendar.period(self._clock.now())
            return section_sizes(self.roster.content(slot, period, self._calendar))
        except EmmError as error:
            log.error("a card's EMM cannot be made", network=self.id, slot=slot, error=str(error))
            return TYPICAL_SECTIONS

    def on_air(self, address: int) -> list[dict[str, Any]]:
        """Where a card stands on each multiplex, for `explain`."""
        slot = self.roster.slot_of(address)
        found = []
        for channel in self.channels:
            place = None if slot is None else channel.carousel.place(slot)
            ago = None
            if place is not None and place.sent_at is not None:
                ago = max(0.0, self._clock.monotonic() - place.sent_at)
            found.append(
                {
                    "multiplex": channel.multiplex,
                    "connected": channel.link.ready,
                    "ring": None if place is None else place.ring,
                    "last_sent_at": None if ago is None else clocks.spell(self._clock.now() - ago),
                    "last_sent_ago_s": None if ago is None else round(ago, 1),
                }
            )
        return found

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
                "shortfalls": [one.text for one in self.shortfalls(channel)],
                "rings": [
                    {
                        "ring": ring.name,
                        "cards": ring.cards,
                        "bytes": ring.size,
                        "limit_s": _finite(ring.limit_s),
                        "cycle_s": _finite(ring.cycle_s),
                    }
                    for ring in channel.carousel.cycle_facts(channel.link.allocated_bps)
                ],
            }
            for channel in self.channels
        ]

    def shortfalls(self, channel: Channel) -> list[Any]:
        """Why the promise cannot, or soon will not, be kept on a channel; empty while its link is down."""
        if not channel.link.ready:
            return []
        rate = channel.link.allocated_bps
        return channel.carousel.shortfalls(rate) or channel.carousel.outlook(rate)

    def look(self, health: Health, backlog_s: float) -> None:
        """Bring metrics and conditions of every multiplex up to date."""
        now = self._clock.monotonic()
        for channel in self.channels:
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
            for ring in channel.carousel.cycle_facts(channel.link.allocated_bps):
                self._metrics.ring_cards.labels(name, ring.name).set(ring.cards)
                self._metrics.cycle_seconds.labels(name, ring.name).set(ring.cycle_s)


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
