"""What each command does, decided purely: one line a case."""

from dataclasses import replace
from typing import Any

import pytest

from cad.ledger.decide.command import decide
from cad.ledger.decide.common import Context
from cad.ledger.model import ACTIVE, SUSPENDED, OperatorGrant, Order
from cad.ledger.records import CardRow, Decision, OfferRow, SubscriptionRow
from cad.ledger.working import WorkingSet
from emm.plan import WINDOWS_MAX
from protocol.portal.codes import Code
from tests.support import ledgers
from tests.support.ledgers import GRANTS, NOW, assign, end, offer, refresh, reopen, subscribe, suspend

HOUR, LATER, EARLIER = 3600, "2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z"
LATER_S, EARLIER_S = 1_893_456_000, 1_577_836_800


def card(**changed: Any) -> CardRow:
    row: dict[str, Any] = {
        "address": 7,
        "operator": "karjaa",
        "state": ACTIVE,
        "reason": None,
        "subscriber": "anna",
        "key_version": 1,
        "revision": 4,
        "rev": 1,
        "change_seq": 4,
        "assigned_at": NOW - HOUR,
        "changed_at": NOW - HOUR,
    }
    return CardRow(**(row | changed))


def basic(**changed: Any) -> OfferRow:
    row: dict[str, Any] = {
        "id": 1,
        "operator": "karjaa",
        "offer": "basic",
        "rev": 0,
        "kind": "package",
        "names": '{"fi":"Perus"}',
        "heading": None,
        "products": '["sport"]',
        "changed_at": NOW - HOUR,
    }
    return OfferRow(**(row | changed))


def to_region(name: str, grant: OperatorGrant = GRANTS.operators["karjaa"]) -> Decision:
    """The decision on a message to that region, where the operator has that grant."""
    body = {"message": "m", "rev": 1, "to": {"region": name}, "text": {"fi": "Hei"}}
    put = ledgers.order("karjaa", "message", "put", "c", **body)
    return decide(put.command, WorkingSet(), Context("karjaa", grant, NOW))


def subscription(**changed: Any) -> SubscriptionRow:
    row: dict[str, Any] = {
        "id": 1,
        "operator": "karjaa",
        "subscription": "s-1",
        "rev": 0,
        "address": 7,
        "offer_id": 1,
        "starts_at": int(NOW) - HOUR,
        "ends_at": None,
        "changed_at": NOW - HOUR,
    }
    return SubscriptionRow(**(row | changed))


def state(*rows: CardRow | OfferRow | SubscriptionRow) -> WorkingSet:
    working = WorkingSet()
    for row in rows:
        match row:
            case CardRow():
                working.cards[row.address] = row
            case OfferRow():
                working.add_offer(row)
            case SubscriptionRow():
                working.add_subscription(row)
    return working


def decided(order: Order, *rows: CardRow | OfferRow | SubscriptionRow) -> Decision:
    grant = GRANTS.operators[order.operator]
    return decide(order.command, state(*rows), Context(order.operator, grant, NOW))


SUBSCRIBED = (card(), basic(), subscription())


@pytest.mark.parametrize(
    ("order", "rows", "code", "touched"),
    [
        # card assign
        (assign(), [], Code.OK, (7,)),
        (assign(card=1000), [], Code.UNKNOWN_CARD, ()),
        (assign(rev=2), [card()], Code.OK, ()),
        (assign(rev=1), [card()], Code.STALE_REV, ()),
        (assign(rev=0), [card()], Code.STALE_REV, ()),
        (assign(rev=2, subscriber="bert"), [card()], Code.CARD_IN_USE, ()),
        (assign(rev=2, subscriber="bert"), [card(state=SUSPENDED)], Code.CARD_IN_USE, ()),
        (assign(rev=2), [card(operator="kaspnet")], Code.UNKNOWN_CARD, ()),
        (assign(card=5000, rev=2), [card(address=5000)], Code.OK, ()),
        # card suspend, reopen
        (suspend(), [card()], Code.OK, (7,)),
        (suspend(), [card(state=SUSPENDED)], Code.OK, ()),
        (suspend(rev=1), [card()], Code.STALE_REV, ()),
        (suspend(), [], Code.UNKNOWN_CARD, ()),
        (suspend(), [card(operator="kaspnet")], Code.UNKNOWN_CARD, ()),
        (reopen(), [card(state=SUSPENDED)], Code.OK, (7,)),
        (reopen(), [card()], Code.OK, ()),
        (reopen(rev=0), [card()], Code.STALE_REV, ()),
        (reopen(), [], Code.UNKNOWN_CARD, ()),
        # card refresh
        (refresh(), [card()], Code.OK, (7,)),
        (refresh(), [card(state=SUSPENDED)], Code.OK, (7,)),
        (refresh(), [], Code.UNKNOWN_CARD, ()),
        (refresh(), [card(operator="kaspnet")], Code.UNKNOWN_CARD, ()),
        # offer put
        (offer(), [], Code.OK, ()),
        (offer(products=["sport", "football"]), [], Code.NOT_GRANTED, ()),
        (offer(operator="kaspnet", products=["film"]), [], Code.NOT_GRANTED, ()),
        (offer(rev=1), [basic(rev=1)], Code.STALE_REV, ()),
        (offer(rev=1, names={"fi": "Uusi"}), SUBSCRIBED, Code.OK, ()),
        (offer(rev=1, products=["film"]), SUBSCRIBED, Code.OK, ()),
        (offer(operator="kaspnet"), [basic(rev=9)], Code.OK, ()),
        # subscription put
        (subscribe(), [card(), basic()], Code.OK, (7,)),
        (subscribe(), [basic()], Code.UNKNOWN_CARD, ()),
        (subscribe(), [card(operator="kaspnet"), basic()], Code.UNKNOWN_CARD, ()),
        (subscribe(), [card()], Code.UNKNOWN_OFFER, ()),
        (subscribe(), [card(), basic(operator="kaspnet")], Code.UNKNOWN_OFFER, ()),
        (subscribe(), [card(), basic(products='["football"]')], Code.NOT_GRANTED, ()),
        (subscribe(rev=0), SUBSCRIBED, Code.STALE_REV, ()),
        (subscribe(rev=1), SUBSCRIBED, Code.OK, ()),
        (subscribe(rev=1, ends_at=LATER), SUBSCRIBED, Code.OK, (7,)),
        (subscribe(rev=1, starts_at=LATER), SUBSCRIBED, Code.OK, (7,)),
        (subscribe(ends_at=EARLIER, starts_at="2019-01-01T00:00:00Z"), [card(), basic()], Code.OK, ()),
        (subscribe(ends_at=EARLIER), [card(), basic()], Code.INVALID, ()),
        (subscribe(rev=1, card=8), [*SUBSCRIBED, card(address=8)], Code.OK, (8, 7)),
        (subscribe(rev=1), [card(), basic(), subscription(ends_at=int(NOW) - 1)], Code.OK, (7,)),
        (subscribe(), [card(state=SUSPENDED), basic()], Code.OK, (7,)),
        # subscription end
        (end(), SUBSCRIBED, Code.OK, (7,)),
        (end(at=LATER), SUBSCRIBED, Code.OK, (7,)),
        (end(rev=0), SUBSCRIBED, Code.STALE_REV, ()),
        (end(), [], Code.UNKNOWN_SUBSCRIPTION, ()),
        (end(operator="kaspnet"), SUBSCRIBED, Code.UNKNOWN_SUBSCRIPTION, ()),
        (end(), [card(), basic(), subscription(ends_at=int(NOW) - 5)], Code.OK, ()),
        (end(at=LATER), [card(), basic(), subscription(ends_at=int(NOW) + 5)], Code.OK, ()),
    ],
    ids=lambda value: f"{value.command.resource}-{value.command.verb}" if isinstance(value, Order) else None,
)
def test_what_a_command_does(order: Order, rows: Any, code: Code, touched: tuple[int, ...]) -> None:
    decision = decided(order, *rows)
    assert (decision.code, decision.touched) == (code, touched)
    if code is not Code.OK:
        assert decision.detail
        assert (decision.card_row, decision.offer_row, decision.subscription_row) == (None, None, None)


def test_cards_follow_an_offer_that_has_other_products_and_no_other() -> None:
    assert decided(offer(rev=1, products=["film"]), *SUBSCRIBED).was == basic()
    assert decided(offer(rev=1, names={"fi": "Uusi"}), *SUBSCRIBED).was is None
    assert decided(offer(rev=1, products=["film"])).was is None, "it is new"


@pytest.mark.parametrize(
    ("order", "rows", "starts_at", "ends_at"),
    [
        (subscribe(), [card(), basic()], int(NOW), None),
        (subscribe(starts_at=LATER), [card(), basic()], LATER_S, None),
        (subscribe(starts_at=EARLIER, ends_at=LATER), [card(), basic()], EARLIER_S, LATER_S),
        (subscribe(), SUBSCRIBED, int(NOW) - HOUR, None),
        (subscribe(), [card(), basic(), subscription(starts_at=LATER_S)], int(NOW), None),
        (subscribe(), [card(), basic(), subscription(ends_at=int(NOW) - 9)], int(NOW), None),
        (end(), SUBSCRIBED, int(NOW) - HOUR, int(NOW)),
        (end(at=LATER), SUBSCRIBED, int(NOW) - HOUR, LATER_S),
        (end(at=EARLIER), SUBSCRIBED, int(NOW) - HOUR, int(NOW) - HOUR),
        (end(at=LATER), [card(), basic(), subscription(ends_at=int(NOW) + 5)], int(NOW) - HOUR, int(NOW) + 5),
        (end(), [card(), basic(), subscription(starts_at=LATER_S)], LATER_S, LATER_S),
    ],
)
def test_when_a_subscription_starts_and_ends(order: Order, rows: Any, starts_at: int, ends_at: int | None) -> None:
    row = decided(order, *rows).subscription_row
    assert row is not None
    assert (row.starts_at, row.ends_at) == (starts_at, ends_at)
    assert row.rev == order.command.rev  # type: ignore[union-attr]


def test_a_change_of_state_keeps_what_it_does_not_name() -> None:
    row = decided(suspend(reason="unpaid"), card()).card_row
    assert row == card(state=SUSPENDED, blocked=1, reason="unpaid", rev=2)
    assert decided(
        reopen(), card(state=SUSPENDED, blocked=1, reason="unpaid", rev=2), basic(), subscription()
    ).card_row == card(rev=3)


def test_a_subscription_of_a_suspended_card_promises_nothing_visible() -> None:
    decision = decided(subscribe(), card(state=SUSPENDED), basic())
    assert not decision.visible
    assert "suspended" in decision.detail


def test_a_later_start_is_not_visible_before() -> None:
    assert decided(subscribe(starts_at=LATER), card(), basic()).visible_from == LATER_S


def full_card() -> list[CardRow | OfferRow | SubscriptionRow]:
    """A card with as many rights as one can have: each at a time of its own."""
    windows = [
        subscription(
            id=number, subscription=f"full-{number}", starts_at=LATER_S + number * 10, ends_at=LATER_S + number * 10 + 5
        )
        for number in range(1, WINDOWS_MAX + 1)
    ]
    return [card(), basic(), *windows]


def test_a_card_that_is_full_takes_no_more() -> None:
    one_more = subscribe(starts_at="2029-12-31T00:00:00Z", ends_at="2029-12-31T01:00:00Z")
    assert decided(one_more, *full_card()).code is Code.CARD_FULL
    assert decided(one_more, *full_card()[:-1]).code is Code.OK
    assert decided(offer(rev=1, products=["sport", "film"]), *full_card()).code is Code.CARD_FULL
    assert decided(subscribe(), *full_card()).code is Code.OK, "a window that covers the others takes no room"


def test_the_end_of_a_window_that_covered_more_than_fit_is_refused() -> None:
    crowded = [
        *full_card(),
        subscription(id=99),
        subscription(id=98, subscription="x", starts_at=1, ends_at=LATER_S - 9),
    ]
    crowded.append(subscription(id=97, subscription="y", starts_at=1, ends_at=LATER_S - 9))
    assert decided(end(), *crowded[:-2]).code is Code.OK
    assert decided(end(at="2029-12-31T00:00:00Z"), *crowded).code is Code.CARD_FULL


def test_deciding_changes_nothing() -> None:
    working = state(*SUBSCRIBED)
    before = (dict(working.cards), dict(working.offers), dict(working.subscriptions))
    for order in (suspend(), end(), subscribe(rev=5, ends_at=LATER), offer(rev=5, products=["film"])):
        decide(order.command, working, Context("karjaa", GRANTS.operators["karjaa"], NOW))
    assert (working.cards, working.offers, working.subscriptions) == before


def test_a_message_to_a_region_keeps_its_number_and_one_to_none_of_the_network_is_refused() -> None:
    grant = replace(GRANTS.operators["karjaa"], regions={"coast": 7, "inland": 8})
    row = to_region("inland", grant).message_row
    assert row is not None
    assert row.recipients == '{"region": 8}'
    refused = to_region("moon", grant)
    assert (refused.code, refused.message_row) == (Code.UNKNOWN_REGION, None)
    assert refused.detail == "there is no region moon; there is: coast, inland"
    assert to_region("coast").code == Code.UNKNOWN_REGION
