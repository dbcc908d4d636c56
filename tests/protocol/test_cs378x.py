"""CS378X, against bytes made by hand; tsdecrypt itself judges it in tests/integration/tv."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.control_word import with_checksums
from protocol.cs378x import DATA_MAX, CamdCodec, CamdMessage, Command
from protocol.errors import DecodeError, EncodeError
from tests.support.monitor_client import read, spell

USER, PASSWORD = "monitor", "a password of the tests"

messages = st.builds(
    CamdMessage,
    command=st.integers(0, 255),
    service_id=st.integers(0, 0xFFFF),
    ca_system_id=st.integers(0, 0xFFFF),
    request_id=st.integers(0, 0xFFFF),
    provider_id=st.integers(0, 0xFFFFFFFF),
    data=st.binary(max_size=DATA_MAX),
)


@given(sent=st.lists(messages, max_size=4), cut=st.integers(1, 50))
def test_what_is_encoded_is_read_again_however_it_is_cut(sent: list[CamdMessage], cut: int) -> None:
    sender, receiver = CamdCodec(USER, PASSWORD), CamdCodec(USER, PASSWORD)
    stream = b"".join(map(sender.encode, sent))
    heard = [one for at in range(0, len(stream), cut) for one in receiver.feed(stream[at : at + cut])]
    assert heard == sent
    assert receiver.pending == 0


@given(stream=st.binary(max_size=400), known=st.booleans())
def test_any_bytes_are_read_or_refused(stream: bytes, known: bool) -> None:
    codec = CamdCodec(USER, PASSWORD)
    token = spell(USER, PASSWORD, 0, b"")[:4] if known else b""
    with contextlib.suppress(DecodeError):
        codec.feed(token + stream)


@pytest.mark.parametrize("size", [0, 1, 12, 13, 100, 255])
def test_a_message_made_by_hand_is_read(size: int) -> None:
    data = bytes(range(size))
    made = spell(USER, PASSWORD, 0x06, data, service_id=5, ca=0x4ADC, request=9)
    assert CamdCodec(USER, PASSWORD).feed(made) == [CamdMessage(Command.EMM, 5, 0x4ADC, 9, 0, data)]


def test_an_answer_is_what_receivers_read() -> None:
    request = CamdMessage(Command.ECM, 101, 0x4ADC, 77, data=b"an ECM")
    answer = CamdCodec(USER, PASSWORD).encode(request.answer(Command.CONTROL_WORDS, bytes(range(16))))
    # tsdecrypt takes an answer of less than 48 bytes behind the token for none.
    assert len(answer) == 4 + 48
    assert read(USER, PASSWORD, answer) == (0x01, 101, 0x4ADC, 77, bytes(range(16)))


@pytest.mark.parametrize(
    ("user", "password", "what"),
    [("somebody", PASSWORD, "another user"), (USER, "wrong", "password is another one")],
)
def test_who_is_not_let_in_is_told_apart(user: str, password: str, what: str) -> None:
    made = spell(user, password, 0x00, b"an ECM of some length, longer than a block")
    with pytest.raises(DecodeError, match=what):
        CamdCodec(USER, PASSWORD).feed(made)


def test_a_stranger_is_refused_at_the_first_byte() -> None:
    with pytest.raises(DecodeError, match="not this protocol"):
        CamdCodec(USER, PASSWORD).feed(b"G" if spell(USER, PASSWORD, 0, b"")[:1] != b"G" else b"H")


def test_damage_is_found_by_the_crc() -> None:
    made = bytearray(spell(USER, PASSWORD, 0x06, bytes(60)))
    made[4 + 48] ^= 1
    with pytest.raises(DecodeError, match="CRC"):
        CamdCodec(USER, PASSWORD).feed(bytes(made))


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(EncodeError, match="at most 255 bytes, not 256"):
        CamdCodec(USER, PASSWORD).encode(CamdMessage(Command.EMM, 0, 0, 0, data=bytes(256)))


def test_neither_data_nor_password_shows(capsys: pytest.CaptureFixture[str]) -> None:
    word = b"\xa1evenCW\x01"
    assert "evenCW" not in repr(CamdMessage(Command.CONTROL_WORDS, 1, 2, 3, data=word))
    assert PASSWORD not in repr(CamdCodec(USER, PASSWORD))


def test_checksums_are_the_sums_of_three_bytes() -> None:
    # 0x12+0x34+0x56 = 0x9C; 0xF0+0xF1+0xF2 = 0x2D3
    assert with_checksums(bytes.fromhex("12345600f0f1f200")) == bytes.fromhex("1234569cf0f1f2d3")
    with pytest.raises(ValueError, match="8 bytes, not 16"):
        with_checksums(bytes(16))
