"""The verdict on a card: each code by a card that really is so, and words for each."""

from dataclasses import replace

import pytest

from cards.session import CardInfo, CardSession
from cards.verify import CHANGE_GRACE_S, PASSING, RENEWAL_GRACE_S, Code, Judgement, Ordered, judge, verdict_of
from emm.message import Version
from emm.plan import Right
from emm.traits import NO_TRAITS, Traits
from protocol import receiver_number
from tests.support.cards import CALENDAR, NOW, PERIOD, blank_card, emm, receiver

SPORT = Right(7, 0)
HOME = Traits(receiver(1).number)
LONG_AGO = NOW - 10 * 86_400
ORDERED = Ordered(
    suspended=False, reason=None, key_version=1, revision=3, rights=(SPORT,), changed_at=LONG_AGO, live=True
)


def card(
    *rights: Right, revision: int = 3, period: int = PERIOD, suspended: bool = False, traits: Traits = NO_TRAITS
) -> CardInfo:
    application = blank_card()
    session = CardSession(application.process)
    for section in emm(*rights, revision=revision, period=period, suspended=suspended, traits=traits):
        session.process_emm(section)
    return session.read_info()


def blank() -> CardInfo:
    return CardSession(blank_card().process).read_info()


def decide(info: CardInfo, ordered: Ordered = ORDERED, genuine: bool | None = True, now: float = NOW) -> Judgement:
    return judge(info, ordered, genuine, now, CALENDAR)


def test_a_card_that_holds_what_is_ordered_passes() -> None:
    found = decide(card(SPORT))
    assert found.verdict.code is Code.OK
    assert found.verdict.passed
    assert found.held == found.newest == Version(PERIOD, 3)
    assert [(line.product_id, line.agrees, line.open_now) for line in found.lines] == [(7, True, True)]


@pytest.mark.parametrize(
    ("info", "ordered", "genuine", "code"),
    [
        (card(SPORT), ORDERED, False, Code.NOT_GENUINE),
        (card(SPORT), ORDERED, None, Code.UNPROVEN),
        (card(SPORT), replace(ORDERED, key_version=2), True, Code.WRONG_KEYS),
        (card(SPORT), replace(ORDERED, suspended=True), True, Code.SUSPENDED),
        (card(revision=3, suspended=True), replace(ORDERED, suspended=True), True, Code.SUSPENDED),
        (blank(), ORDERED, True, Code.BLANK),
        (blank(), replace(ORDERED, changed_at=NOW - 5), True, Code.ON_ITS_WAY),
        (card(SPORT, revision=2), replace(ORDERED, rights=(SPORT, Right(8, 0))), True, Code.RIGHTS_DIFFER),
        (card(SPORT, Right(8, 0), revision=2), ORDERED, True, Code.RIGHTS_DIFFER),
        (
            card(SPORT, revision=2),
            replace(ORDERED, rights=(Right(8, 0),), changed_at=NOW - CHANGE_GRACE_S + 1),
            True,
            Code.ON_ITS_WAY,
        ),
        (card(SPORT, revision=9), ORDERED, True, Code.AHEAD),
        (card(SPORT, revision=9), replace(ORDERED, live=False), True, Code.NEWER_THAN_EXTRACT),
        (card(revision=9, suspended=True), replace(ORDERED, live=False), True, Code.SUSPENDED),
        (card(SPORT, traits=HOME), replace(ORDERED, traits=HOME), True, Code.OK),
        (card(SPORT), replace(ORDERED, traits=HOME), True, Code.PAIRING_DIFFERS),
        (card(SPORT), replace(ORDERED, traits=Traits(region=7)), True, Code.REGION_DIFFERS),
        (card(SPORT, traits=Traits(region=7)), replace(ORDERED, traits=Traits(region=8)), True, Code.REGION_DIFFERS),
        (card(SPORT, traits=Traits(region=7)), replace(ORDERED, traits=Traits(region=7)), True, Code.OK),
        (card(SPORT, traits=HOME), ORDERED, True, Code.PAIRING_DIFFERS),
        (card(SPORT), replace(ORDERED, traits=HOME, changed_at=NOW - 5), True, Code.ON_ITS_WAY),
        (card(SPORT, traits=HOME), replace(ORDERED, suspended=True), True, Code.SUSPENDED),
        (card(SPORT), replace(ORDERED, traits=Traits(parental=12)), True, Code.ACCESS_DIFFERS),
        (card(SPORT), replace(ORDERED, traits=Traits(pin_reset=3)), True, Code.ACCESS_DIFFERS),
        (card(SPORT, traits=Traits(pin_reset=3)), replace(ORDERED, traits=Traits(pin_reset=3)), True, Code.OK),
        (card(SPORT, traits=Traits(pin_reset=3)), ORDERED, True, Code.OK),
        (card(SPORT, traits=Traits(parental=12)), ORDERED, True, Code.ACCESS_DIFFERS),
        (card(SPORT, period=PERIOD - 2), ORDERED, True, Code.NOT_HEARING),
        (card(), replace(ORDERED, rights=()), True, Code.NOTHING_ORDERED),
        (card(), replace(ORDERED, rights=(Right(7, 0, NOW - 1),)), True, Code.NOTHING_ORDERED),
    ],
)
def test_each_verdict(info: CardInfo, ordered: Ordered, genuine: bool | None, code: Code) -> None:
    found = decide(info, ordered, genuine)
    assert found.verdict.code is code
    assert found.verdict.passed == (code in PASSING)


def test_the_pairing_is_told_side_by_side() -> None:
    found = decide(card(SPORT, traits=HOME), replace(ORDERED, traits=Traits(receiver(2).number)))
    (line,) = [one for one in found.traits if one.name == "pairing"]
    assert (line.on_card, line.ordered, line.agrees) == (
        f"receiver {receiver_number.spell(receiver(1).number)}",
        f"receiver {receiver_number.spell(receiver(2).number)}",
        False,
    )
    (line,) = [one for one in decide(card(SPORT)).traits if one.name == "pairing"]
    assert (line.on_card, line.ordered, line.agrees) == ("any receiver", "any receiver", True)


def test_every_verdict_has_words_and_a_next_step() -> None:
    for code in Code:
        verdict = verdict_of(code)
        assert verdict.sentence.endswith(".")
        assert verdict.advice.endswith(".")


def test_an_older_revision_with_the_same_rights_is_no_failure() -> None:
    assert decide(card(SPORT, revision=2)).verdict.code is Code.OK


def test_a_renewal_is_missed_only_when_it_could_have_been_heard() -> None:
    period = PERIOD + 1
    start = CALENDAR.period_start(period)
    held = card(SPORT, period=PERIOD)
    assert decide(held, now=start + RENEWAL_GRACE_S).verdict.code is Code.OK
    assert decide(held, now=start + RENEWAL_GRACE_S + 1).verdict.code is Code.NOT_HEARING


def test_over_the_change_of_epoch_a_card_that_was_renewed_in_time_agrees() -> None:
    epoch_end = CALENDAR.epoch_end(CALENDAR.epoch(NOW))
    last = CALENDAR.period(epoch_end) - 1
    held = card(SPORT, period=last)
    assert decide(held, now=epoch_end + 60).verdict.code is Code.OK
    assert decide(card(SPORT, period=last), now=epoch_end - 60).verdict.code is Code.OK


def test_a_right_that_begins_later_is_on_both_sides_and_closed() -> None:
    later = Right(8, NOW + 3600, NOW + 7200)
    found = decide(card(SPORT, later), replace(ORDERED, rights=(SPORT, later)))
    assert found.verdict.code is Code.OK
    assert [(line.product_id, line.open_now) for line in found.lines] == [(7, True), (8, False)]


def test_another_window_of_the_same_product_is_told_line_by_line() -> None:
    found = decide(card(Right(7, 0, NOW + 60), revision=2), replace(ORDERED, rights=(Right(7, 0, NOW + 86_400),)))
    assert found.verdict.code is Code.RIGHTS_DIFFER
    (line,) = found.lines
    assert (line.held[0].end, line.wanted[0].end, line.agrees) == (NOW + 60, NOW + 86_400, False)
