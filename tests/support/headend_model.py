"""What docs/portal.md and docs/emm.md promise, in dictionaries and plain loops: the judge of the whole headend.

Written from the pages. It shares no code with the packages under test; times are Unix seconds.
"""

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

DAY = 86_400
PERIOD = 5 * DAY
EPOCH = 30 * DAY
LEAD = DAY
OPEN = ("assigned", "active")
IN_HANDS = (*OPEN, "suspended")
REPORTED = ("lost", "stolen", "defective")
RETRYABLE = ("unknown_card", "unknown_offer", "unknown_subscription", "card_not_assigned", "precondition_missing")
Windows = dict[str, list[tuple[int, int | None]]]
"""Product → windows from … until before …; None: no end."""


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """The command is rejected with this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Card:
    operator: str
    state: str = "stock"
    subscriber: str = ""
    rev: int = -1
    blocked: bool = False
    open_until: int | None = None


@dataclass
class Offer:
    rev: int
    products: tuple[str, ...]
    terms: Mapping[str, Any]


@dataclass
class Service:
    rev: int
    card: int
    offer: str
    start: int
    end: int | None
    minimum: int | None = None
    protected: bool = False

    def live(self, now: float) -> bool:
        return self.end is None or (self.end > now and self.end > self.start)


@dataclass(frozen=True)
class Operator:
    products: tuple[str, ...]
    cards: range
    zone: ZoneInfo


@dataclass
class HeadendModel:
    """`take` says how a command is answered; `content` what a card should be told."""

    operators: Mapping[str, Operator]
    cards: dict[int, Card] = field(default_factory=dict)
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict)
    services: dict[tuple[str, str], Service] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict)

    # Commands

    def take(self, operator: str, command: str, command_id: str, body: dict[str, Any], now: float) -> tuple[str, str]:
        """Return (status, code) of a command; `body` has cards as addresses and times in seconds."""
        said = (command, body)
        before = self.answers.get((operator, command_id))
        if before is not None and before[0] != said:
            return "rejected", "id_reused"
        if before is not None and before[1] not in RETRYABLE:
            return "duplicate", before[1]
        try:
            getattr(self, "_" + command.replace(" ", "_"))(operator, now, **body)
            code = "ok"
        except Refused as refused:
            code = refused.code
        self.answers[operator, command_id] = said, code
        return "committed" if code == "ok" else "rejected", code

    def pass_time(self, now: float) -> None:
        """Promises to pay run out."""
        for card in self.cards.values():
            if card.open_until is not None and card.open_until <= now:
                card.open_until, card.blocked = None, True
                if card.state in OPEN:
                    card.state = "suspended"

    # What a card should be told

    def content(self, address: int) -> Windows | None:
        """Return what a card may open; None: nothing, it is suspended, or not in use."""
        card = self.cards[address]
        if card.state not in OPEN:
            return None
        found: Windows = {}
        for (operator, _), service in self.services.items():
            if operator != card.operator or service.card != address:
                continue
            end = service.end
            if card.open_until is not None:
                end = card.open_until if end is None else min(end, card.open_until)
            if end is None or end > service.start:
                for product in self.offers[operator, service.offer].products:
                    found.setdefault(product, []).append((service.start, end))
        return found

    # Inside: cards

    def _own(self, operator: str, address: int, rev: int | None) -> Card:
        card = self.cards.get(address)
        if card is None or card.operator != operator:
            raise Refused("unknown_card")
        if rev is not None and rev <= card.rev:
            raise Refused("stale_rev")
        return card

    def _in_range(self, operator: str, address: int) -> Card:
        """A card of the operator's, in stock if nobody has heard of it."""
        known = self.cards.get(address)
        if known is None and address in self.operators[operator].cards:
            return Card(operator)
        if known is None or known.operator != operator:
            raise Refused("unknown_card")
        return known

    def _cannot(self, card: Card) -> Refused:
        return Refused({"blacklisted": "card_blacklisted", "stock": "card_not_assigned"}.get(card.state, "card_state"))

    def _used(self, address: int, now: float) -> str:
        return "active" if any(one.card == address and one.live(now) for one in self.services.values()) else "assigned"

    def _card_assign(self, operator: str, now: float, card: int, rev: int, subscriber: str) -> None:
        one = self._in_range(operator, card)
        if rev <= one.rev:
            raise Refused("stale_rev")
        if one.state == "stock":
            one.state, one.subscriber = "assigned", subscriber
        elif one.state in ("blacklisted", "returned"):
            raise self._cannot(one)
        elif one.subscriber != subscriber:
            raise Refused("card_in_use")
        one.rev = rev
        self.cards[card] = one

    def _card_suspend(self, operator: str, now: float, card: int, rev: int) -> None:
        one = self._own(operator, card, rev)
        if one.state not in (*IN_HANDS, *REPORTED):
            raise self._cannot(one)
        if one.state in IN_HANDS:
            one.state = "suspended"
        one.blocked, one.open_until, one.rev = True, None, rev

    def _card_reopen(self, operator: str, now: float, card: int, rev: int, until: int | None = None) -> None:
        one = self._own(operator, card, rev)
        if one.state not in (*IN_HANDS, *REPORTED):
            raise self._cannot(one)
        if until is not None and until <= now:
            raise Refused("invalid")
        if until is not None and not one.blocked and one.open_until is None:
            raise Refused("not_suspended")
        if one.state in ("suspended", "lost"):
            one.state = self._used(card, now)
        one.blocked, one.open_until, one.rev = False, until, rev

    def _card_report(self, operator: str, now: float, card: int, rev: int, condition: str) -> None:
        one = self._own(operator, card, rev)
        if one.state not in (*IN_HANDS, *REPORTED):
            raise self._cannot(one)
        one.state, one.rev = condition, rev

    def _card_replace(self, operator: str, now: float, card: int, rev: int, replacement: int) -> None:
        old = self._own(operator, card, rev)
        if old.state not in (*IN_HANDS, *REPORTED):
            raise self._cannot(old)
        new = self._in_range(operator, replacement)
        if new.state not in ("stock", "assigned"):
            raise self._cannot(new)
        if new.state == "assigned" and new.subscriber != old.subscriber:
            raise Refused("card_in_use")
        if new.open_until is not None:
            raise Refused("card_state")
        new.state = "suspended" if old.blocked else self._used(card, now)
        new.subscriber, new.blocked, new.open_until = old.subscriber, old.blocked, old.open_until
        self.cards[replacement] = new
        old.state, old.blocked, old.open_until, old.rev = "replaced", False, None, rev
        for one in self.services.values():
            if one.card == card and one.live(now):
                one.card = replacement

    def _card_return(self, operator: str, now: float, card: int, rev: int) -> None:
        self._give_back(operator, now, card, rev, "returned", (*IN_HANDS, *REPORTED, "replaced"))

    def _card_release(self, operator: str, now: float, card: int, rev: int) -> None:
        self._give_back(operator, now, card, rev, "stock", (*IN_HANDS, "returned"))

    def _give_back(self, operator: str, now: float, card: int, rev: int, to: str, states: Iterable[str]) -> None:
        one = self._own(operator, card, rev)
        if one.state != to:
            if one.state not in states:
                raise self._cannot(one)
            if self._used(card, now) == "active":
                raise Refused("card_has_subscriptions")
            one.state, one.blocked, one.open_until = to, False, None
            if to == "stock":
                one.subscriber = ""
        one.rev = rev

    def _card_blacklist(self, operator: str, now: float, card: int, rev: int) -> None:
        one = self._in_range(operator, card)
        if rev <= one.rev:
            raise Refused("stale_rev")
        self.cards[card] = one
        one.state, one.open_until, one.rev = "blacklisted", None, rev

    def _card_refresh(self, operator: str, now: float, card: int) -> None:
        self._own(operator, card, None)

    # Inside: offers and subscriptions

    def _offer_put(
        self, operator: str, now: float, offer: str, rev: int, products: list[str], terms: dict[str, Any], **_: Any
    ) -> None:
        known = self.offers.get((operator, offer))
        if known is not None and rev <= known.rev:
            raise Refused("stale_rev")
        if not set(products) <= set(self.operators[operator].products):
            raise Refused("not_granted")
        self.offers[operator, offer] = Offer(rev, tuple(products), terms)

    def _subscription_put(
        self,
        operator: str,
        now: float,
        subscription: str,
        rev: int,
        card: int,
        offer: str,
        starts_at: int | None = None,
        ends_at: int | None = None,
        authority: str = "customer",
    ) -> None:
        known = self.services.get((operator, subscription))
        if known is not None and rev <= known.rev:
            raise Refused("stale_rev")
        holder = self._own(operator, card, None)
        if holder.state not in IN_HANDS:
            raise Refused("card_not_assigned") if holder.state == "returned" else self._cannot(holder)
        if (operator, offer) not in self.offers:
            raise Refused("unknown_offer")
        runs = known is not None and known.live(now) and known.start <= now
        start = starts_at if starts_at is not None else known.start if known is not None and runs else int(now)
        new = Service(rev, card, offer, start, ends_at)
        self._agree(operator, known if known is not None and known.live(now) else None, new)
        self._check_requirements(operator, subscription, new)
        if authority != "customer-service":
            self._check_end(known, new, ends_at, now)
        if new.end is not None and new.end <= new.start:
            raise Refused("invalid")
        self.services[operator, subscription] = new
        if holder.state == "assigned" and new.live(now):
            holder.state = "active"

    def _agree(self, operator: str, bound: Service | None, new: Service) -> None:
        """Terms are those of the order: the same order keeps them, a change adds the new offer's."""
        terms = self.offers[operator, new.offer].terms
        fixed, minimum = terms.get("fixed_months"), terms.get("minimum_months")
        if bound is not None:
            new.minimum, new.protected = bound.minimum, bound.protected
            if (bound.offer, bound.start) == (new.offer, new.start):
                if fixed and new.end is None:
                    new.end = bound.end
                return
        months = fixed or minimum
        if months:
            then = months_later(new.start, months, self.operators[operator].zone)
            if fixed and new.end not in (None, then):
                raise Refused("fixed_term")
            new.end = then if fixed else new.end
            new.minimum = max(new.minimum or 0, then)
        new.protected = new.protected or terms.get("ended_by") == "customer-service"

    def _check_requirements(self, operator: str, name: str, new: Service) -> None:
        wanted = self.offers[operator, new.offer].terms.get("requires")
        for (owner, other), one in self.services.items():
            mine = owner == operator and other != name and one.card == new.card
            runs = one.start <= new.start and (one.end is None or one.end > new.start)
            if mine and runs and one.offer in (wanted or ()):
                return
        if wanted:
            raise Refused("precondition_missing")

    def _check_end(self, known: Service | None, new: Service, said_end: int | None, now: float) -> None:
        if known is not None and known.live(now):
            if known.start <= now < new.start:
                self._may_end(known, int(now))
            elif said_end is not None and (known.end is None or said_end < known.end):
                self._may_end(known, said_end)
        if new.minimum is not None and new.end is not None and new.end < new.minimum:
            raise Refused("minimum_term")

    def _may_end(self, one: Service, at: int) -> None:
        if one.protected:
            raise Refused("needs_authority")
        if one.minimum is not None and at < one.minimum:
            raise Refused("minimum_term")

    def _subscription_end(
        self,
        operator: str,
        now: float,
        subscription: str,
        rev: int,
        at: int | None = None,
        authority: str = "customer",
    ) -> None:
        one = self.services.get((operator, subscription))
        if one is None:
            raise Refused("unknown_subscription")
        if rev <= one.rev:
            raise Refused("stale_rev")
        end = int(now) if at is None else at
        if one.end is None or one.end > end:
            if authority != "customer-service":
                self._may_end(one, end)
            one.end = max(end, one.start)
        one.rev = rev


def months_later(at: int, months: int, zone: ZoneInfo) -> int:
    """The same time on the wall that many months on; the last day of a month that is too short."""
    wall = datetime.fromtimestamp(at, zone)
    year, month = wall.year, wall.month
    for _ in range(months):
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    day = min(wall.day, calendar.monthrange(year, month)[1])
    naive = wall.replace(year=year, month=month, day=day, tzinfo=None)
    # Of both offsets that the place may have, the one that gives this wall clock; the earlier moment where both do.
    moments = sorted(
        int((naive - offset).replace(tzinfo=UTC).timestamp())
        for offset in {naive.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)}
        if offset is not None
    )
    for moment in moments:
        if datetime.fromtimestamp(moment, zone).replace(tzinfo=None) == naive:
            return moment
    return moments[-1]


def opens(content: Windows | None, period: int, product: str, at: float) -> bool:
    """Whether an EMM of that period, with that content, opens a product at a time (docs/emm.md).

    Windows that touch are one. One that begins more than a day after the period is not said yet; nothing is said
    beyond the epochs whose keys are sent: this one, and the next where the period is the last of its epoch.
    """
    if content is None:
        return False
    epochs = period // 6 + (2 if period % 6 == 5 else 1)
    if at >= epochs * EPOCH:
        return False
    starts = [start for start, end in content.get(product, []) if start <= at and (end is None or at < end)]
    if not starts:
        return False
    begin, grows = min(starts), True
    while grows:
        grows = False
        for start, end in content[product]:
            if start < begin and (end is None or end >= begin):
                begin, grows = start, True
    return begin < (period + 1) * PERIOD + LEAD


def edges(content: Windows | None, period: int) -> set[int]:
    """The moments from the period's begin on at which something may open or close, and those around them."""
    found = {period * PERIOD, (period + 1) * PERIOD, (period // 6 + 1) * EPOCH, (period // 6 + 2) * EPOCH}
    for windows in (content or {}).values():
        for start, end in windows:
            found |= {start, start if end is None else end}
    return {moment + off for moment in found for off in (-1, 0) if moment + off >= period * PERIOD}
