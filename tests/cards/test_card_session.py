"""The host's side: what it makes of a card's answers, good ones and bad ones."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.application import DEFAULT_AID
from cards.data_objects import DataObject
from cards.errors import ApduError, CardRefusedError, CardReplyError, CardsError, WrongCardError
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.message import EmmKind, Version
from emm.payload import CardState
from emm.plan import Right
from protocol import card_number
from tests.support.cards import ADDRESS, NOW, OTHER_LADDER, PERIOD, WORDS, blank_card, ecm, emm


def session_with(card=None, aid=DEFAULT_AID) -> CardSession:
    return CardSession((card or blank_card()).process, aid)


def scripted(*answers: str) -> CardSession:
    """A session with a card that gives these answers after SELECT."""
    rest = iter([b"\x90\x00", *map(bytes.fromhex, answers)])
    return CardSession(lambda command: next(rest))


def test_all_that_a_card_tells_about_itself():
    session = session_with()
    blank = session.read_info()
    assert (blank.address, blank.state.state, blank.rights, blank.last_ecm_time) == (ADDRESS, None, (), None)
    assert blank.number == card_number.spell(ADDRESS)
    sections = emm(*[Right(product, 0) for product in range(1, 30)], revision=4)
    assert session.process_emm(sections[2]) is StatusWord.PART_HELD
    half = session.read_info().state
    assert (half.state, half.collecting, half.parts_wanted, half.parts_held) == (None, Version(PERIOD, 4), 3, (2,))
    for section in sections[:2]:
        session.process_emm(section)
    session.process_ecm(ecm(7))
    info = session.read_info()
    assert info.versions.held == {EmmKind.UNIQUE: Version(PERIOD, 4), EmmKind.GROUP: None, EmmKind.GLOBAL: None}
    assert (info.state.state, info.state.collecting, info.last_ecm_time) == (CardState.ACTIVE, None, NOW)
    assert [right.product_id for right in info.rights] == list(range(1, 30))


def test_benign_answers_to_an_emm_come_back_and_the_others_are_raised():
    session = session_with()
    new, old = emm(Right(3, 0), revision=2)[0], emm(Right(3, 0), revision=1)[0]
    assert [session.process_emm(section) for section in (new, new, old)] == [
        StatusWord.OK,
        StatusWord.ALREADY_HELD,
        StatusWord.OLDER_VERSION,
    ]
    with pytest.raises(CardRefusedError, match="another card") as caught:
        session.process_emm(emm(address=1)[0])
    assert caught.value.sw == StatusWord.NOT_FOR_THIS_CARD
    with pytest.raises(CardRefusedError) as caught:
        session.process_emm(emm(Right(3, 0), revision=3, ladder=OTHER_LADDER)[0])
    assert caught.value.sw == StatusWord.NOT_AUTHENTIC
    assert caught.value.advice


def test_control_words_come_back_and_do_not_show_themselves():
    session = session_with()
    session.process_emm(emm(Right(3, 0))[0])
    words = session.process_ecm(ecm(3))
    assert words.words == WORDS
    assert WORDS[0].hex() not in repr(words)
    assert "evenCW" not in repr(words)
    with pytest.raises(CardRefusedError, match="no right"):
        session.process_ecm(ecm(4))


def test_a_card_without_the_application_is_the_wrong_card():
    with pytest.raises(WrongCardError, match="F000000001") as caught:
        session_with(aid=bytes.fromhex("F000000001"))
    assert "card_aid" in caught.value.advice


def test_t0_answers_are_fetched_with_the_le_the_card_asks_for():
    sent: list[bytes] = []
    answers = iter(map(bytes.fromhex, ["9000", "6C05", "6103", "01BE 08 6102", "DC35 9000".replace(" ", "")]))

    def transmit(command: bytes) -> bytes:
        sent.append(command)
        return next(answers)

    assert CardSession(transmit).read(DataObject.NUMBER) == bytes.fromhex("01BE08DC35")
    assert sent[1:] == [bytes.fromhex(text) for text in ("80CADF2000", "80CADF2005", "00C0000003", "00C0000002")]


@pytest.mark.parametrize(
    "answers",
    [
        ["90"],
        [""],
        ["9000"],
        ["01020304 9000"],
        ["6100", *["6100"] * 3],
        ["6110", *["00" * 256 + "6100"] * 300],
    ],
)
def test_answers_that_the_specification_does_not_allow_are_told(answers):
    with pytest.raises(CardReplyError):
        scripted(*answers).read_info()


@pytest.mark.parametrize(
    "answer", ["9000", "00 9000", "20 00 9000", "31" + "00" * 24 + "9000", "12" + "00" * 16 + "9000"]
)
def test_control_words_of_a_wrong_form_are_told(answer):
    with pytest.raises(CardReplyError, match="control words"):
        scripted(answer).process_ecm(ecm(3))


@pytest.mark.parametrize("section", [b"", b"\x82", bytes(257)])
def test_what_is_no_section_is_not_sent(section):
    session = session_with()
    with pytest.raises(ApduError, match="section"):
        session.process_emm(section)
    with pytest.raises(ApduError, match="section"):
        session.process_ecm(section)


@given(st.lists(st.binary(max_size=300), max_size=12))
def test_whatever_a_card_answers_the_host_gives_a_value_or_its_own_error(answers):
    rest = iter([b"\x90\x00", *answers])
    session = CardSession(lambda command: next(rest, b""))
    for ask in (session.read_info, lambda: session.process_emm(emm()[0]), lambda: session.process_ecm(ecm(3))):
        with contextlib.suppress(CardsError):
            ask()
