"""I3, I5: under one version a card has one content, also when it is derived anew after a right has ended."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at

A, B = NUMBERS[:2]
END = "2026-11-21T12:00:00+02:00"


@pytest.fixture
def headend(tmp_path: Path) -> Iterator[HandHeadend]:
    folder = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=folder if folder.is_dir() else tmp_path) as place:
        one = HandHeadend(Path(place), at("2026-11-20 12:00"))
        for slug in ("sport", "film"):
            one.done("offer put", offer=slug, kind="channel", names={"fi": slug}, products=[slug])
        for number in (A, B):
            one.done("card assign", card=number, subscriber="anna")
            one.done("subscription put", subscription=f"s-{number}", card=number, offer="sport", ends_at=END)
        one.go_to(at("2026-11-21 13:00"))
        yield one
        one.close()


def said(headend: HandHeadend, number: str) -> tuple[int, tuple[bytes, ...]]:
    slot = headend.roster.slot_of(headend.card(number).address)
    assert slot is not None
    period = headend.calendar.period(headend.now)
    return headend.roster.revision(slot), headend.roster.seal(slot, period, headend.calendar, headend.sealer)


def test_a_right_that_ended_stands_in_the_emm_after_a_restart_as_before_it(headend: HandHeadend) -> None:
    before = said(headend, A)
    headend.crash()
    assert said(headend, A) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda headend: headend.done("offer put", offer="sport", kind="channel", names={"fi": "s"}, products=["film"]),
        lambda headend: headend.done(
            "subscription put",
            subscription=f"s-{A}",
            card=A,
            offer="film",
            starts_at="2026-11-20T12:00:00+02:00",
            ends_at=END,
        ),
        lambda headend: headend.done(
            "subscription put",
            subscription=f"s-{A}",
            card=B,
            offer="sport",
            starts_at="2026-11-20T12:00:00+02:00",
            ends_at=END,
        ),
        lambda headend: headend.done("subscription end", subscription=f"s-{A}"),
        lambda headend: headend.done("card refresh", card=A),
        lambda headend: headend.done(
            "subscription put",
            subscription="past",
            card=A,
            offer="film",
            starts_at="2026-11-20T12:00:00+02:00",
            ends_at="2026-11-21T12:30:00+02:00",
        ),
    ],
    ids=["offer", "past changed", "past moved", "ended again", "refresh", "past made up"],
)
def test_whatever_is_said_of_a_right_that_ended_no_version_gets_a_second_content(
    headend: HandHeadend, change: Callable[[HandHeadend], object]
) -> None:
    before = {number: said(headend, number) for number in (A, B)}
    change(headend)
    after = {number: said(headend, number) for number in (A, B)}
    headend.crash()
    for number in (A, B):
        assert said(headend, number) == after[number]
        assert after[number][0] > before[number][0] or after[number] == before[number]
