"""S17: suspended for default and reopened later, with nothing of the subscription lost."""

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at

A = NUMBERS[0]


@pytest.mark.slow
def test_s17_nothing_is_lost_over_three_months(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="open", card=A, offer="sport")
    headend.done("subscription put", subscription="term", card=A, offer="film", ends_at="2027-06-01T00:00:00+03:00")
    headend.done("subscription put", subscription="soon", card=A, offer="basic", starts_at="2027-01-15T00:00:00+02:00")
    card = headend.card(A).hear()
    subscriptions = headend.view(A).subscriptions
    headend.done("card suspend", card=A, reason="unpaid")
    assert [card.hear().opens(product) for product in ("sport", "film", "basic")] == [False] * 3
    headend.go_to(at("2027-02-20 12:00"))
    assert [card.hear().opens(product) for product in ("sport", "film", "basic")] == [False] * 3
    headend.sleep_until(headend.now + 60)
    headend.done("card reopen", card=A)
    assert [card.hear().opens(product) for product in ("sport", "film", "basic")] == [True] * 3
    assert headend.view(A).subscriptions == subscriptions
    told = [name for name, _ in headend.facts()]
    assert told[-3:] == ["service-suspended", "service-started", "service-reopened"]
