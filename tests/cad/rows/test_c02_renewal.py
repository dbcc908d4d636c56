"""C2: rights of bounded life, renewed by the clock alone; what hears nothing goes dark; epochs change with overlap."""

import pytest

from cad.ledger.look import reading
from emm.message import parse_emm
from tests.support.hand_headend import NUMBERS, HandHeadend

A = NUMBERS[0]
DAY = 86_400


def written(headend: HandHeadend) -> tuple[int, int]:
    changes = headend.store.read(lambda held: held.exec_driver_sql("PRAGMA data_version").scalar())
    total = headend.store.read(lambda held: held.exec_driver_sql("SELECT total_changes()").scalar())
    return int(changes or 0), int(total or 0)


@pytest.mark.slow
def test_c02_a_year_of_renewals_writes_nothing_and_never_leaves_the_picture_dark(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    before, revision, head = written(headend), headend.view(A).revision, headend.store.head
    for _ in range(366):
        assert card.opens("sport"), "before it hears the day's EMM"
        card.hear()
        assert card.opens("sport")
        headend.go_to(headend.now + DAY)
    assert (written(headend), headend.view(A).revision, headend.store.head) == (before, revision, head)


def test_c02_a_card_that_hears_nothing_goes_dark_within_a_month_and_a_bit(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    rights_end = headend.calendar.rights_end(headend.calendar.period(headend.now))
    assert rights_end - headend.now <= 36 * DAY
    assert [card.opens("sport", moment) for moment in (rights_end - 1, rights_end)] == [True, False]


def test_c02_two_months_in_a_drawer_and_right_again_with_the_first_emm(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    card = headend.card(A).hear()
    headend.go_to(headend.now + 61 * DAY)
    assert not card.opens("sport")
    assert card.hear().opens("sport"), "every card is sent once in a cycle"
    headend.done("subscription end", subscription="s")
    assert not card.hear().opens("sport")
    headend.sleep_until(headend.now + 61 * DAY)
    assert not card.hear().opens("sport"), "a restart brings nothing back"


def test_c02_over_the_change_of_an_epoch_both_keys_are_there(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    calendar = headend.calendar
    boundary = calendar.epoch_end(calendar.epoch(headend.now))
    headend.go_to(boundary - 4 * DAY)
    card = headend.card(A).hear()
    assert [card.opens("sport", moment) for moment in (headend.now, boundary - 1, boundary, boundary + DAY)] == [
        True
    ] * 4
    late = headend.card(A)
    headend.go_to(boundary)
    assert late.hear().opens("sport")
    assert not late.opens("sport", boundary - 1), "no key of an epoch that is over"


def test_c02_the_period_raises_the_version_of_every_card_by_itself(headend: HandHeadend) -> None:
    headend.done("subscription put", subscription="s", card=A, offer="sport")
    slot = headend.roster.slot_of(0)
    assert slot is not None
    seen = []
    for _ in range(3):
        period = headend.calendar.period(headend.now)
        (section,) = headend.roster.seal(slot, period, headend.calendar, headend.sealer)
        seen.append(parse_emm(section).header.version)
        headend.go_to(headend.calendar.period_end(period))
    assert [one.period - seen[0].period for one in seen] == [0, 1, 2]
    assert len({one.revision for one in seen}) == 1
    card = headend.store.read(lambda held: reading.card_block(held, ["karjaa"], -1))
    assert int(card.revisions[0]) == seen[0].revision
