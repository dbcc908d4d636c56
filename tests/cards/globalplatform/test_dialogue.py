"""The chain of processors: Le correction, GET RESPONSE, command chaining, secure messaging, and their driver."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards.apdu import CommandApdu, ResponseApdu
from cards.errors import CardReplyError
from cards.globalplatform.dialogue import Dialogue, Processor, Wire, link, run
from cards.globalplatform.errors import ChannelStateError
from tests.support.globalplatform import INITIAL_VERSION, Reader, stock


class Script:
    """A card that says these responses, and keeps what it heard."""

    def __init__(self, *responses: str) -> None:
        self._responses = [ResponseApdu.decode(bytes.fromhex(text)) for text in responses]
        self.heard: list[str] = []

    def __call__(self, command: CommandApdu) -> ResponseApdu:
        self.heard.append(command.encode().hex())
        return self._responses.pop(0)


def send(processor: Processor, command: CommandApdu, card: Callable[[CommandApdu], ResponseApdu]) -> ResponseApdu:
    return run(processor.exchange(command), card)


def test_a_plain_answer_passes_as_it_is() -> None:
    card = Script("0102 9000")
    assert send(link(extended=False), CommandApdu(0x80, 0xCA, 0, 0xE0, le=256), card) == ResponseApdu(0x9000, b"\1\2")
    assert card.heard == ["80ca00e000"]


def test_wrong_le_is_corrected_once() -> None:
    card = Script("6c02", "0102 9000")
    assert send(link(extended=True), CommandApdu(0x80, 0xCA, 0, 0xE0, le=256), card).data == b"\1\2"
    assert card.heard == ["80ca00e000", "80ca00e002"]


def test_a_card_that_corrects_le_again_is_refused() -> None:
    with pytest.raises(CardReplyError):
        send(link(extended=True), CommandApdu(0x80, 0xCA, 0, 0xE0, le=256), Script("6c02", "6c03"))


def test_more_data_is_fetched_and_joined_with_the_last_status_word() -> None:
    card = Script("01 6102", "0203 6100", "6c01", "04 6283")
    answer = send(link(extended=False), CommandApdu(0x80, 0xF2, 0x80, 2, b"O\0", 256), card)
    assert answer == ResponseApdu(0x6283, bytes((1, 2, 3, 4)))
    assert card.heard == ["80f28002024f0000", "00c0000002", "00c0000000", "00c0000001"]


@pytest.mark.parametrize(("cla", "fetched"), [(0x80, 0x00), (0x82, 0x02), (0x84, 0x00), (0xC5, 0x45), (0xE5, 0x45)])
def test_get_response_stays_on_the_logical_channel(cla: int, fetched: int) -> None:
    card = Script("6101", "04 9000")
    send(link(extended=False), CommandApdu(cla, 0xF2, 0, 0, le=256), card)
    assert card.heard[1] == f"{fetched:02x}c0000001"


def test_a_card_that_announces_and_does_not_give_is_refused() -> None:
    with pytest.raises(CardReplyError):
        send(link(extended=False), CommandApdu(0x80, 0xF2, 0, 0, le=256), Script("6110", "6110"))


def test_an_endless_answer_is_refused() -> None:
    def card(_: CommandApdu) -> ResponseApdu:
        return ResponseApdu(0x6100, bytes(256))

    with pytest.raises(CardReplyError):
        send(link(extended=False), CommandApdu(0x80, 0xF2, 0, 0, le=256), card)


@given(length=st.integers(0, 1100), le=st.none() | st.integers(1, 65_536))
def test_chained_parts_are_short_and_make_up_the_whole(length: int, le: int | None) -> None:
    data = bytes(i % 251 for i in range(length))
    heard: list[CommandApdu] = []

    def card(command: CommandApdu) -> ResponseApdu:
        heard.append(CommandApdu.decode(command.encode()))
        return ResponseApdu(0x9000)

    send(link(extended=False), CommandApdu(0x84, 0xE2, 0x80, 0, data, le, extended=True), card)
    assert b"".join(part.data for part in heard) == data
    assert all(len(part.data) == 255 and part.cla == 0x94 and part.le is None for part in heard[:-1])
    assert heard[-1].cla == 0x84
    assert heard[-1].le == (None if le is None else min(le, 256))
    assert not any(part.extended for part in heard)


def test_extended_length_passes_in_one_piece() -> None:
    card = Script("9000")
    send(link(extended=True), CommandApdu(0x84, 0xE2, 0x80, 0, bytes(300)), card)
    assert card.heard == ["84e28000" + "00012c" + "00" * 300]


def test_a_chain_ends_with_the_first_refusal() -> None:
    card = Script("9000", "6a84")
    answer = send(link(extended=False), CommandApdu(0x84, 0xE2, 0x80, 0, bytes(700)), card)
    assert answer.sw == 0x6A84
    assert len(card.heard) == 2


class Interrupting:
    """Fails at the command of this number, counted from 0."""

    def __init__(self, at: int, then: Sequence[ResponseApdu]) -> None:
        self._at, self._then, self.count = at, list(then), 0

    def __call__(self, _: CommandApdu) -> ResponseApdu:
        self.count += 1
        if self.count - 1 == self._at:
            raise OSError("the cable")
        return self._then.pop(0)


def test_an_error_of_the_reader_passes_through_a_dialogue() -> None:
    with pytest.raises(OSError, match="the cable"):
        send(
            link(extended=False), CommandApdu(0x84, 0xE2, 0x80, 0, bytes(700)), Interrupting(1, [ResponseApdu(0x9000)])
        )


def test_a_dialogue_may_answer_an_error_with_another_command() -> None:
    def patient() -> Dialogue[int]:
        try:
            response = yield CommandApdu(0, 1, 0, 0)
        except OSError:
            response = yield CommandApdu(0, 2, 0, 0)
        return response.sw

    assert run(patient(), Interrupting(0, [ResponseApdu(0x9001)])) == 0x9001


def test_an_error_below_closes_the_secure_channel() -> None:
    manager, _ = stock()
    secure = Reader(manager).open(INITIAL_VERSION)
    with pytest.raises(OSError, match="the cable"):
        send(secure, CommandApdu(0x80, 0xF2, 0x80, 2, b"O\0", 256), Interrupting(0, []))
    with pytest.raises(ChannelStateError):
        secure.channel.wrap(CommandApdu(0x80, 0xF2, 0x80, 2))


def test_the_wire_hands_over_one_command() -> None:
    dialogue = Wire().exchange(CommandApdu(0, 1, 2, 3))
    assert next(dialogue) == CommandApdu(0, 1, 2, 3)
