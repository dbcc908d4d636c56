"""The mailbox over APDUs: each notice once, for the right cards, kept without power, and room made for the newest."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID, CardApplication
from cards.errors import CardRefusedError, CardReplyError
from cards.mailbox.contents import BYTES_MAX, INCOMPLETE_MAX, LETTERS_MAX, TAKEN_MAX, Incomplete, Letter, Mailbox
from cards.session import CardSession
from cards.software_card import SoftwareCard
from cards.status_word import StatusWord
from emm.errors import BuildError
from emm.notices.content import Fingerprint, Message, Notice, Position, build_content
from emm.notices.seal import NoticeSealer
from emm.plan import Right
from tests.support.cards import ADDRESS, KEYS, LADDER, NOW, OTHER_LADDER, MemoryStorage, blank_card, ecm, emm

SEALER = NoticeSealer(LADDER)
DAY = 86_400
HELLO = Message(False, NOW - DAY, NOW + DAY, (("fi", "Hyvää päivää"), ("sv", "God dag")))
SHOWN = replace(HELLO, forced=True)
PRINT = Fingerprint(NOW - 10, NOW + 60, 20, Position.CENTRE, 7)
LONG = replace(HELLO, texts=(("ru", "Уважаемый абонент! " * 20),))


def to_card(number: int, notice: Notice = HELLO, address: int = ADDRESS) -> tuple[bytes, ...]:
    return SEALER.to_card(address, 1, number, build_content(notice))


def session(storage: MemoryStorage | None = None) -> CardSession:
    return CardSession(blank_card(storage).process)


def refusal(session: CardSession, section: bytes) -> int:
    with pytest.raises(CardRefusedError) as refused:
        session.process_emm(section)
    return refused.value.sw


def test_a_message_is_kept_once_and_read():
    card = session()
    (section,) = to_card(9)
    assert card.mailbox() == ()
    assert card.process_emm(section) == StatusWord.OK
    assert card.process_emm(section) == StatusWord.ALREADY_HELD
    (letter,) = card.mailbox()
    assert (letter.number, letter.done, letter.forced, letter.due) == (9, False, False, False)
    assert card.letter(9) == HELLO
    assert not card.mailbox()[0].done
    assert card.letter(9, mark=True) == HELLO
    assert card.mailbox()[0].done
    assert card.process_emm(section) == StatusWord.ALREADY_HELD


def test_a_long_message_comes_in_parts_in_any_order():
    card = session()
    sections = to_card(9, LONG)
    assert len(sections) > 2
    for section in reversed(sections[1:]):
        assert card.process_emm(section) == StatusWord.PART_HELD
        assert card.process_emm(section) == StatusWord.ALREADY_HELD
    assert card.mailbox() == ()
    assert card.process_emm(sections[0]) == StatusWord.OK
    assert card.letter(9) == LONG


def test_rights_and_messages_do_not_touch_one_another():
    card = session()
    for section in (*to_card(1000), *emm(Right(3, 0, None)), *to_card(3)):
        assert card.process_emm(section) == StatusWord.OK
    card.process_ecm(ecm(3))
    assert [letter.number for letter in card.mailbox()] == [1000, 3]
    assert len(card.read_info().rights) == 1


def test_only_those_addressed_keep_it():
    card, group, content = session(), ADDRESS >> 8, build_content(HELLO)
    (mine,) = SEALER.to_members(group, [ADDRESS, group * 256], 1, 1, content)
    (others,) = SEALER.to_members(group, [ADDRESS ^ 1], 1, 2, content)
    ((of_all,),) = SEALER.to_ranges([(0, 5), (ADDRESS - 1, ADDRESS)], 1, 3, content)
    ((of_others,),) = SEALER.to_ranges([(0, ADDRESS - 1), (ADDRESS + 1, 99_999_999_999)], 1, 4, content)
    assert card.process_emm(mine) == StatusWord.OK
    assert card.process_emm(others) == StatusWord.FOR_OTHERS
    assert card.process_emm(of_all) == StatusWord.OK
    assert card.process_emm(of_others) == StatusWord.FOR_OTHERS
    assert refusal(card, to_card(5, address=ADDRESS ^ 1)[0]) == StatusWord.NOT_FOR_THIS_CARD
    assert [letter.number for letter in card.mailbox()] == [1, 3]


def test_what_was_not_sealed_for_it_is_not_kept():
    storage = MemoryStorage()
    card = session(storage)
    content = build_content(HELLO)
    assert refusal(card, NoticeSealer(OTHER_LADDER).to_card(ADDRESS, 1, 1, content)[0]) == StatusWord.NOT_AUTHENTIC
    assert refusal(card, to_card(1)[0][:-1] + b"\0") == StatusWord.NOT_AUTHENTIC
    assert refusal(card, SEALER.to_card(ADDRESS, 2, 1, content)[0]) == StatusWord.UNKNOWN_KEY_VERSION
    assert storage.writes == 0


def test_a_kind_of_later_days_is_refused_once():
    card = session()
    later = b"\x07" + build_content(HELLO)[1:]
    assert refusal(card, SEALER.to_card(ADDRESS, 1, 5, later)[0]) == StatusWord.NOT_UNDERSTOOD
    assert card.process_emm(SEALER.to_card(ADDRESS, 1, 5, later)[0]) == StatusWord.ALREADY_HELD


def test_a_forced_message_is_due_within_its_time_until_it_was_shown():
    card = session()
    for section in (*emm(Right(3, 0, None)), *to_card(1, SHOWN)):
        card.process_emm(section)
    assert card.mailbox()[0].due, "a card without a clock shows it"
    card.process_ecm(ecm(3, time=NOW))
    assert card.mailbox()[0].due
    card.letter(1, mark=True)
    assert [(letter.due, letter.done) for letter in card.mailbox()] == [(False, True)]


def test_a_forced_message_that_was_not_shown_in_time_is_not_shown_later():
    card = session()
    for section in (*emm(Right(3, 0, None)), *to_card(1, replace(SHOWN, end=NOW))):
        card.process_emm(section)
    card.process_ecm(ecm(3, time=NOW))
    assert not card.mailbox()[0].due


def test_what_is_sent_again_after_its_time_is_not_taken():
    card = session()
    for section in emm(Right(3, 0, None)):
        card.process_emm(section)
    card.process_ecm(ecm(3, time=NOW))
    (replayed,) = to_card(1, replace(HELLO, end=NOW))
    assert card.process_emm(replayed) == StatusWord.OLDER_VERSION
    assert card.mailbox() == ()


def test_a_fingerprint_is_due_and_gone_when_it_was_shown():
    card = session()
    card.process_emm(to_card(1, PRINT)[0])
    (held,) = card.mailbox()
    assert (held.fingerprint, held.due, held.size) == (True, True, 14)
    assert card.letter(1, mark=True) == PRINT
    assert card.mailbox() == ()
    assert card.process_emm(to_card(1, PRINT)[0]) == StatusWord.ALREADY_HELD
    with pytest.raises(CardRefusedError) as refused:
        card.letter(1)
    assert refused.value.sw == StatusWord.DATA_NOT_FOUND


@pytest.mark.slow
def test_the_oldest_read_letter_makes_room_first():
    card = session()
    for number in range(1, LETTERS_MAX + 1):
        card.process_emm(to_card(number)[0])
    card.letter(3, mark=True)
    card.letter(2, mark=True)
    for number in range(101, 104):
        card.process_emm(to_card(number)[0])
    kept = [letter.number for letter in card.mailbox()]
    assert kept == [*range(4, LETTERS_MAX + 1), 101, 102, 103], "2 and 3 were read; then 1 is the oldest"
    assert card.process_emm(to_card(1)[0]) == StatusWord.ALREADY_HELD, "it does not come back"


@pytest.mark.slow
def test_numbers_of_long_ago_stay_taken_though_the_card_forgets_them_singly():
    card = session()
    for number in range(10, 10 + TAKEN_MAX + 3):
        card.process_emm(to_card(number)[0])
    for number in (12, 5):
        assert card.process_emm(to_card(number)[0]) == StatusWord.ALREADY_HELD
    assert card.process_emm(to_card(500)[0]) == StatusWord.OK


def test_parts_of_few_notices_are_kept_at_a_time():
    card = session()
    parts = {number: to_card(number, LONG) for number in range(1, INCOMPLETE_MAX + 2)}
    for sections in parts.values():
        assert card.process_emm(sections[0]) == StatusWord.PART_HELD
    assert card.process_emm(parts[1][0]) == StatusWord.PART_HELD, "the oldest was dropped, and is collected again"
    assert card.process_emm(parts[5][0]) == StatusWord.ALREADY_HELD


def test_letters_survive_power_and_a_worn_out_memory_keeps_the_old(tmp_path: Path):
    with SoftwareCard.create(tmp_path / "card", ADDRESS, KEYS) as card:
        talk = CardSession(card.process)
        talk.process_emm(to_card(1)[0])
        talk.process_emm(to_card(2, LONG)[0])
        talk.letter(1, mark=True)
    with SoftwareCard.open(tmp_path / "card") as card:
        talk = CardSession(card.process)
        assert talk.letter(1) == HELLO
        assert talk.mailbox()[0].done
        for section in to_card(2, LONG)[1:]:
            talk.process_emm(section)
        assert talk.letter(2) == LONG
    storage = MemoryStorage()
    worn = session(storage)
    storage.broken = True
    assert refusal(worn, to_card(1)[0]) == StatusWord.MEMORY_FAILURE
    assert worn.mailbox() == ()


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (CommandApdu(0x80, 0x34, 0, 0, b"\0\0\0\1", 256), StatusWord.DATA_NOT_FOUND),
        (CommandApdu(0x80, 0x34, 2, 0, b"\0\0\0\1", 256), StatusWord.WRONG_P1_P2),
        (CommandApdu(0x80, 0x34, 0, 1, b"\0\0\0\1", 256), StatusWord.WRONG_P1_P2),
        (CommandApdu(0x80, 0x34, 0, 0, b"\0\0\1", 256), StatusWord.WRONG_LENGTH),
        (CommandApdu(0x00, 0x34, 0, 0, b"\0\0\0\1", 256), StatusWord.WRONG_CLASS),
    ],
)
def test_get_message_out_of_form_gets_its_word(command: CommandApdu, word: StatusWord):
    card: CardApplication = blank_card()
    card.process(CommandApdu(0x00, 0xA4, 0x04, 0x00, DEFAULT_AID, 256).encode())
    assert ResponseApdu.decode(card.process(command.encode())).sw == word


def test_a_card_without_a_mailbox_has_no_letters():
    def old_card(command: bytes) -> bytes:
        return bytes.fromhex("6A88") if command[1] == 0xCA else bytes.fromhex("9000")

    assert CardSession(old_card).mailbox() == ()


@pytest.mark.parametrize("answer", ["0000000100", "000000010000"])
def test_a_mailbox_that_makes_no_sense_is_the_cards_fault(answer: str):
    def broken(command: bytes) -> bytes:
        return (bytes.fromhex(answer) if command[1] == 0xCA else b"") + bytes.fromhex("9000")

    with pytest.raises(CardReplyError):
        CardSession(broken).mailbox()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mailbox(floor=-1),
        lambda: Mailbox(taken=(2, 1)),
        lambda: Mailbox(letters=(Letter(1, b""),)),
        lambda: Mailbox(letters=(Letter(0, build_content(HELLO)),)),
        lambda: Mailbox(letters=(Letter(1, build_content(HELLO)),) * 2),
        lambda: Mailbox(incomplete=(Incomplete(1, 0, ()),)),
        lambda: Mailbox(incomplete=(Incomplete(1, 2, ((3, b"x"),)),)),
    ],
)
def test_what_no_mailbox_holds_is_refused(make):
    with pytest.raises(BuildError):
        make()


NOTICES = st.sampled_from([HELLO, SHOWN, PRINT, LONG])


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 200), NOTICES, st.booleans()), max_size=60))
def test_a_mailbox_stays_bounded_and_takes_each_number_once(said):
    storage = MemoryStorage()
    card = session(storage)
    seen: set[int] = set()
    for number, notice, read in said:
        answers = [card.process_emm(section) for section in to_card(number, notice)]
        box = storage.memory.mailbox
        assert (answers[-1] == StatusWord.OK) <= (number not in seen)
        seen.add(number)
        assert len(box.letters) <= LETTERS_MAX
        assert sum(len(letter.content) for letter in box.letters) <= BYTES_MAX
        if read and box.find(number) is not None:
            card.letter(number, mark=True)
