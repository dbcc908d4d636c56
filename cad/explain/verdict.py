"""The one verdict on a card and a channel, with the sentence for the customer."""

from dataclasses import dataclass, replace
from typing import Final

from cad.explain.case import Case
from cad.ledger.model import OPEN_STATES, SUSPENDED
from emm.plan import plan_card
from protocol import receiver_number

_CLOSED: Final = {
    "stock": "The card is in stock: it is assigned to nobody.",
    "lost": "The card was reported lost. Its subscriptions wait for the card that replaces it.",
    "stolen": "The card was reported stolen. Its subscriptions wait for the card that replaces it.",
    "defective": "The card was reported defective. Its subscriptions wait for the card that replaces it.",
    "replaced": "The card was replaced by another, which has its subscriptions now.",
    "returned": "The card was returned.",
    "blacklisted": "The card is blacklisted and will never open anything again.",
}
"""Why a card in this state opens nothing."""
_REFRESH: Final = "`card refresh` sends the right again at once."


@dataclass(frozen=True, slots=True)
class Verdict:
    """`code` is stable; `sentence` is what can be told to the customer, `advice` is for whoever answers him."""

    visible: bool
    code: str
    sentence: str
    advice: str | None = None


def judge(case: Case) -> Verdict:
    """Return the first reason against, in the order product, card, right, key, air; else that it is visible."""
    name = case.service.name
    if not case.products:
        advice = "The service is in no product of the settings: put it into one."
        return Verdict(False, "no_product", f"{name} cannot be opened by any card at present.", advice)
    return _judge_state(case) or judge_right(case) or judge_key(case) or judge_air(case) or _visible(case)


def _judge_state(case: Case) -> Verdict | None:
    state = case.view.state
    if state in OPEN_STATES:
        return None
    if state == SUSPENDED:
        because = f" ({case.view.reason})" if case.view.reason else ""
        return Verdict(False, "suspended", f"The card is suspended{because}; its subscriptions are kept.")
    return Verdict(False, f"card_{state}", _CLOSED[state])


def judge_right(case: Case) -> Verdict | None:
    """Return why no right of the card to the service holds now, None when one does; whatever the card's state."""
    if case.runs:
        return None
    name = case.service.name
    if coming := case.coming():
        text = f"{' and '.join(coming)} has changed and includes {name} now; this card follows within minutes."
        return Verdict(False, "on_its_way", text)
    if not case.mine:
        return _judge_mixes(case) or Verdict(False, "no_subscription", f"No subscription of this card includes {name}.")
    if later := [right.start for right in case.mine if right.start > case.now]:
        return Verdict(False, "not_begun", f"The subscription with {name} begins at {case.told(min(later))}.")
    ended = max(right.end for right in case.mine if right.end is not None)
    return Verdict(False, "ended", f"The subscription with {name} ended at {case.told(ended)}.")


def _judge_mixes(case: Case) -> Verdict | None:
    """Say which running mix could open the service but does not; None where none could."""
    name, products = case.service.name, set(case.products.values())
    for one in case.live():
        if one.choice is None:
            continue
        if products & set(one.choice):
            text = f"{name} was chosen, but {one.offer} does not have it any more. Another can be chosen in its place."
            return Verdict(False, "not_listed", text)
        if products & set(one.listed):
            at = case.told(one.next_change_at or case.now)
            text = f"{name} is on the list of {one.offer}, but was not chosen. The choice can be changed from {at} on."
            return Verdict(False, "not_chosen", text)
    return None


def judge_key(case: Case) -> Verdict | None:
    """Return why a right that holds does not open the service: a blackout, or an EMM without its key."""
    name = case.service.name
    if case.blacked_out is not None:
        where = "in the card's region" if case.view.traits.region else "for cards without a region"
        until = case.told(case.blacked_out)
        return Verdict(False, "blacked_out", f"{name} is blacked out {where} until {until}.")
    content = plan_card(False, case.view.rights, case.calendar.period(case.now), case.calendar)
    held = {product for window in content.windows for product in window.product_ids}
    if held.isdisjoint(case.products):
        text = f"{name} is ordered, but because of a fault at the headend the card is not told so."
        return Verdict(False, "not_in_emm", text, "The right is not in the card's EMM: report this.")
    return None


def judge_air(case: Case) -> Verdict | None:
    """Return why the card may not have heard its right yet, None when it was sent since the daemon's start."""
    name = case.service.name
    if not case.on_air:
        text = f"{name} cannot be opened, because nothing is sent to the cards of this network."
        return Verdict(False, "no_multiplex", text, "The network has no multiplex in the settings.")
    changes = case.view.changes
    first_at = None if changes and not changes[0].aired else case.first_sent_at
    if not case.connected:
        sent = f"The right to {name} goes to the card when the fault is mended."
        if first_at is not None:
            sent = (
                f"The right to {name} was sent to the card at {case.told(first_at)};"
                " a card that has not received it gets it when the fault is mended."
            )
        text = f"Because of a fault nothing is sent to the cards of this network at present. {sent}"
        return Verdict(False, "not_connected", text, "No multiplex is connected: `cad status` says why.")
    by = "soon" if case.next_by is None else f"by {case.told_by(case.next_by)}"
    if (changes and not changes[0].aired) or all(place.waits for place in case.connected):
        return Verdict(False, "not_on_air", f"{name} is ordered; the right is sent to the card {by}.")
    if any(place.last_sent_at is not None and not place.waits for place in case.connected):
        return None
    sent = "is sent to the card again"
    if first_at is not None:
        sent = f"was sent to the card at {case.told(first_at)}; it is sent again"
    text = f"The right to {name} {sent} {by}. If the picture is missing, leave the receiver on {name} until then."
    return Verdict(False, "sent_before", text, f"The card was sent nothing yet since the daemon's start. {_REFRESH}")


def _visible(case: Case) -> Verdict:
    name, view = case.service.name, case.view
    where = "If the picture is missing"
    if view.traits.receiver is not None:
        where = f"Only receiver {receiver_number.spell(view.traits.receiver)} shows it; if the picture is missing there"
    text = f"The card may open {name}. {where}, leave the receiver on {name} for some minutes."
    found = Verdict(True, "visible", text, _REFRESH)
    if view.behind and not case.giving():
        gone = f" {' and '.join(view.behind)} has changed and does not include {name} any more;"
        return replace(found, sentence=f"{text}{gone} this card follows within minutes.")
    return found
