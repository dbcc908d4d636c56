"""The life of a card, and how it is set up for a home: commands on `card`, but for messages."""

from collections.abc import Iterable

from tests.support.headend_model.state import (
    IN_HANDS,
    OPEN,
    REPORTED,
    Card,
    Refused,
    State,
    cannot,
    check_rev,
)


def assign(
    state: State, operator: str, now: float, card: int, rev: int, subscriber: str, region: str | None = None
) -> None:
    known = state.cards.get(card)
    if known is not None:
        check_rev(rev, state.in_range(operator, card))
    number = region_number(state, operator, region)
    one = state.in_range(operator, card)
    if one.state == "stock":
        one.state, one.region = "assigned", number or 0
        one.give_to(subscriber)
    elif one.state in ("blacklisted", "returned"):
        raise cannot(one)
    elif one.subscriber != subscriber:
        raise Refused("card_in_use")
    elif number is not None:
        one.region = number
    one.rev = rev
    state.cards[card] = one


def suspend(state: State, operator: str, now: float, card: int, rev: int) -> None:
    one = in_state(state, operator, card, rev, (*IN_HANDS, *REPORTED))
    if one.state in IN_HANDS:
        one.state = "suspended"
    one.blocked, one.open_until, one.rev = True, None, rev


def reopen(state: State, operator: str, now: float, card: int, rev: int, until: int | None = None) -> None:
    one = in_state(state, operator, card, rev, (*IN_HANDS, *REPORTED))
    if until is not None and until <= now:
        raise Refused("invalid")
    if until is not None and not one.blocked and one.open_until is None:
        raise Refused("not_suspended")
    if one.state in ("suspended", "lost"):
        one.state = state.used(card, now)
    one.blocked, one.open_until, one.rev = False, until, rev


def report(state: State, operator: str, now: float, card: int, rev: int, condition: str) -> None:
    one = in_state(state, operator, card, rev, (*IN_HANDS, *REPORTED))
    one.state, one.rev = condition, rev


def replace(state: State, operator: str, now: float, card: int, rev: int, replacement: int) -> None:
    old = in_state(state, operator, card, rev, (*IN_HANDS, *REPORTED))
    new = state.in_range(operator, replacement)
    if new.state not in ("stock", "assigned"):
        raise cannot(new)
    if new.state == "assigned" and new.subscriber != old.subscriber:
        raise Refused("card_in_use")
    if new.open_until is not None:
        raise Refused("card_state")
    if new.state == "stock":
        new.give_to(old.subscriber)
    new.state = "suspended" if old.blocked else state.used(card, now)
    new.blocked, new.open_until = old.blocked, old.open_until
    new.receiver, new.level, new.region = new.receiver or old.receiver, new.level or old.level, new.region or old.region
    state.cards[replacement] = new
    old.state, old.blocked, old.open_until, old.rev = "replaced", False, None, rev
    old.receiver, old.level, old.region = None, 0, 0
    for one in state.services.values():
        if one.card == card and one.live(now):
            one.card = replacement


def take_back(state: State, operator: str, now: float, card: int, rev: int) -> None:
    """`card return`."""
    give_back(state, operator, now, card, rev, "returned", (*IN_HANDS, *REPORTED, "replaced"))


def release(state: State, operator: str, now: float, card: int, rev: int) -> None:
    give_back(state, operator, now, card, rev, "stock", (*IN_HANDS, "returned"))


def give_back(state: State, operator: str, now: float, card: int, rev: int, to: str, states: Iterable[str]) -> None:
    one = state.own(operator, card, rev)
    if one.state != to:
        if one.state not in states:
            raise cannot(one)
        if state.used(card, now) == "active":
            raise Refused("card_has_subscriptions")
        one.state, one.blocked, one.open_until = to, False, None
        one.receiver, one.level, one.region, one.pin_reset = None, 0, 0, state.next_number()
        if to == "stock":
            one.subscriber = ""
    one.rev = rev


def blacklist(state: State, operator: str, now: float, card: int, rev: int) -> None:
    one = state.in_range(operator, card)
    check_rev(rev, one)
    state.cards[card] = one
    one.state, one.open_until, one.rev = "blacklisted", None, rev


def refresh(state: State, operator: str, now: float, card: int) -> None:
    state.own(operator, card)


# For a home


def pair(state: State, operator: str, now: float, card: int, rev: int, receiver: int) -> None:
    one = in_state(state, operator, card, rev, IN_HANDS)
    one.receiver, one.rev = receiver, rev


def unpair(state: State, operator: str, now: float, card: int, rev: int) -> None:
    one = in_state(state, operator, card, rev, IN_HANDS)
    one.receiver, one.rev = None, rev


def place(state: State, operator: str, now: float, card: int, rev: int, region: str | None = None) -> None:
    """`card region`."""
    one = in_state(state, operator, card, rev, IN_HANDS)
    one.region, one.rev = region_number(state, operator, region) or 0, rev


def reset_pin(state: State, operator: str, now: float, card: int, rev: int) -> None:
    one = in_state(state, operator, card, rev, IN_HANDS)
    one.pin_reset, one.rev = state.next_number(), rev


def set_level(state: State, operator: str, now: float, card: int, rev: int, level: int) -> None:
    """`card parental`."""
    one = in_state(state, operator, card, rev, IN_HANDS)
    one.level, one.rev = level, rev


# What time brings


def pass_time(state: State, now: float) -> None:
    """Promises to pay run out."""
    for card in state.cards.values():
        if card.open_until is not None and card.open_until <= now:
            card.open_until, card.blocked = None, True
            if card.state in OPEN:
                card.state = "suspended"


def in_state(state: State, operator: str, address: int, rev: int, states: Iterable[str]) -> Card:
    """The operator's card, in one of these states."""
    one = state.own(operator, address, rev)
    if one.state not in states:
        raise cannot(one)
    return one


def region_number(state: State, operator: str, region: str | None) -> int | None:
    """The number of a part of the network's area; None where none is named."""
    if region is not None and region not in state.operators[operator].regions:
        raise Refused("unknown_region")
    return None if region is None else state.operators[operator].regions[region]
