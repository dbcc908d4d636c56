"""The subscriber's PIN: tries that are spent first, resets that are taken once, and what outlives power."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.application import CardApplication
from cards.errors import PinError, StateFileError
from cards.memory.pin import FACTORY_PIN, TRIES_MAX, Pin
from cards.memory.state_file import decode, encode
from cards.session import CardSession
from cards.status_word import StatusWord, explain
from emm.errors import BuildError
from emm.secret import Secret
from emm.traits import Traits
from tests.support.cards import PERIOD, MemoryStorage, blank_card, emm

SELECT = bytes.fromhex("00A4040C08F0434144454D4D01")


def told(card: CardApplication, revision: int, *, parental: int = 0, pin_reset: int = 0, period: int = PERIOD) -> None:
    traits = Traits(parental=parental, pin_reset=pin_reset)
    for section in emm(revision=revision, period=period, traits=traits):
        CardSession(card.process).process_emm(section)


def answer(card: CardApplication, command: str) -> str:
    return card.process(bytes.fromhex(command)).hex().upper()


def test_a_new_card_has_the_factorys_pin_and_takes_another() -> None:
    session = CardSession(blank_card().process)
    session.give_pin("0000")
    session.change_pin("0000", "4711")
    session.give_pin("4711")
    with pytest.raises(PinError, match="2 tries are left") as caught:
        session.give_pin("0000")
    assert caught.value.tries_left == 2
    session.give_pin("4711")
    assert session.read_info().access.tries_left == TRIES_MAX, "who knows it has all tries again"


def test_three_wrong_pins_block_it_and_the_right_one_then_too() -> None:
    card = blank_card()
    session = CardSession(card.process)
    found = []
    for pin in ("1111", "2222", "3333", "0000"):
        with pytest.raises(PinError) as caught:
            session.give_pin(pin)
        found.append(caught.value.tries_left)
    assert found == [2, 1, 0, 0]
    with pytest.raises(PinError, match="blocked"):
        session.change_pin("0000", "1234")
    assert session.read_info().access.tries_left == 0
    assert answer(card, "00200081") == "6983"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("00200081", "63C3"),
        ("0020008104303030", "6700"),
        ("00200081033030 30", "6700"),
        ("0020008105303030 3030", "6700"),
        ("002000810430303061", "63C2"),
        ("0020FF810430303030", "6700"),
        ("0020FF81", "9000"),
        ("00200001", "6A86"),
        ("80200081", "6E00"),
        ("00240081083030303030303061", "6A80"),
        ("002400810430303030", "6700"),
        ("00240181083030303031313131", "6A86"),
        ("0024008108313131313030 3030", "63C2"),
    ],
)
def test_each_command_out_of_form_gets_its_word(command: str, word: str) -> None:
    card = blank_card()
    card.process(SELECT)
    assert answer(card, command) == word


def test_that_it_was_given_is_forgotten_with_a_reset_a_selection_a_wrong_one_and_on_request() -> None:
    def forgets(how: str) -> bool:
        card = blank_card()
        card.process(SELECT)
        assert answer(card, "002000810430303030") == answer(card, "00200081") == "9000"
        if how == "reset":
            card.reset()
            card.process(SELECT)
        else:
            card.process(bytes.fromhex(how))
        return answer(card, "00200081")[:3] == "63C"

    assert all(map(forgets, ("reset", SELECT.hex(), "002000810431313131", "0020FF81")))


def test_a_try_is_spent_before_the_digits_are_looked_at() -> None:
    storage = MemoryStorage()
    card = blank_card(storage)
    card.process(SELECT)
    before = storage.writes
    assert answer(card, "002000810431313131") == "63C2"
    assert (storage.writes, storage.memory.pin.tries_left) == (before + 1, 2)
    storage.broken = True
    assert answer(card, "002000810430303030") == "6581", "neither right nor wrong is told"
    assert answer(card, "00200081") == "63C2"


def test_a_reset_is_taken_once_however_often_it_is_heard() -> None:
    card = blank_card()
    session = CardSession(card.process)
    session.change_pin("0000", "4711")
    told(card, 5, pin_reset=5)
    session.give_pin("0000")
    session.change_pin("0000", "1234")
    for section in emm(revision=5, traits=Traits(pin_reset=5)):
        assert session.process_emm(section) is StatusWord.ALREADY_HELD
    told(card, 6, pin_reset=5)
    told(card, 6, pin_reset=5, period=PERIOD + 1)
    session.give_pin("1234")
    told(card, 7, period=PERIOD + 1)
    told(card, 8, pin_reset=5, period=PERIOD + 1)
    session.give_pin("1234")
    told(card, 9, pin_reset=9, period=PERIOD + 1)
    session.give_pin("0000")
    assert session.read_info().access.pin_reset == 9


def test_a_reset_unblocks_and_does_not_leave_it_given() -> None:
    card = blank_card()
    session = CardSession(card.process)
    for _ in range(TRIES_MAX):
        with pytest.raises(PinError):
            session.give_pin("9999")
    told(card, 1, pin_reset=1)
    session.give_pin("0000")
    told(card, 2, pin_reset=2)
    assert answer(card, "00200081") == "63C3"


def test_the_parental_level_is_told_and_follows_the_emm() -> None:
    card = blank_card()
    session = CardSession(card.process)
    levels = []
    for revision, level in enumerate((12, 18, 0, 4), 1):
        told(card, revision, parental=level)
        levels.append(session.read_info().access.parental)
    assert levels == [12, 18, 0, 4]


def test_pin_and_mark_outlive_power_and_a_file_from_before_there_were_pins_has_the_factorys() -> None:
    storage = MemoryStorage()
    card = blank_card(storage)
    told(card, 3, pin_reset=3)
    CardSession(card.process).change_pin("0000", "4711")
    raw = encode(storage.memory)
    again = CardApplication(MemoryStorage(decode(raw)))
    CardSession(again.process).give_pin("4711")
    assert again.memory.pin == Pin(Secret(b"4711"), TRIES_MAX, 3)
    older = json.loads(raw)
    del older["pin"]
    assert decode(json.dumps(older).encode()).pin == Pin()
    for spoilt in ({"digits": b"47a1".hex()}, {"tries_left": 4}, {"reset_mark": -1}):
        with pytest.raises(StateFileError, match="makes no sense"):
            decode(json.dumps({**older, "pin": json.loads(raw)["pin"] | spoilt}).encode())


@settings(max_examples=40)
@given(st.text(max_size=8).filter(lambda pin: re.fullmatch(r"[0-9]{4}", pin) is None))
def test_what_is_no_pin_never_reaches_the_card(pin: str) -> None:
    session = CardSession(blank_card().process)
    with pytest.raises(PinError, match="has 4 digits") as caught:
        session.give_pin(pin)
    assert caught.value.tries_left is None
    assert session.read_info().access.tries_left == TRIES_MAX


def test_the_pin_shows_itself_nowhere() -> None:
    pin = Pin(Secret(b"4711"))
    assert "4711" not in repr(pin)
    assert FACTORY_PIN == b"0000"
    with pytest.raises(BuildError) as caught:
        Pin(Secret(b"471x"))
    assert "471" not in str(caught.value)
    assert explain(0x63C1).meaning == "the PIN is wrong, or none was given; 1 tries are left"
