"""S10, S12: many moments at once are dealt with in parts, and one that cannot be told holds up no other."""

import pytest

from cad.ledger import due
from tests.support.hand_headend import NUMBERS, HandHeadend, at
from tests.support.ledgers import order

A, B = NUMBERS[:2]


@pytest.mark.slow
def test_two_thousand_starts_at_midnight_come_in_parts_each_once(headend: HandHeadend) -> None:
    midnight = at("2026-12-01 00:00")
    orders = [
        order(
            "karjaa",
            "subscription",
            "put",
            f"bulk-{number}",
            None,
            subscription=f"bulk-{number}",
            rev=1,
            card=0,
            offer="sport",
            starts_at="2026-12-01T00:00:00+02:00",
        )
        for number in range(2 * due.LIMIT + 1)
    ]
    headend.store.commit(orders, float(headend.now), {})
    headend.now = midnight
    parts = 0
    more = True
    while more:
        # All of them are one card's, and what is due for a card is done together.
        _, more = headend.store.due(float(midnight))
        parts += 1
    headend.go_to(midnight)
    told = [one["subscription"] for one in headend.invoice() if one["fact"] == "service-started"]
    assert sorted(told) == sorted(one.command.subscription for one in orders)  # type: ignore[union-attr]
    assert parts <= 3


@pytest.mark.slow
def test_a_card_that_has_used_up_its_versions_holds_up_no_other(headend: HandHeadend) -> None:
    headend.done("card assign", card=B, subscriber="bert")
    for number in (A, B):
        headend.done("card suspend", card=number)
        headend.done("card reopen", card=number, until="2026-11-22T18:00:00+02:00")
    headend.store.read(lambda held: held.exec_driver_sql("UPDATE cards SET revision = 4294967295 WHERE address = 0"))
    headend.go_to(at("2026-11-22 18:00"))
    assert [headend.view(number).state for number in (A, B)] == ["suspended", "suspended"]
