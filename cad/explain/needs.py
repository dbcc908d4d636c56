"""What a card would need to show a channel: everything that is missing, not the first thing only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cad.explain.case import Case
from cad.explain.verdict import judge_air, judge_key, judge_right
from cad.ledger.model import BLACKLISTED, OPEN_STATES, REPLACED
from protocol import card_number, receiver_number

_OF_STATE: Final = {
    "suspended": ("reopen", "The card must be reopened (`card reopen`)."),
    "stock": ("assign", "The card must be assigned to a customer (`card assign`)."),
    "returned": ("assign", "The card must be released and assigned to a customer (`card release`, `card assign`)."),
    "lost": ("replace", "The card must be replaced (`card replace`), or reopened if it was found (`card reopen`)."),
    "stolen": ("replace", "The card must be replaced by another (`card replace`)."),
    "defective": ("replace", "The card must be replaced by another (`card replace`)."),
    "blacklisted": ("other_card", "Another card is needed: this one will never open anything again."),
}


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that is missing. `code` is stable, `text` is for whoever answers the customer.

    `names`: the offers, multiplexes, card or receiver that it is about; `at`: the moment to wait for, Unix seconds.
    """

    code: str
    text: str
    names: tuple[str, ...] = ()
    at: float | None = None


def find_needs(case: Case) -> list[Need]:
    """Return all that is missing, in the order in which it is to be seen to; nothing when nothing is."""
    return [*_of_card(case), *_of_right(case), *_of_air(case)]


def _of_card(case: Case) -> Iterator[Need]:
    view = case.view
    if view.state == REPLACED:
        names = () if view.replaced_by is None else (card_number.spell(view.replaced_by),)
        yield Need("other_card", f"Its subscriptions are on card {''.join(names) or 'that replaced it'}.", names)
    elif view.state not in OPEN_STATES:
        yield Need(*_OF_STATE[view.state])


def _of_right(case: Case) -> Iterator[Need]:
    name = case.service.name
    if case.view.state in (REPLACED, BLACKLISTED):
        return
    if not case.products:
        yield Need("product", f"{name} must be in a product of the settings.")
        return
    verdict = judge_right(case) or judge_key(case)
    match None if verdict is None else verdict.code:
        case "no_subscription" | "not_listed" | "ended":
            offers = tuple(case.offers)
            some = (
                f"one of the offers {', '.join(offers)}" if offers else f"an offer with {name}, which must be put first"
            )
            yield Need("offer", f"A subscription to {some}.", offers)
        case "not_chosen":
            yield _choice(case)
        case "on_its_way":
            text = "has changed; this card follows within minutes"
            yield Need("offer_changed", f"{' and '.join(case.coming())} {text}.", tuple(case.coming()))
        case "not_begun":
            at = min(right.start for right in case.mine if right.start > case.now)
            yield Need("wait", f"The subscription begins at {case.told(at)}.", at=at)
        case "blacked_out":
            yield Need("wait", f"The blackout ends at {case.told(case.blacked_out or 0)}.", at=case.blacked_out)
        case "not_in_emm":
            yield Need("report", "This is a defect of the program: report it.")


def _choice(case: Case) -> Need:
    slugs = set(case.products.values())
    mix = next(one for one in case.live() if one.choice is not None and slugs & set(one.listed))
    at = mix.next_change_at or case.now
    text = f"{case.service.name} must be chosen in {mix.offer}; the choice can be changed from {case.told(at)} on."
    return Need("choice", text, (mix.offer,), at)


def _of_air(case: Case) -> Iterator[Need]:
    view = case.view
    if view.state in (REPLACED, BLACKLISTED) or not case.products:
        return
    down = tuple(place.multiplex for place in case.on_air if not place.connected)
    if down or not case.on_air:
        some = f"Multiplex {', '.join(down)} must be connected." if down else "The network must have a multiplex."
        yield Need("multiplex", some, down)
    opens = view.state in OPEN_STATES and (judge_right(case) or judge_key(case)) is None
    verdict = judge_air(case) if opens else None
    if verdict is not None and verdict.code in ("not_on_air", "sent_before"):
        by = "soon" if case.next_by is None else f"by {case.told_by(case.next_by)}"
        yield Need("wait", f"The right is sent to the card {by}.", at=case.next_by)
    if view.traits.receiver is not None:
        number = receiver_number.spell(view.traits.receiver)
        yield Need("receiver", f"The card must be in receiver {number}: it is paired with it.", (number,))
