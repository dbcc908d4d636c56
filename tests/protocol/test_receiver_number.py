"""Receiver numbers: the check byte, and refusal of every mistyped number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import receiver_number
from protocol.errors import EncodeError, ReceiverNumberError
from protocol.receiver_number import SERIAL_MAX, of_serial, parse, spell

NUMBERS = st.integers(1, SERIAL_MAX).map(of_serial)


def test_the_check_byte_is_the_remainder_of_the_long_division() -> None:
    # CRC-8 with x^8 + x^2 + x + 1 (the HEC of ITU-T I.432.1, without its last addition), by long division.
    def long_division(message: bytes) -> int:
        value = int.from_bytes(message, "big") << 8
        for bit in range(8 * len(message) + 7, 7, -1):
            if value >> bit & 1:
                value ^= 0x107 << bit - 8
        return value

    for serial in (1, 0x31323334353637, SERIAL_MAX):
        assert receiver_number.check_byte(serial) == long_division(serial.to_bytes(7, "big"))


@pytest.mark.parametrize(
    "text",
    ["01000000000001D8", "01000000000001d8", "0100 0000 0000 01D8", "01-00-00-00-00-00-01-D8", "01:00000000:0001d8"],
)
def test_spaces_hyphens_colons_and_small_letters_are_allowed(text: str) -> None:
    assert spell(parse(text)) == "01000000000001D8"


@given(NUMBERS)
def test_spell_and_parse_are_inverse(number: int) -> None:
    assert parse(spell(number)) == number


@given(NUMBERS, st.integers(0, 15), st.integers(1, 15))
def test_every_single_wrong_digit_is_found(number: int, position: int, shift: int) -> None:
    digits = list(spell(number))
    digits[position] = f"{int(digits[position], 16) ^ shift:X}"
    with pytest.raises(ReceiverNumberError, match="check digits"):
        parse("".join(digits))


@given(NUMBERS, st.integers(0, 14))
def test_neighbours_that_change_places_are_found(number: int, position: int) -> None:
    digits = list(spell(number))
    if digits[position] == digits[position + 1]:
        return
    digits[position], digits[position + 1] = digits[position + 1], digits[position]
    with pytest.raises(ReceiverNumberError, match="check digits"):
        parse("".join(digits))


@pytest.mark.parametrize(
    "text", ["", "01", "01000000000001D8A", "01000000000001G8", "٠" * 16, "0" * 15 + "\n", "+" * 16]
)
def test_what_is_no_number_is_refused_and_says_what_one_is(text: str) -> None:
    with pytest.raises(ReceiverNumberError, match="16 hexadecimal digits"):
        parse(text)


def test_nobody_has_the_serial_0() -> None:
    with pytest.raises(ReceiverNumberError, match="check digits"):
        parse("0" * 16)


@pytest.mark.parametrize("serial", [0, -1, SERIAL_MAX + 1])
def test_serials_without_a_place_are_refused(serial: int) -> None:
    with pytest.raises(EncodeError):
        of_serial(serial)


@pytest.mark.parametrize("number", [0, -1, 1, 1 << 64])
def test_numbers_that_are_none_are_not_spelled(number: int) -> None:
    with pytest.raises(EncodeError):
        spell(number)
