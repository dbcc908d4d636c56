"""Who has what, from when to when, under which terms, with which choice. Commands on `subscription`."""

from collections.abc import Sequence

from tests.support.headend_model.state import (
    IN_HANDS,
    Offer,
    Refused,
    Service,
    State,
    cannot_have,
    check_rev,
)
from tests.support.headend_model.wall_clock import months_later, next_month


def put(
    state: State,
    operator: str,
    now: float,
    subscription: str,
    rev: int,
    card: int,
    offer: str,
    starts_at: int | None = None,
    ends_at: int | None = None,
    choice: Sequence[str] | None = None,
    authority: str = "customer",
) -> None:
    known = state.services.get((operator, subscription))
    check_rev(rev, known)
    holder = state.own(operator, card)
    if holder.state not in IN_HANDS:
        raise cannot_have(holder)
    sold = state.offers.get((operator, offer))
    if sold is None:
        raise Refused("unknown_offer")
    before = known if known is not None and known.live(now) else None
    if sold.withdrawn and (before is None or before.offer != offer):
        raise Refused("offer_withdrawn")
    start = starts_at if starts_at is not None else before.start if before and before.runs(now) else int(now)
    new = Service(rev, card, offer, start, ends_at)
    choose(state, operator, now, before, new, choice, authority)
    if sold.event is not None:
        if starts_at is not None or ends_at is not None:
            raise Refused("invalid")
        if sold.event.end <= now:
            raise Refused("event_over")
        new.start, new.end = sold.event.start, sold.event.end
    agree(state, operator, before, new)
    check_requirements(state, operator, subscription, new)
    if authority != "customer-service":
        check_end(before, new, now)
    if new.end is not None and new.end <= new.start:
        raise Refused("invalid")
    if sold.event is not None and (before is None or before.offer != offer):
        state.bought.append((operator, subscription, offer))
    state.services[operator, subscription] = new
    if holder.state == "assigned" and new.live(now):
        holder.state = "active"


def end(
    state: State,
    operator: str,
    now: float,
    subscription: str,
    rev: int,
    at: int | None = None,
    authority: str = "customer",
) -> None:
    one = state.services.get((operator, subscription))
    if one is None:
        raise Refused("unknown_subscription")
    check_rev(rev, one)
    moment = int(now) if at is None else at
    if one.end is None or one.end > moment:
        if authority != "customer-service":
            may_end(one, moment)
        one.end = max(moment, one.start)
    one.rev = rev


# Terms


def agree(state: State, operator: str, bound: Service | None, new: Service) -> None:
    """Terms are those of the order: the same order keeps them, a change adds the new offer's."""
    terms = state.offers[operator, new.offer].terms
    fixed, minimum = terms.get("fixed_months"), terms.get("minimum_months")
    if bound is not None:
        new.minimum, new.protected = bound.minimum, bound.protected
        if (bound.offer, bound.start) == (new.offer, new.start):
            if fixed and new.end is None:
                new.end = bound.end
            return
    months = fixed or minimum
    if months:
        then = months_later(new.start, months, state.operators[operator].zone)
        if fixed and new.end not in (None, then):
            raise Refused("fixed_term")
        new.end = then if fixed else new.end
        new.minimum = max(new.minimum or 0, then)
    new.protected = new.protected or terms.get("ended_by") == "customer-service"


def check_requirements(state: State, operator: str, name: str, new: Service) -> None:
    """The card must have one of the offers that this one presupposes when it starts."""
    wanted = state.offers[operator, new.offer].terms.get("requires")
    for (owner, other), one in state.services.items():
        mine = owner == operator and other != name and one.card == new.card
        runs = one.start <= new.start and (one.end is None or one.end > new.start)
        if mine and runs and one.offer in (wanted or ()):
            return
    if wanted:
        raise Refused("precondition_missing")


def check_end(before: Service | None, new: Service, now: float) -> None:
    """What makes a subscription shorter is an end, and so is putting it off while it runs."""
    if before is not None:
        if before.start <= now < new.start:
            may_end(before, int(now))
        elif new.end is not None and (before.end is None or new.end < before.end):
            may_end(before, new.end)
    if new.minimum is not None and new.end is not None and new.end < new.minimum:
        raise Refused("minimum_term")


def may_end(one: Service, at: int) -> None:
    """Whether the customer may end it himself."""
    if one.protected:
        raise Refused("needs_authority")
    if one.minimum is not None and at < one.minimum:
        raise Refused("minimum_term")


# The choice of a mix


def choose(
    state: State,
    operator: str,
    now: float,
    before: Service | None,
    new: Service,
    choice: Sequence[str] | None,
    authority: str,
) -> None:
    """Take the choice: all of it may be changed while it runs, but once in a calendar month there."""
    offer = state.offers[operator, new.offer]
    running = before if before is not None and before.runs(now) else None
    if running is not None:
        new.changed = running.changed
    if offer.kind != "mix":
        if choice is not None:
            raise Refused("choice_not_offered")
        if running is not None and running.choice is not None:
            new.changed = int(now)
        return
    new.choice = fitting(offer, before if before is not None and before.offer == new.offer else None, choice)
    if running is None:
        return
    given_up = running.choice is not None and bool(kept_listed(state, operator, running) - new.choice)
    comes_back = running.choice is None and running.changed is not None
    if (given_up or comes_back) and authority != "customer-service":
        free_at = free_again(state, operator, running.changed, now)
        if free_at is not None:
            raise Refused("choice_locked", free_at)
    if given_up:
        new.changed = int(now)


def fitting(offer: Offer, same: Service | None, choice: Sequence[str] | None) -> frozenset[str]:
    """The choice, which must be one of the offer's, or just what stands."""
    if choice is None:
        raise Refused("choice_needed")
    if same is None or same.choice != set(choice):
        if len(choice) != offer.choose:
            raise Refused("choice_count")
        if not set(choice) <= set(offer.products):
            raise Refused("choice_not_listed")
    return frozenset(choice)


def kept_listed(state: State, operator: str, service: Service) -> frozenset[str]:
    """What was chosen and is still on the list."""
    return (service.choice or frozenset()) & frozenset(state.offers[operator, service.offer].products)


def free_again(state: State, operator: str, changed: int | None, now: float) -> int | None:
    """When the choice can be changed again; None: now."""
    at = None if changed is None else next_month(changed, state.operators[operator].zone)
    return at if at is not None and at > now else None


def next_change(state: State, operator: str, subscription: str, now: float) -> int | None:
    """What a reply about a subscription says of its choice: from when on it can be changed."""
    one = state.services.get((operator, subscription))
    if one is None or one.choice is None or not one.live(now):
        return None
    locked = free_again(state, operator, one.changed, now) if one.runs(now) else None
    return locked or int(now)
