"""What a watcher tells, from two looks at the readers."""

from hypothesis import given
from hypothesis import strategies as st

from cards.readers.state import CardPresence, ReaderEventKind, ReaderState, changes

NAMES = st.sampled_from(["a", "b", "c"])
ATRS = {CardPresence.PRESENT: st.sampled_from([b"one", b"two"])}


@st.composite
def looks(draw: st.DrawFn) -> dict[str, ReaderState]:
    found = {}
    for name in draw(st.sets(NAMES)):
        presence = draw(st.sampled_from(CardPresence))
        atr = draw(ATRS.get(presence, st.just(b"")))
        found[name] = ReaderState(name, presence, atr, raw=draw(st.integers(0, 3)) << 16)
    return found


def card(look: dict[str, ReaderState], name: str) -> bool:
    return name in look and look[name].presence in (CardPresence.PRESENT, CardPresence.MUTE)


@given(looks(), looks())
def test_the_events_lead_from_one_look_to_the_next(before, after):
    readers = set(before)
    cards = {name for name in before if card(before, name)}
    for event in changes(before, after):
        match event.kind:
            case ReaderEventKind.READER_ADDED:
                assert event.reader not in readers
                readers.add(event.reader)
            case ReaderEventKind.READER_REMOVED:
                assert event.reader not in cards
                readers.remove(event.reader)
            case ReaderEventKind.CARD_REMOVED:
                cards.remove(event.reader)
            case ReaderEventKind.CARD_INSERTED | ReaderEventKind.CARD_MUTE:
                assert event.reader not in cards
                assert event.atr == after[event.reader].atr
                cards.add(event.reader)
            case _:
                raise AssertionError(event)
    assert readers == set(after)
    assert cards == {name for name in after if card(after, name)}


@given(looks())
def test_nothing_new_tells_nothing(look):
    assert changes(look, look) == []


def test_another_card_of_the_same_kind_shows_in_the_count_alone():
    before = {"a": ReaderState("a", CardPresence.PRESENT, b"same", raw=1 << 16)}
    after = {"a": ReaderState("a", CardPresence.PRESENT, b"same", raw=3 << 16)}
    assert [event.kind.value for event in changes(before, after)] == ["card-removed", "card-inserted"]


def test_a_program_that_begins_to_use_a_card_is_no_event():
    before = {"a": ReaderState("a", CardPresence.PRESENT, b"same", raw=1 << 16)}
    after = {"a": ReaderState("a", CardPresence.PRESENT, b"same", in_use=True, raw=1 << 16 | 0x100)}
    assert changes(before, after) == []
