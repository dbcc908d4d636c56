"""What cards have shown, and which cards: messages and fingerprints (docs/portal.md, Messages on the screen)."""

from collections.abc import Mapping
from typing import Any

from tests.support.headend_model.cards import region_number
from tests.support.headend_model.state import (
    DAY,
    NOBODYS,
    Card,
    Fingerprint,
    Message,
    Notice,
    Recipients,
    Refused,
    State,
    Text,
    cannot_have,
    check_rev,
)

AT_MOST = 92 * DAY


def put_text(
    state: State,
    operator: str,
    now: float,
    message: str,
    rev: int,
    text: Mapping[str, str],
    to: Mapping[str, Any] | None = None,
    card: int | None = None,
    mode: str = "mailbox",
    **window: Any,
) -> None:
    """`message put`, and `card message`, which is the same for one card."""
    says = Text(mode == "forced", tuple(sorted(text.items())))
    usual = DAY if says.forced else 7 * DAY
    put(state, operator, now, message, rev, to or {"cards": [card]}, says, usual, **window)


def put_fingerprint(
    state: State,
    operator: str,
    now: float,
    message: str,
    rev: int,
    to: Mapping[str, Any],
    service: str | None = None,
    position: str = "random",
    duration_s: int = 10,
    **window: Any,
) -> None:
    """`card fingerprint`."""
    check_rev(rev, state.messages.get((operator, message)))
    recipients(state, operator, to)
    services = state.operators[operator].services
    if service is not None and service not in services:
        raise Refused("unknown_service")
    says = Fingerprint(duration_s, position, services[service] if service is not None else 0)
    put(state, operator, now, message, rev, to, says, 15 * 60, **window)


def put(
    state: State,
    operator: str,
    now: float,
    message: str,
    rev: int,
    to: Mapping[str, Any],
    says: Text | Fingerprint,
    usual_s: int,
    starts_at: int | None = None,
    ends_at: int | None = None,
    **_: Any,
) -> None:
    known = state.messages.get((operator, message))
    check_rev(rev, known)
    to_whom = recipients(state, operator, to)
    lasting = known.notice if known is not None and known.lasts(now) else None
    start = int(now) if starts_at is None else starts_at
    if lasting is not None and starts_at is None:
        start = lasting.start
        ends_at = lasting.end if ends_at is None else ends_at
    end = start + usual_s if ends_at is None else ends_at
    if end <= max(now, start) or start > now + AT_MOST or end > start + AT_MOST:
        raise Refused("invalid")
    same = lasting is not None and (lasting.says, lasting.start, lasting.end) == (says, start, end)
    number = lasting.number if lasting is not None and same else state.next_number()
    state.messages[operator, message] = Message(rev, Notice(number, says, start, end), to_whom)


def withdraw(state: State, operator: str, now: float, message: str, rev: int) -> None:
    known = state.messages.get((operator, message))
    if known is None:
        raise Refused("unknown_message")
    check_rev(rev, known)
    known.rev, known.withdrawn = rev, True


def recipients(state: State, operator: str, to: Mapping[str, Any]) -> Recipients:
    """Take what a command says of whom it is for."""
    if "offer" in to and (operator, to["offer"]) not in state.offers:
        raise Refused("unknown_offer")
    named = None
    if "cards" in to:
        named = {address: addressed(state, operator, address).given for address in to["cards"]}
    return Recipients(named, to.get("offer"), region_number(state, operator, to.get("region")))


def addressed(state: State, operator: str, address: int) -> Card:
    """A card that is named in a message."""
    one = state.own(operator, address)
    if one.state in (*NOBODYS, "blacklisted"):
        raise cannot_have(one)
    return one


def shown_to(state: State, operator: str, name: str, now: float) -> set[int]:
    """The cards that a message is for at a time: of named ones those that are still whose they were."""
    to = state.messages[operator, name].to
    if to.everyone:
        return set(state.operators[operator].cards)
    mine = {address: one for address, one in state.cards.items() if one.operator == operator}
    mine = {address: one for address, one in mine.items() if one.state not in NOBODYS}
    if to.cards is not None:
        return {address for address, given in to.cards.items() if address in mine and mine[address].given == given}
    if to.region is not None:
        return {address for address, one in mine.items() if one.region == to.region}
    orders = [one for (owner, _), one in state.services.items() if (owner, one.offer) == (operator, to.offer)]
    return {one.card for one in orders if one.runs(now)} & mine.keys()
