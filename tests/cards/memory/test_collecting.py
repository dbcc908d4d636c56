"""D1 and D2 as the card keeps them: parts, versions, all at once."""

import pytest

from cards.memory import collecting
from cards.memory.contents import Collection, Track
from cards.status_word import StatusWord
from emm.errors import BuildError
from emm.message import EmmHeader, EmmKind, Version
from emm.payload import CardState, EmmPayload

ACTIVE = EmmPayload(CardState.ACTIVE)
SUSPENDED = EmmPayload(CardState.SUSPENDED)


def header(period: int, revision: int, part: int = 0, last_part: int = 0) -> EmmHeader:
    return EmmHeader(EmmKind.UNIQUE, 5, 1, Version(period, revision), part, last_part)


def hear(track: Track, *headers: EmmHeader) -> tuple[Track, list[StatusWord]]:
    words = []
    for each in headers:
        word = collecting.judge(track, each)
        if word is StatusWord.OK:
            track, word = collecting.add(track, each, ACTIVE)
        words.append(word)
    return track, words


def test_one_part_alone_is_taken_at_once():
    track, words = hear(Track(), header(1, 1))
    assert words == [StatusWord.OK]
    assert track == Track(Version(1, 1), (ACTIVE,))


def test_parts_are_taken_all_at_once_in_any_order():
    track, words = hear(Track(), header(1, 1, 2, 2), header(1, 1, 0, 2))
    assert words == [StatusWord.PART_HELD, StatusWord.PART_HELD]
    assert track.held is None
    track, words = hear(track, header(1, 1, 1, 2))
    assert words == [StatusWord.OK]
    assert (track.held, len(track.content), track.collecting) == (Version(1, 1), 3, None)


def test_a_part_heard_twice_is_held_already():
    _, words = hear(Track(), header(1, 1, 0, 1), header(1, 1, 0, 1))
    assert words[1] is StatusWord.ALREADY_HELD


@pytest.mark.parametrize(
    ("period", "revision", "word"),
    [
        (7, 9, StatusWord.ALREADY_HELD),
        (7, 8, StatusWord.OLDER_VERSION),
        (6, 0xFFFF_FFFF, StatusWord.OLDER_VERSION),
        (7, 10, StatusWord.OK),
        (8, 0, StatusWord.OK),
    ],
)
def test_versions_rise_strictly_period_first(period, revision, word):
    track, _ = hear(Track(), header(7, 9))
    assert hear(track, header(period, revision))[1] == [word]


def test_a_newer_version_drops_the_parts_of_the_one_before():
    track, words = hear(Track(), header(1, 1, 0, 1), header(1, 2, 1, 1), header(1, 1, 1, 1), header(1, 2, 0, 1))
    assert words == [StatusWord.PART_HELD, StatusWord.PART_HELD, StatusWord.OLDER_VERSION, StatusWord.OK]
    assert track.held == Version(1, 2)


def test_a_version_that_changes_its_number_of_parts_is_collected_anew():
    track, _ = hear(Track(), header(1, 1, 0, 1))
    track, words = hear(track, header(1, 1, 0, 2))
    assert words == [StatusWord.PART_HELD]
    assert track.collecting is not None
    assert [number for number, _ in track.collecting.parts] == [0]
    assert track.collecting.last_part == 2


def test_what_is_held_stays_until_the_new_version_is_complete():
    track, _ = hear(Track(), header(1, 1), header(1, 2, 0, 1))
    assert (track.held, track.content) == (Version(1, 1), (ACTIVE,))


def test_parts_that_contradict_each_other_are_dropped_and_nothing_else():
    track, _ = hear(Track(), header(1, 1), header(1, 2, 0, 1))
    track, word = collecting.add(track, header(1, 2, 1, 1), SUSPENDED)
    assert word is StatusWord.NOT_UNDERSTOOD
    assert track == Track(Version(1, 1), (ACTIVE,))


@pytest.mark.parametrize(
    ("last_part", "numbers"), [(16, (0,)), (-1, ()), (1, (2,)), (1, (-1,)), (1, (0, 0))]
)  # fmt: skip
def test_a_collection_that_cannot_be_is_refused(last_part, numbers):
    with pytest.raises(BuildError):
        Collection(Version(1, 1), last_part, tuple((number, ACTIVE) for number in numbers))
