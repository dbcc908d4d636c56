"""S2, S5, S8: start at once or at a chosen moment; until further notice or for a term; changed as well as bought."""

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at, on_the_wall

A, B = NUMBERS[:2]


def test_s02_at_once_and_at_a_chosen_moment_which_is_kept_to_the_second(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="now", card=A, offer="sport")
    later = "2026-11-21T18:00:00+02:00"
    reply = headend.done("subscription put", subscription="later", card=A, offer="film", starts_at=later)
    assert (on_the_wall(reply["starts_at"]), reply["ends_at"]) == ("2026-11-21 18:00", None)
    card = headend.card(A).hear()
    begins = at("2026-11-21 18:00")
    assert [card.opens("film", moment) for moment in (begins - 1, begins)] == [False, True], "no word in between"
    assert card.opens("sport")


def test_s05_until_further_notice_and_for_a_term_to_be_looked_up(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="open", card=A, offer="sport")
    headend.done("subscription put", subscription="term", card=A, offer="film", ends_at="2026-12-01T00:00:00+02:00")
    card = headend.card(A).hear()
    ends = at("2026-12-01 00:00")
    headend.go_to(ends - 60)
    card.hear()
    assert [card.opens("film", moment) for moment in (ends - 1, ends)] == [True, False]
    headend.go_to(ends + 86_400)
    assert [card.hear().opens(product) for product in ("sport", "film")] == [True, False]
    seen = {one.subscription: (one.starts_at, one.ends_at) for one in headend.view(A).subscriptions}
    assert seen == {"open": (at("2026-11-20 12:00"), None), "term": (at("2026-11-20 12:00"), ends)}


def test_s08_a_subscription_is_changed_to_another_offer_and_to_another_card(headend: HandHeadend) -> None:
    headend.done("card assign", card=B, subscriber="anna")
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    one, other = headend.card(A), headend.card(B)
    headend.go_to(at("2026-11-25 10:00"))
    headend.done("subscription put", subscription="s", card=A, offer="film")
    assert [one.hear().opens(product) for product in ("sport", "film")] == [False, True]
    headend.go_to(at("2026-11-26 10:00"))
    headend.done("subscription put", subscription="s", card=B, offer="film")
    assert [card.hear().opens("film") for card in (one, other)] == [False, True]
    assert headend.facts()[2:] == [
        ("service-started", "2026-11-20 12:00"),
        ("service-ended", "2026-11-25 10:00"),
        ("service-started", "2026-11-25 10:00"),
        ("service-moved", "2026-11-26 10:00"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("starts", "ends"),
    [
        ("2027-03-28T02:30:00+02:00", "2027-03-28T04:30:00+03:00"),  # the hour that is skipped lies between
        ("2027-10-31T03:30:00+03:00", "2027-10-31T03:30:00+02:00"),  # the same time on the wall, an hour later
        ("2028-02-29T00:00:00+02:00", "2028-03-01T00:00:00+02:00"),  # a leap day
    ],
)
def test_s02_moments_over_changes_of_the_offset_and_leap_days(headend: HandHeadend, starts: str, ends: str) -> None:
    reply = headend.done("subscription put", subscription="s", card=A, offer="sport", starts_at=starts, ends_at=ends)
    window = [int(view) for one in headend.view(A).subscriptions for view in (one.starts_at, one.ends_at or 0)]
    assert window[1] - window[0] in (3600, 86_400)
    assert reply["starts_at"].endswith("Z"), "answered in UTC"
    headend.go_to(window[0] - 3600)
    card = headend.card(A).hear()
    assert [card.opens("sport", moment) for moment in (window[0] - 1, window[0], window[1] - 1, window[1])] == [
        False,
        True,
        True,
        False,
    ]
