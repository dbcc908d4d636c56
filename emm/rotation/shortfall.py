"""Where the arithmetic does not permit M2, said before it happens: in words, with figures and what to do."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from emm.rotation.arithmetic import Population, needed_bps, usable_bps
from emm.rotation.policy import CarouselPolicy

FRESH: Final = 0
GRAIN: Final = 0.05
"""Rings are served EMM by EMM, not as a fluid: a spacing so close below its limit is reckoned as missed."""
PACE_CARDS_MIN: Final = 30
"""Fewer changes than these within `fresh_s` say nothing of a pace."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """One reason why M2 cannot hold: `kind` is stable, `text` is for people and says what to do."""

    kind: str
    text: str
    needed_bps: float
    rate_bps: float


@dataclass(frozen=True, slots=True)
class Situation:
    """The carousel at one moment: populations by age (fresh, hour, base), how long the head of each has waited,
    cards and bytes of the never-sent, and of those among them that are promised a deadline, the largest size in bytes.
    """

    policy: CarouselPolicy
    populations: tuple[Population, ...]
    waited_s: tuple[float, ...]
    waiting: tuple[int, int]
    promised: tuple[int, int]
    largest: int


def find_shortfalls(now: Situation, rate_bps: float) -> list[Shortfall]:
    """Return every reason why the intervals cannot be kept with the cards as they stand."""
    if not sum(population.cards for population in now.populations) + now.waiting[0]:
        return []
    if usable_bps(rate_bps, now.largest) <= 0:
        return [_no_rate(now, rate_bps)]
    usable = usable_bps(rate_bps, now.largest)
    return [*_repeats(now, usable), *_first(now, usable), *_squeezed(now, usable)]


def find_outlook(now: Situation, rate_bps: float) -> list[Shortfall]:
    """Return what will be short if changes go on at the pace of the last `fresh_s`, unless it is short already."""
    policy, fresh = now.policy, now.populations[FRESH]
    cards = sum(population.cards for population in now.populations)
    size = sum(population.size for population in now.populations)
    rate_bps = usable_bps(rate_bps, now.largest)
    if fresh.cards < PACE_CARDS_MIN or fresh.cards >= cards or needed_bps(now.populations) > rate_bps:
        return []
    # Changes fall on cards at random: of `cards`, a share of 1 - exp(-x) has changed after x changes a card.
    pace = -math.log1p(-fresh.cards / cards) / policy.fresh_s
    changed = cards * -math.expm1(-pace * policy.first_hour_s)
    mean = size / cards * 8
    needed = (changed / policy.first_hour_repeat_s + (cards - changed) / policy.cycle_s + pace * cards) * mean
    if needed <= rate_bps:
        return []
    text = (
        f"if changes go on at {pace * cards:.1f} a second as in the last {_span(policy.fresh_s)}, repeats will need "
        f"{_kbps(needed)} within the hour, and {_kbps(rate_bps)} can be counted on: ask the multiplexer for more "
        "bandwidth now, or spread the changes over more time"
    )
    return [Shortfall("pace", text, needed, rate_bps)]


def _after_sending(now: Situation) -> tuple[Population, ...]:
    """Populations once the never-sent have joined the freshly changed."""
    fresh, *others = now.populations
    cards, size = now.waiting
    return (replace(fresh, cards=fresh.cards + cards, size=fresh.size + size), *others)


def _no_rate(now: Situation, rate_bps: float) -> Shortfall:
    needed = max(needed_bps(now.populations), now.largest * 16.0)
    text = (
        f"{_kbps(rate_bps)} are allocated, which is hardly one EMM of {now.largest} bytes a second: nothing can be "
        f"kept. At least {_kbps(needed)} are needed: check that the multiplexer answers the bandwidth request"
    )
    return Shortfall("rate", text, needed, rate_bps)


def _repeats(now: Situation, rate_bps: float) -> Iterator[Shortfall]:
    *hour, base = _after_sending(now)
    needed = needed_bps([*hour, base])
    if needed <= rate_bps:
        return
    text = (
        f"{sum(population.cards for population in hour)} cards in their first hour every "
        f"{now.policy.first_hour_repeat_s:g} s need {_kbps(needed_bps(hour))}, {base.cards} others every "
        f"{_span(now.policy.cycle_s)} need {_kbps(base.needed_bps)}: {_kbps(needed)} together, and {_kbps(rate_bps)} "
        f"can be counted on. Repeats will come {needed / rate_bps:.2f} times as far apart as promised: ask the "
        "multiplexer for more bandwidth, or spread the changes over more time"
    )
    yield Shortfall("repeats", text, needed, rate_bps)


def _lane_bps(now: Situation, rate_bps: float) -> float:
    """Rate left to the never-sent: all that repeats do not need, their share at least."""
    return max(rate_bps - needed_bps(now.populations), rate_bps * now.policy.new_share)


def _first(now: Situation, rate_bps: float) -> Iterator[Shortfall]:
    cards, size = now.promised
    limit = now.policy.first_transmission_s
    drain_s = size * 8 / _lane_bps(now, rate_bps)
    if drain_s <= limit:
        return
    needed = size * 8 / limit / (_lane_bps(now, rate_bps) / rate_bps)
    text = (
        f"{cards} changes wait for their first transmission, the last of them for {_span(drain_s)} at {_kbps(rate_bps)}"
        f"; promised are {limit:g} s, which would need {_kbps(needed)}: ask the multiplexer for more bandwidth, or "
        "send mass changes as bulk"
    )
    yield Shortfall("first", text, needed, rate_bps)


def _squeezed(now: Situation, rate_bps: float) -> Iterator[Shortfall]:
    """Repeats that need more than the never-sent leave them, for as long as those take to drain."""
    needed = needed_bps(now.populations)
    left = rate_bps * (1 - now.policy.new_share)
    squeeze_s = now.waiting[1] * 8 / (rate_bps * now.policy.new_share)
    if needed <= left or needed > rate_bps:
        return
    # All rings are behind in the same proportion then, so each is served at this part of its need, then as before.
    part = left / needed
    for population, waited in zip(now.populations, now.waited_s, strict=True):
        if not population.cards:
            continue
        limit = population.limit_s
        done = min(1.0, part * squeeze_s / limit)
        # The card at that place of its ring is the worst off: it has waited with all ahead of it, and waits on.
        worst = waited * (1 - done) + (squeeze_s if done < 1 else limit / part)
        if done < 1:
            worst = max(worst, squeeze_s + (1 - done) * limit * needed / rate_bps)
        if worst > limit * (1 - GRAIN):
            text = (
                f"while {now.waiting[0]} changes are sent for the first time ({_span(squeeze_s)}), repeats have "
                f"{_kbps(left)} of {_kbps(needed)} they need: some of {population.cards} cards will be {worst:.0f} s "
                f"apart instead of {limit:g} s. Ask the multiplexer for more bandwidth, or send mass changes in "
                "smaller portions"
            )
            yield Shortfall("squeezed", text, needed / (1 - now.policy.new_share), rate_bps)


def _kbps(rate_bps: float) -> str:
    return f"{rate_bps / 1000:.1f} kbit/s"


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
