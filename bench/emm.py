"""How fast one core plans, seals and frames EMMs, and makes ECMs."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Final, TypeVar

from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import Version
from emm.plan import CardContent, Right, plan_card
from emm.seal import EmmSealer
from emm.traits import Traits
from protocol import receiver_number

Item = TypeVar("Item")

AIMS: Final = {"emm_sealed_and_framed_per_s": (20_000.0, "min")}

SECONDS: Final = 1.5
PERIOD: Final = 4166
CARDS: Final = 5_000
SESSION_KEY: Final = bytes(range(16))
WORDS: Final = (bytes(8), bytes(8))


def run() -> dict[str, float]:
    """Measure for some seconds: work per second on one core.

    An EMM is sealed from its content: card key, payload (out of the cache, as most cards share one), SIV, framing. The
    cards hold one to four products, a few of them in a window of their own. A paired card's EMM has a key of its own.
    """
    calendar = Calendar()
    ladder = KeyLadder(LocalMasterKey(bytes(range(32))))
    sealer, ecm_sealer = EmmSealer(ladder), EcmSealer(ladder)
    rights = [_rights(card, calendar) for card in range(CARDS)]
    cards = [(card, plan_card(False, held, PERIOD, calendar)) for card, held in enumerate(rights)]
    header = EcmHeader(Parity.EVEN, calendar.period_start(PERIOD), 1, calendar.epoch_of_period(PERIOD))

    no_cache = EmmSealer(ladder, payloads_cached=0)

    def seal(card: tuple[int, CardContent]) -> int:
        number, content = card
        return len(sealer.unique(10_000_000_000 + number, 1, Version(PERIOD, 1), content))

    def seal_afresh(card: tuple[int, CardContent]) -> int:
        number, content = card
        return len(no_cache.unique(10_000_000_000 + number, 1, Version(PERIOD, 1), content))

    homes = [Traits(receiver_number.of_serial(1 + card)) for card, _ in cards]
    paired = [(card, replace(content, traits=homes[card])) for card, content in cards]
    return {
        "emm_sealed_and_framed_per_s": _rate(seal, cards),
        "emm_of_new_content_sealed_per_s": _rate(seal_afresh, cards),
        "emm_of_paired_card_sealed_per_s": _rate(seal, paired),
        "cards_planned_per_s": _rate(lambda held: plan_card(False, held, PERIOD, calendar) is not None, rights),
        "ecm_sealed_per_s": _rate(lambda ids: ecm_sealer.seal(header, ids, WORDS, SESSION_KEY) != b"", [(1, 2, 3)]),
    }


def _rights(card: int, calendar: Calendar) -> list[Right]:
    start = calendar.period_start(PERIOD)
    held = [Right(1 + product, start - 86_400 * (1 + card % 300)) for product in range(1 + card % 4)]
    if card % 10 == 0:
        held.append(Right(50, start + card, start + card + 7_200))
    return held


def _rate(work: Callable[[Item], int], items: list[Item]) -> float:
    """Return how much of what `work` counts is done per second."""
    endless: Iterator[Item] = itertools.cycle(items)
    for item in items:
        work(item)
    done, start = 0, perf_counter()
    while (elapsed := perf_counter() - start) < SECONDS:
        for _ in range(200):
            done += work(next(endless))
    return done / elapsed
