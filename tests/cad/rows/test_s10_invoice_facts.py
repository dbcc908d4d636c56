"""S10: the facts that an invoice needs, each once, in order per card, also across crashes, and again on request."""

import random
from collections import defaultdict

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at, on_the_wall

A, B, C = NUMBERS[:3]
DAY = 86_400


def gapless(headend: HandHeadend) -> bool:
    numbers = [one["number"] for one in headend.invoice()]
    return numbers == list(range(1, len(numbers) + 1))


def test_s10_a_customers_life_in_facts(headend: HandHeadend) -> None:
    offer = {"kind": "channel", "names": {"fi": "M"}, "products": ["film"], "terms": {"price": "9.90"}}
    headend.done("offer put", offer="movies", **offer)
    headend.done("subscription put", subscription="s", card=A, offer="movies", ends_at="2027-03-01T00:00:00+02:00")
    headend.go_to(headend.now + DAY)
    headend.done("card suspend", card=A, reason="unpaid")
    headend.go_to(headend.now + DAY)
    headend.done("card reopen", card=A)
    headend.done("card replace", card=A, replacement=B, reason="defective")
    headend.go_to(at("2027-03-01 00:00"))
    headend.done("card return", card=B)
    assert headend.facts() == [
        ("card-issued", "2026-11-20 12:00"),
        ("service-started", "2026-11-20 12:00"),
        ("service-suspended", "2026-11-21 12:00"),
        ("service-reopened", "2026-11-22 12:00"),
        ("card-replaced", "2026-11-22 12:00"),
        ("service-ended", "2027-03-01 00:00"),
        ("card-returned", "2027-03-01 00:00"),
    ]
    started, replaced, ended = (headend.invoice()[place] for place in (1, 4, 5))
    assert (started["price"], started["offer"], started["subscriber"]) == ("9.90", "movies", "anna")
    assert (replaced["card"], replaced["replacement"], replaced["reason"]) == (A, B, "defective")
    assert (ended["card"], ended["subscription"], ended["command"]) == (B, "s", None)
    assert gapless(headend)


@pytest.mark.slow
def test_s10_a_start_and_an_end_that_fall_into_a_time_when_the_daemon_was_down_are_told_once(
    headend: HandHeadend,
) -> None:
    window = {"starts_at": "2026-12-01T00:00:00+02:00", "ends_at": "2026-12-24T18:00:00+02:00"}
    headend.done("subscription put", subscription="s", card=A, offer="sport", **window)
    assert headend.facts() == [("card-issued", "2026-11-20 12:00")], "nothing before its time"
    headend.sleep_until(at("2027-01-02 09:00"))
    headend.go_to(headend.now)
    headend.crash()
    headend.go_to(headend.now + 5)
    assert headend.facts()[1:] == [("service-started", "2026-12-01 00:00"), ("service-ended", "2026-12-24 18:00")]
    assert gapless(headend)


def test_s10_what_was_due_is_told_before_what_a_later_command_does(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport", ends_at="2026-12-01T00:00:00+02:00")
    headend.sleep_until(at("2026-12-05 12:00"))
    headend.done("subscription put", subscription="t", card=A, offer="film")
    assert headend.facts()[2:] == [("service-ended", "2026-12-01 00:00"), ("service-started", "2026-12-05 12:00")]


@pytest.mark.slow
def test_s10_a_service_that_is_put_off_stops_and_starts_again_and_one_never_begun_says_nothing(
    headend: HandHeadend,
) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    headend.done("subscription put", subscription="s", card=A, offer="sport", starts_at="2026-12-01T00:00:00+02:00")
    headend.done("subscription put", subscription="t", card=A, offer="film", starts_at="2026-12-01T00:00:00+02:00")
    headend.done("subscription end", subscription="t")
    headend.go_to(at("2026-12-02 00:00"))
    assert headend.facts()[1:] == [
        ("service-started", "2026-11-20 12:00"),
        ("service-ended", "2026-11-20 12:00"),
        ("service-started", "2026-12-01 00:00"),
    ]


def test_s10_repeats_and_refusals_tell_nothing(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport", rev=50)
    told = headend.facts()
    assert headend.order("subscription put", subscription="s", card=A, offer="sport", rev=50)["code"] == "stale_rev"
    headend.done("subscription put", subscription="s", card=A, offer="sport", rev=51)
    headend.done("card assign", card=A, subscriber="anna")
    headend.done("card suspend", card=A)
    headend.done("card suspend", card=A)
    assert headend.facts() == [*told, ("service-suspended", "2026-11-20 12:00")]


def test_s10_replayed_from_a_moment_in_pages_under_the_same_event_ids(headend: HandHeadend) -> None:
    for place in range(5):
        headend.go_to(at(f"2026-12-0{place + 1} 12:00"))
        headend.done("subscription put", subscription=f"s-{place}", card=A, offer="sport")
    whole = headend.invoice()
    first_time = [one for one in headend.published if "/evt/invoice/" in one[0]]
    headend.published.clear()
    reply = headend.done("invoice replay", since="2026-12-02T00:00:00+02:00", limit=3)
    assert [on_the_wall(one["at"]) for one in headend.invoice()] == [f"2026-12-0{day} 12:00" for day in (2, 3, 4)]
    assert reply["resume_after"] == headend.invoice()[-1]["number"]
    reply = headend.done("invoice replay", since="2026-12-02T00:00:00+02:00", after=reply["resume_after"])
    assert reply["resume_after"] is None
    assert headend.invoice() == whole[2:]
    assert [one for one in headend.published if "/evt/invoice/" in one[0]] == first_time[2:]
    headend.done("invoice replay", since="2027-01-01T00:00:00Z")
    assert headend.invoice() == whole[2:], "nothing there"


def test_s10_no_operator_is_told_anothers_facts(headend: HandHeadend) -> None:
    assert headend.order("card assign", operator="kaspnet", card=1500, subscriber="carl", rev=1)["code"] == "ok"
    mine = [payload for topic, _, payload in headend.published if topic.startswith("cad/v1/kaspnet/evt/invoice/")]
    assert [(one["number"], one["fact"]) for one in mine] == [(1, "card-issued")], "numbered apart"
    headend.published.clear()
    headend.order("invoice replay", operator="kaspnet")
    assert {topic.split("/")[2] for topic, _, _ in headend.published} == {"kaspnet"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_s10_whatever_happens_starts_and_ends_alternate_and_none_is_missing(headend: HandHeadend, seed: int) -> None:
    chance = random.Random(seed)
    for number in (B, C):
        headend.done("card assign", card=number, subscriber="anna")
    for _ in range(150):
        name = chance.choice(["s", "t", "u"])
        match chance.randrange(6):
            case 0 | 1:
                body = {
                    "subscription": name,
                    "card": chance.choice([A, B, C]),
                    "offer": chance.choice(["sport", "film"]),
                }
                for field in ("starts_at", "ends_at"):
                    if chance.random() < 0.6:
                        moment = headend.now + chance.randrange(-2 * DAY, 6 * DAY)
                        body[field] = moment_text(moment)
                if body.get("starts_at", "") < body.get("ends_at", "~"):
                    headend.order("subscription put", **body)
            case 2:
                headend.order("subscription end", subscription=name)
            case 3:
                headend.go_to(headend.now + chance.randrange(2 * DAY))
            case 4:
                headend.sleep_until(headend.now + chance.randrange(2 * DAY))
            case _:
                headend.crash()
    headend.go_to(headend.now)
    assert gapless(headend)
    runs: defaultdict[str, list[str]] = defaultdict(list)
    for one in headend.invoice():
        if one["fact"] in ("service-started", "service-ended"):
            runs[one["subscription"]].append(one["fact"])
    live = {
        one.subscription
        for number in (A, B, C)
        for one in headend.view(number).subscriptions
        if one.starts_at <= headend.now and (one.ends_at is None or one.ends_at > max(headend.now, one.starts_at))
    }
    for name, told in runs.items():
        assert told == ["service-started", "service-ended"] * (len(told) // 2) + ["service-started"] * (len(told) % 2)
        assert (len(told) % 2 == 1) == (name in live)
    assert live <= runs.keys()


def moment_text(moment: int) -> str:
    from protocol.portal.fields import spell_moment

    return spell_moment(moment)
