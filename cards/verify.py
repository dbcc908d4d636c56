"""Does a card agree with the ledger? One verdict, in words for the customer, and the next thing to do. Pure.

What the card holds is compared with what the plan (`emm.plan`) says that it should hold, right by right.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cards.data_objects import SPECIFICATION, HeldRight
from cards.session import CardInfo
from emm.calendar import Calendar
from emm.message import EmmKind, Version
from emm.payload import CardState
from emm.plan import CardContent, Right, plan_card
from emm.traits import NO_TRAITS, Traits
from protocol import receiver_number

RENEWAL_GRACE_S: Final = 3600
"""How long after the start of a period a card may not have heard its renewal: the carousel needs half an hour."""
CHANGE_GRACE_S: Final = 600
"""How long after an order the change may still be on its way."""


class Code(StrEnum):
    """The verdicts; stable, documented in docs/technician.md."""

    OK = "ok"
    NOTHING_ORDERED = "nothing-ordered"
    NEWER_THAN_EXTRACT = "newer-than-extract"
    WRONG_APPLICATION = "wrong-application"
    UNKNOWN_CARD = "unknown-card"
    NOT_GENUINE = "not-genuine"
    UNPROVEN = "unproven"
    WRONG_KEYS = "wrong-keys"
    OLD_SPECIFICATION = "old-specification"
    SUSPENDED = "suspended"
    BLANK = "blank"
    AHEAD = "ahead"
    ON_ITS_WAY = "on-its-way"
    RIGHTS_DIFFER = "rights-differ"
    PAIRING_DIFFERS = "pairing-differs"
    ACCESS_DIFFERS = "access-differs"
    REGION_DIFFERS = "region-differs"
    NOT_HEARING = "not-hearing"


PASSING: Final = frozenset({Code.OK, Code.NOTHING_ORDERED, Code.NEWER_THAN_EXTRACT})

_WORDS: Final[dict[Code, tuple[str, str]]] = {
    Code.OK: (
        "The card is in order: it opens everything that is ordered.",
        "If a channel is dark, look at the receiver.",
    ),
    Code.NOTHING_ORDERED: ("The card is in order, but no channel is ordered for it.", "Order a channel in the portal."),
    Code.NEWER_THAN_EXTRACT: (
        "The card is genuine and has heard something newer than this laptop knows, so it receives well.",
        "Fetch a new extract (cad field fetch), or check again with network.",
    ),
    Code.WRONG_APPLICATION: (
        "This is not a card of this system.",
        "Put in the viewing card, chip first; if it is one, compare card_aid of the settings.",
    ),
    Code.UNKNOWN_CARD: (
        "This card has not been given to a customer of this operator.",
        "Compare the printed number; have the card assigned, or take the customer's own card.",
    ),
    Code.NOT_GENUINE: (
        "This card is not genuine: it cannot prove that it is the card of its number.",
        "Keep the card, give the customer a new one, and report the number to the operator.",
    ),
    Code.UNPROVEN: (
        "This card cannot be shown to be genuine: it does not know the command for it.",
        "Replace it by a card of the present specification.",
    ),
    Code.WRONG_KEYS: (
        "The card was made with other keys than the headend now uses for it.",
        "Replace the card, or have it personalised anew.",
    ),
    Code.OLD_SPECIFICATION: (
        "The card follows another specification than this program.",
        "Update this program; if it is new, replace the card.",
    ),
    Code.SUSPENDED: ("The card is blocked by the operator.", "The operator reopens it; the reason is above."),
    Code.BLANK: ("The card has heard nothing from the headend yet.", "Write it in now: cad card refresh."),
    Code.AHEAD: (
        "The card has heard something newer than the headend has ever sent.",
        "Report the card's number to the headend, where perhaps an old backup was put back.",
    ),
    Code.ON_ITS_WAY: (
        "The order was changed a moment ago and is still on its way to the card.",
        "Wait some minutes with the card in the receiver, or write it in now: cad card refresh.",
    ),
    Code.RIGHTS_DIFFER: (
        "The card does not hold what is ordered.",
        "Write it in now: cad card refresh. Then find out why it was not heard: cable, receiver, network.",
    ),
    Code.PAIRING_DIFFERS: (
        "The card is not paired with the receiver that it is ordered for.",
        "Write it in now: cad card refresh. Then compare the receiver's printed number with the one above.",
    ),
    Code.ACCESS_DIFFERS: (
        "The card has not heard its parental level or the reset of its PIN.",
        "Write it in now: cad card refresh. Then the PIN is 0000 after a reset.",
    ),
    Code.REGION_DIFFERS: (
        "The card stands in another region than is ordered: a programme may be blacked out for it wrongly.",
        "Write it in now: cad card refresh. If the region above is wrong, let the operator correct it.",
    ),
    Code.NOT_HEARING: (
        "The card works today, but it does not hear its renewals and will go dark.",
        "Write it in now: cad card refresh. Then look at cable and receiver.",
    ),
}


@dataclass(frozen=True, slots=True)
class Ordered:
    """What the ledger says of a card. `changed_at`: UTC seconds of its newest change. `live`: asked just now.

    `traits`: what its EMM says besides rights.
    """

    suspended: bool
    reason: str | None
    key_version: int
    revision: int
    rights: tuple[Right, ...]
    changed_at: float
    live: bool
    traits: Traits = NO_TRAITS


@dataclass(frozen=True, slots=True)
class RightLine:
    """One product: what the card holds of it, what it should hold, whether both are the same, and open now."""

    product_id: int
    held: tuple[HeldRight, ...]
    wanted: tuple[HeldRight, ...]
    agrees: bool
    open_now: bool


@dataclass(frozen=True, slots=True)
class TraitLine:
    """One thing besides rights, in words: what the card holds, what it should, and whether both are the same."""

    name: str
    on_card: str
    ordered: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """PASS or FAIL. `sentence` is for the customer, `advice` is the next thing to do."""

    code: Code
    passed: bool
    sentence: str
    advice: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what it rests on. `newest`: the version that the card should hold."""

    verdict: Verdict
    lines: tuple[RightLine, ...]
    newest: Version
    held: Version | None
    traits: tuple[TraitLine, ...] = ()


def verdict_of(code: Code) -> Verdict:
    """The verdict with its words."""
    sentence, advice = _WORDS[code]
    return Verdict(code, code in PASSING, sentence, advice)


def judge(info: CardInfo, ordered: Ordered, genuine: bool | None, now: float, calendar: Calendar) -> Judgement:
    """The verdict on a card. `genuine`: whether it proved its key; None when it does not know how to.

    `now`: UTC seconds, the headend's where it was asked. Raises `PlanError` for rights that no EMM could say.
    """
    newest = Version(calendar.period(now), ordered.revision)
    held = info.versions.held[EmmKind.UNIQUE]
    lines = _lines(info, _plan(ordered, newest.period, calendar), now)
    agrees = all(line.agrees for line in lines)
    if not agrees and held is not None and held.period < newest.period:
        # A renewal that was not heard yet changes the ends of rights; what counts is what the card was told then.
        then = _lines(info, _plan(ordered, held.period, calendar), now)
        agrees = held.revision == ordered.revision and all(line.agrees for line in then)
    code = _code(info, ordered, genuine, now, calendar, agrees)
    return Judgement(verdict_of(code), lines, newest, held, trait_lines(info, ordered.traits))


def trait_lines(info: CardInfo, ordered: Traits) -> tuple[TraitLine, ...]:
    """What the card and the ledger say besides rights, side by side."""
    lines = [
        _line_of("pairing", _pairing(info.receiver), _pairing(ordered.receiver)),
        _line_of("parental level", _level(info.access.parental), _level(ordered.parental)),
    ]
    if ordered.pin_reset:
        lines.append(_line_of("PIN reset", "taken" if _is_reset(info, ordered) else "not heard yet", "taken"))
    if info.region or ordered.region:
        lines.append(_line_of("region", _region(info.region), _region(ordered.region)))
    return tuple(lines)


def _is_reset(info: CardInfo, ordered: Traits) -> bool:
    return info.access.pin_reset >= ordered.pin_reset


def _level(age: int) -> str:
    return f"PIN from age {age}" if age else "none"


def _line_of(name: str, on_card: str, ordered: str) -> TraitLine:
    return TraitLine(name, on_card, ordered, on_card == ordered)


def _pairing(receiver: int | None) -> str:
    return "any receiver" if receiver is None else f"receiver {receiver_number.spell(receiver)}"


def _region(region: int) -> str:
    return f"region {region}" if region else "none"


def _code(info: CardInfo, ordered: Ordered, genuine: bool | None, now: float, calendar: Calendar, agrees: bool) -> Code:
    held, period = info.versions.held[EmmKind.UNIQUE], calendar.period(now)
    is_paired = info.receiver == ordered.traits.receiver
    is_set = info.access.parental == ordered.traits.parental and _is_reset(info, ordered.traits)
    is_placed = info.region == ordered.traits.region
    agrees_all = agrees and is_paired and is_set and is_placed
    rules: tuple[tuple[Callable[[], bool], Code], ...] = (
        (lambda: info.versions.key_version != ordered.key_version, Code.WRONG_KEYS),
        (lambda: genuine is None, Code.UNPROVEN),
        (lambda: genuine is False, Code.NOT_GENUINE),
        (lambda: info.versions.specification != SPECIFICATION, Code.OLD_SPECIFICATION),
        (lambda: _is_ahead(held, ordered, period) and ordered.live, Code.AHEAD),
        (lambda: _is_ahead(held, ordered, period) and info.state.state is CardState.SUSPENDED, Code.SUSPENDED),
        (lambda: _is_ahead(held, ordered, period), Code.NEWER_THAN_EXTRACT),
        (lambda: ordered.suspended, Code.SUSPENDED),
        (lambda: held is None and now - ordered.changed_at < CHANGE_GRACE_S, Code.ON_ITS_WAY),
        (lambda: held is None, Code.BLANK),
        (lambda: not agrees_all and now - ordered.changed_at < CHANGE_GRACE_S, Code.ON_ITS_WAY),
        (lambda: not agrees or (info.state.state is CardState.SUSPENDED), Code.RIGHTS_DIFFER),
        (lambda: not is_paired, Code.PAIRING_DIFFERS),
        (lambda: not is_set, Code.ACCESS_DIFFERS),
        (lambda: not is_placed, Code.REGION_DIFFERS),
        (lambda: held is not None and _misses_renewals(held, now, calendar), Code.NOT_HEARING),
        (lambda: not ordered.rights or not _is_anything_left(ordered, now), Code.NOTHING_ORDERED),
    )
    return next((code for holds, code in rules if holds()), Code.OK)


def _is_ahead(held: Version | None, ordered: Ordered, period: int) -> bool:
    return held is not None and (held.period > period or held.revision > ordered.revision)


def _misses_renewals(held: Version, now: float, calendar: Calendar) -> bool:
    missed = calendar.period(now) - held.period
    return missed > 1 or (missed == 1 and now - calendar.period_start(calendar.period(now)) > RENEWAL_GRACE_S)


def _is_anything_left(ordered: Ordered, now: float) -> bool:
    return any(right.end is None or right.end > now for right in ordered.rights)


def _plan(ordered: Ordered, period: int, calendar: Calendar) -> CardContent:
    return plan_card(ordered.suspended, ordered.rights, period, calendar)


def _lines(info: CardInfo, content: CardContent, now: float) -> tuple[RightLine, ...]:
    """One line a product. What has ended counts on neither side: it opens nothing."""
    wanted = _alive(
        (
            HeldRight(product_id, window.start, window.end, window.first_epoch, window.key_count)
            for window in content.windows
            for product_id in window.product_ids
        ),
        now,
    )
    held = _alive(info.rights, now)
    return tuple(
        RightLine(
            product_id,
            held.get(product_id, ()),
            wanted.get(product_id, ()),
            _opened(held.get(product_id, ()), now) == _opened(wanted.get(product_id, ()), now),
            any(right.start <= now for right in held.get(product_id, ())),
        )
        for product_id in sorted(held.keys() | wanted.keys())
    )


def _alive(rights: Iterable[HeldRight], now: float) -> dict[int, tuple[HeldRight, ...]]:
    found: dict[int, tuple[HeldRight, ...]] = {}
    for right in sorted(rights, key=lambda one: (one.product_id, one.start, one.end)):
        if right.end > now:
            found[right.product_id] = (*found.get(right.product_id, ()), right)
    return found


def _opened(rights: tuple[HeldRight, ...], now: float) -> list[tuple[int, int]]:
    """When they open from now on: a start that is over is told as 0 in later periods, and means the same."""
    return [(right.start if right.start > now else 0, right.end) for right in rights]
