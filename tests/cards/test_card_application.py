"""The card application: each command, each status word."""

from dataclasses import replace

import pytest

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID, CardApplication
from cards.errors import StorageError
from cards.status_word import StatusWord
from emm.errors import BuildError
from emm.message import EmmHeader, EmmKind, Version, build_head
from emm.payload import CardState, EmmPayload, OpaqueBlock
from emm.plan import Right
from emm.seal import EmmSealer
from tests.support.cards import (
    ADDRESS,
    CALENDAR,
    EPOCH,
    KEYS,
    LADDER,
    NOW,
    OTHER_LADDER,
    PERIOD,
    WORDS,
    MemoryStorage,
    blank_card,
    ecm,
    emm,
)

SELECT = CommandApdu(0x00, 0xA4, 0x04, 0x00, DEFAULT_AID, 256)
DAY = 86_400


def send(card: CardApplication, command: CommandApdu) -> ResponseApdu:
    return ResponseApdu.decode(card.process(command.encode()))


def send_emm(card: CardApplication, section: bytes) -> int:
    return send(card, CommandApdu(0x80, 0x30, section[0], 0, section[1:])).sw


def send_ecm(card: CardApplication, section: bytes, le: int | None = 256) -> ResponseApdu:
    return send(card, CommandApdu(0x80, 0x32, section[0], 0, section[1:], le))


def selected(storage: MemoryStorage | None = None) -> CardApplication:
    card = blank_card(storage)
    assert send(card, SELECT).sw == StatusWord.OK
    return card


def holding(*rights: Right, **say: int) -> CardApplication:
    card = selected()
    for section in emm(*rights, **say):
        assert send_emm(card, section) in (StatusWord.OK, StatusWord.PART_HELD)
    return card


# --- SELECT and the frame of every command -----------------------------------------------------------------------


def test_select_answers_with_the_applications_name():
    answer = send(blank_card(), SELECT)
    assert answer == ResponseApdu(StatusWord.OK, bytes.fromhex("6F0A8408") + DEFAULT_AID)


def test_select_without_an_answer_and_of_another_application():
    card = blank_card()
    assert send(card, replace(SELECT, p2=0x0C, le=None)) == ResponseApdu(StatusWord.OK)
    assert send(card, replace(SELECT, data=DEFAULT_AID[:-1])).sw == StatusWord.APPLICATION_NOT_FOUND
    assert send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x20, le=256)).sw == StatusWord.OK  # the selection stands


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("80CADF2000", StatusWord.CONDITIONS_NOT_MET),
        ("8030820003000000", StatusWord.CONDITIONS_NOT_MET),
        ("84CADF2000", StatusWord.WRONG_CLASS),
        ("00CADF2000", StatusWord.WRONG_CLASS),
        ("80A4040008F0434144454D4D01", StatusWord.WRONG_CLASS),
        ("80FF000000", StatusWord.WRONG_INSTRUCTION),
        ("00A4040C", StatusWord.WRONG_LENGTH),
        ("00A4000008F0434144454D4D01", StatusWord.WRONG_P1_P2),
        ("00A4", StatusWord.WRONG_LENGTH),
        ("", StatusWord.WRONG_LENGTH),
    ],
)
def test_commands_before_select_or_out_of_form_get_their_word(command, word):
    assert blank_card().process(bytes.fromhex(command)) == int(word).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("80CADF2500", StatusWord.DATA_NOT_FOUND),
        ("80CA000000", StatusWord.DATA_NOT_FOUND),
        ("80CADF200101", StatusWord.WRONG_LENGTH),
        ("8030800001FF", StatusWord.WRONG_P1_P2),
        ("8030820101FF", StatusWord.WRONG_P1_P2),
        ("80308200", StatusWord.WRONG_LENGTH),
        ("8030820001FF", StatusWord.WRONG_DATA),
        ("80CA000001FF", StatusWord.DATA_NOT_FOUND),
        ("8032820001FF", StatusWord.WRONG_P1_P2),
        ("8032800001FF", StatusWord.WRONG_DATA),
        ("00C0000000", StatusWord.CONDITIONS_NOT_MET),
        ("00C00001 00", StatusWord.WRONG_P1_P2),
        ("00C00000", StatusWord.WRONG_LENGTH),
    ],
)
def test_wrong_parameters_and_data_get_their_word(command, word):
    assert selected().process(bytes.fromhex(command)) == int(word).to_bytes(2, "big")


def test_a_reset_deselects():
    card = selected()
    card.reset()
    assert send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x20, le=256)).sw == StatusWord.CONDITIONS_NOT_MET


# --- answers longer than Le ---------------------------------------------------------------------------------------


def test_without_le_the_answer_waits_for_get_response():
    card = selected()
    assert send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x20)) == ResponseApdu(0x6105)
    answer = send(card, CommandApdu(0x00, 0xC0, 0, 0, le=5))
    assert answer == ResponseApdu(StatusWord.OK, ADDRESS.to_bytes(5, "big"))


def test_a_long_answer_comes_in_pieces_and_each_says_how_much_waits():
    card = holding(*[Right(product, 0) for product in range(1, 51)])  # 50 × 13 = 650 bytes
    first = send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x23, le=256))
    second = send(card, CommandApdu(0x00, 0xC0, 0, 0, le=256))
    third = send(card, CommandApdu(0x00, 0xC0, 0, 0, le=256))
    assert [first.sw, second.sw, third.sw] == [0x6100, 0x618A, 0x9000]
    whole = send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x23, le=65_536))
    assert first.data + second.data + third.data == whole.data
    assert len(whole.data) == 650


def test_another_command_drops_the_rest_of_an_answer():
    card = selected()
    send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x20))
    send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x24, le=256))
    assert send(card, CommandApdu(0x00, 0xC0, 0, 0, le=5)).sw == StatusWord.CONDITIONS_NOT_MET


def test_bytes_that_are_no_command_drop_the_rest_too():
    card = holding(Right(3, 0))
    send_ecm(card, ecm(3), le=None)
    card.process(b"\x00")
    assert send(card, CommandApdu(0x00, 0xC0, 0, 0, le=17)).sw == StatusWord.CONDITIONS_NOT_MET


# --- PROCESS EMM --------------------------------------------------------------------------------------------------


def test_an_emm_is_taken_held_and_older_ones_are_told_apart():
    card = holding(Right(3, 0), revision=5)
    assert card.memory.state is CardState.ACTIVE
    assert send_emm(card, emm(Right(3, 0), revision=5)[0]) == StatusWord.ALREADY_HELD
    assert send_emm(card, emm(Right(4, 0), revision=4)[0]) == StatusWord.OLDER_VERSION
    assert send_emm(card, emm(Right(4, 0), revision=9, period=PERIOD - 1)[0]) == StatusWord.OLDER_VERSION
    assert send_emm(card, emm(Right(4, 0), revision=6)[0]) == StatusWord.OK
    assert [product.product_id for block in card.memory.rights for product in block.products] == [4]


def test_parts_are_awaited_and_then_all_taken():
    card = selected()
    sections = emm(*[Right(product, 0) for product in range(1, 30)])
    assert [send_emm(card, section) for section in reversed(sections)] == [
        *[StatusWord.PART_HELD] * (len(sections) - 1),
        StatusWord.OK,
    ]
    assert len(sections) > 1
    products = [product.product_id for block in card.memory.rights for product in block.products]
    assert products == list(range(1, 30))


def test_an_emm_for_another_card_group_or_key_version_is_told_apart():
    card = selected()
    assert send_emm(card, emm(address=ADDRESS + 1)[0]) == StatusWord.NOT_FOR_THIS_CARD
    assert send_emm(card, emm(key_version=2)[0]) == StatusWord.UNKNOWN_KEY_VERSION
    sealer = EmmSealer(LADDER)
    others = sealer.group((ADDRESS >> 8) + 1, 1, Version(1, 1), [EmmPayload(CardState.ACTIVE)])
    assert send_emm(card, others[0]) == StatusWord.NOT_FOR_THIS_CARD


def test_an_emm_under_another_headends_key_or_changed_on_the_way_is_not_authentic():
    card = selected()
    good = emm(Right(3, 0))[0]
    assert send_emm(card, emm(Right(3, 0), ladder=OTHER_LADDER)[0]) == StatusWord.NOT_AUTHENTIC
    assert send_emm(card, good[:-1] + bytes((good[-1] ^ 1,))) == StatusWord.NOT_AUTHENTIC
    assert card.memory.state is None
    assert send_emm(card, good) == StatusWord.OK


def test_group_and_global_emms_have_versions_of_their_own_and_change_no_right():
    card = holding(Right(3, 0), revision=7)
    sealer, nothing = EmmSealer(LADDER), EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x90, b"later"),))
    group = sealer.group(ADDRESS >> 8, 1, Version(1, 1), [nothing])[0]
    to_all = sealer.to_all(1, Version(1, 1), [nothing])[0]
    rights = card.memory.rights
    assert [send_emm(card, section) for section in (group, to_all)] == [StatusWord.OK] * 2
    assert [send_emm(card, section) for section in (group, to_all)] == [StatusWord.ALREADY_HELD] * 2
    assert (card.memory.rights, card.memory.tracks[EmmKind.UNIQUE].held) == (rights, Version(PERIOD, 7))


def test_an_authentic_emm_with_a_block_that_the_card_must_know_is_not_understood():
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    payload = bytes.fromhex("00 01 7F 00")
    head = build_head(EmmHeader(EmmKind.UNIQUE, ADDRESS, 1, Version(1, 1)), len(payload))
    section = head + AESSIV(KEYS.card_key).encrypt(payload, [head])
    card = selected()
    assert send_emm(card, section) == StatusWord.NOT_UNDERSTOOD
    assert card.memory.state is None


def test_when_the_memory_fails_the_card_says_so_and_holds_what_it_held():
    storage = MemoryStorage()
    card = selected(storage)
    storage.broken = True
    section = emm(Right(3, 0))[0]
    assert send_emm(card, section) == StatusWord.MEMORY_FAILURE
    assert card.memory.state is None
    storage.broken = False
    assert send_emm(card, section) == StatusWord.OK


@pytest.mark.parametrize("format_at", [8, 7, 3])
def test_a_format_of_later_days_is_told_from_a_spoilt_section(format_at):
    sealer, nothing = EmmSealer(LADDER), [EmmPayload(CardState.ACTIVE)]
    sections = {
        8: emm()[0],
        7: sealer.group(ADDRESS >> 8, 1, Version(1, 1), nothing)[0],
        3: sealer.to_all(1, Version(1, 1), nothing)[0],
    }
    card, section = selected(), sections[format_at]
    later = section[:format_at] + b"\x03" + section[format_at + 1 :]
    assert send_emm(card, later) == StatusWord.FUNCTION_NOT_SUPPORTED
    assert send_emm(card, section[:-1]) == StatusWord.WRONG_DATA
    assert send_ecm(card, ecm(3)[:3] + b"\x03" + ecm(3)[4:]).sw == StatusWord.FUNCTION_NOT_SUPPORTED


# --- PROCESS ECM --------------------------------------------------------------------------------------------------


def test_an_ecm_of_a_held_product_gives_its_control_words():
    card = holding(Right(3, 0))
    assert send_ecm(card, ecm(2, 3)) == ResponseApdu(StatusWord.OK, b"\x20" + b"".join(WORDS))
    wide = (bytes(range(16)),)
    assert send_ecm(card, ecm(3, words=wide)) == ResponseApdu(StatusWord.OK, b"\x11" + wide[0])


def test_control_words_also_come_by_get_response():
    card = holding(Right(3, 0))
    assert send_ecm(card, ecm(3), le=None).sw == 0x6111
    assert send(card, CommandApdu(0x80, 0xC0, 0, 0, le=17)).data == b"\x20" + b"".join(WORDS)


def test_a_card_without_any_emm_and_a_suspended_one_open_nothing_and_say_why():
    assert send_ecm(selected(), ecm(3)).sw == StatusWord.NO_EMM_YET
    card = holding(Right(3, 0))
    assert send_emm(card, emm(Right(3, 0), revision=2, suspended=True)[0]) == StatusWord.OK
    assert send_ecm(card, ecm(3)).sw == StatusWord.SUSPENDED


@pytest.mark.parametrize(
    ("right", "say", "word"),
    [
        (Right(4, 0), {}, StatusWord.NO_RIGHT),
        (Right(3, NOW + DAY // 2), {}, StatusWord.RIGHT_NOT_BEGUN),
        (Right(3, 0, NOW), {}, StatusWord.RIGHT_ENDED),
        (Right(3, 0), {"time": CALENDAR.rights_end(PERIOD), "epoch": EPOCH}, StatusWord.RIGHT_ENDED),
        (Right(3, 0), {"epoch": EPOCH + 1}, StatusWord.NO_KEY_OF_EPOCH),
        (Right(3, 0), {"epoch": EPOCH - 1}, StatusWord.NO_KEY_OF_EPOCH),
        (Right(3, 0), {"ladder": OTHER_LADDER}, StatusWord.NOT_AUTHENTIC),
    ],
)
def test_a_refused_ecm_says_why(right, say, word):
    assert send_ecm(holding(right), ecm(3, **say)) == ResponseApdu(word)


def test_a_right_opens_at_its_first_second_and_closes_at_its_last():
    start, end = NOW - 10, NOW + 10
    # The plan leaves out a start that lies before the period; this one does not.
    assert start > CALENDAR.period_start(PERIOD)
    card = holding(Right(3, start, end))
    words = {time: send_ecm(card, ecm(3, time=time)).sw for time in (start - 1, start, end - 1, end)}
    assert words == {
        start - 1: StatusWord.RIGHT_NOT_BEGUN,
        start: StatusWord.OK,
        end - 1: StatusWord.OK,
        end: StatusWord.RIGHT_ENDED,
    }


def test_between_two_windows_of_a_product_the_next_is_what_counts():
    card = holding(Right(3, 0, NOW - 10), Right(3, NOW + 10))
    assert send_ecm(card, ecm(3, time=NOW)).sw == StatusWord.RIGHT_NOT_BEGUN


def test_the_time_of_the_last_channel_is_told_at_once_and_stored_once_an_hour():
    storage = MemoryStorage()
    card = selected(storage)
    send_emm(card, emm(Right(3, 0))[0])
    writes = storage.writes

    def told() -> int:
        return int.from_bytes(send(card, CommandApdu(0x80, 0xCA, 0xDF, 0x24, le=256)).data, "big")

    assert told() == 0
    for offset, stored in ((0, NOW), (3599, NOW), (100, NOW), (3600, NOW + 3600)):
        assert send_ecm(card, ecm(3, time=NOW + offset)).sw == StatusWord.OK
        assert told() == max(NOW + offset, NOW + 3599 if offset == 100 else 0)
        assert storage.memory.last_time == stored
    assert storage.writes == writes + 2
    send_ecm(card, ecm(4, time=NOW + 9000))
    assert told() == NOW + 3600  # an ECM that did not open says nothing about time


def test_a_memory_that_cannot_note_the_time_keeps_no_channel_closed():
    storage = MemoryStorage()
    card = selected(storage)
    send_emm(card, emm(Right(3, 0))[0])
    storage.broken = True
    assert send_ecm(card, ecm(3)).data == b"\x20" + b"".join(WORDS)


# --- secrets ------------------------------------------------------------------------------------------------------


def test_no_key_or_control_word_shows_in_a_repr():
    card = holding(Right(3, 0))
    send_ecm(card, ecm(3), le=None)
    shown = f"{card!r} {card.memory!r} {card.__dict__!r} {MemoryStorage()!r}"
    secrets = [KEYS.card_key, KEYS.group_key, KEYS.global_key, LADDER.product_key(3, EPOCH), *WORDS]
    for secret in secrets:
        assert secret.hex() not in shown.lower()
        assert bytes.__repr__(secret)[2:-1] not in shown


def test_a_store_that_cannot_be_read_is_told_when_the_card_is_made():
    class Unreadable(MemoryStorage):
        def load(self):
            raise StorageError("gone")

    with pytest.raises(StorageError):
        CardApplication(Unreadable())


@pytest.mark.parametrize(
    "wrong", [{"key_version": 256}, {"card_key": b"short"}, {"group_key": b""}, {"global_key": bytes(16)}]
)
def test_keys_that_cannot_be_are_refused(wrong):
    with pytest.raises(BuildError):
        replace(KEYS, **wrong)
