"""What is sold: channels, packages, mixes, and events with their windows and numbers. Commands on `offer`."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.headend_model.content import EPOCH, key_epoch
from tests.support.headend_model.state import Event, Offer, Refused, Service, State, check_rev

FIXED = ("mix", "event")


def put(
    state: State,
    operator: str,
    now: float,
    offer: str,
    rev: int,
    kind: str,
    products: Sequence[str] = (),
    terms: Mapping[str, Any] | None = None,
    choose: int | None = None,
    service: str = "",
    starts_at: int = 0,
    ends_at: int = 0,
    **_: Any,
) -> None:
    known = state.offers.get((operator, offer))
    check_rev(rev, known)
    if not set(products) <= state.operators[operator].products.keys():
        raise Refused("not_granted")
    if known is not None and known.kind != kind and (known.kind in FIXED or kind in FIXED):
        raise Refused("kind_fixed")
    new = Offer(rev, kind, tuple(products), terms or {}, choose)
    if kind == "event":
        before = known.event if known is not None else None
        new.event = the_event(state, operator, now, offer, before, service, starts_at, ends_at)
        if before is not None:
            follow(state, operator, now, offer, before, new.event)
    state.offers[operator, offer] = new


def withdraw(state: State, operator: str, now: float, offer: str, rev: int) -> None:
    known = state.offers.get((operator, offer))
    if known is None:
        raise Refused("unknown_offer")
    check_rev(rev, known)
    known.rev, known.withdrawn = rev, True


def the_event(
    state: State, operator: str, now: float, name: str, before: Event | None, service: str, start: int, end: int
) -> Event:
    """The event that an offer is from now on, with the number of its product."""
    if service not in state.operators[operator].events_on:
        raise Refused("not_granted")
    if end <= now or (before is not None and before.end <= now):
        raise Refused("event_over")
    others = [
        one.event for key, one in state.offers.items() if key != (operator, name) and one.event and one.event.end > now
    ]
    others = [one for one in others if one.service == service and one.start < end and one.end > start]
    for at in (start, *(one.start for one in others if one.start > start)):
        if sum(one.start <= at < one.end for one in others) >= state.events_at_once:
            raise Refused("too_many_events")
    epochs = range(int(max(start, now)) // EPOCH, key_epoch(end - 1) + 1)
    wanted = [] if before is None else [before.number]
    for number in (*wanted, *state.event_numbers):
        keys = [(number, epoch) for epoch in epochs]
        if all(state.event_keys.get(key, (operator, name)) == (operator, name) for key in keys):
            state.event_keys.update(dict.fromkeys(keys, (operator, name)))
            return Event(service, start, end, number)
    raise Refused("event_numbers_used")


def follow(state: State, operator: str, now: float, offer: str, before: Event, event: Event) -> None:
    """Everybody who has bought an event has its new window; who ends it earlier keeps his end."""
    for (owner, _), one in state.services.items():
        if (owner, one.offer) != (operator, offer) or not one.live(now):
            continue
        one.end = event.end if ends_with(one, before) else max(event.start, min(one.end or 0, event.end))
        one.start = event.start


def ends_with(service: Service, event: Event) -> bool:
    """Whether nobody ended an order of an event earlier."""
    return service.end == event.end


def running(state: State, service: str, now: float) -> list[int]:
    """The numbers of the events that run on a service."""
    events = [one.event for one in state.offers.values() if one.event is not None]
    return sorted(one.number for one in events if one.service == service and one.start <= now < one.end)
