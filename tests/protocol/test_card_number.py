"""Card numbers: the Luhn digit, and refusal of every mistyped number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.card_number import ADDRESS_MAX, parse, spell
from protocol.errors import CardNumberError, EncodeError

ADDRESSES = st.integers(0, ADDRESS_MAX)


def test_the_published_luhn_example_stands_at_the_end_of_a_card_number() -> None:
    # 7992739871 with check digit 3 is the example in Luhn's articles; leading zeros change nothing.
    assert spell(7992739871) == "079927398713"


@pytest.mark.parametrize("text", ["079927398713", "0799 2739 8713", " 0799-2739-8713 ", "079-927-398-713"])
def test_spaces_and_hyphens_are_allowed(text: str) -> None:
    assert parse(text) == 7992739871


@given(ADDRESSES)
def test_spell_and_parse_are_inverse(address: int) -> None:
    assert parse(spell(address)) == address


@given(ADDRESSES, st.integers(0, 11), st.integers(1, 9))
def test_every_single_wrong_digit_is_found(address: int, position: int, shift: int) -> None:
    digits = list(spell(address))
    digits[position] = str((int(digits[position]) + shift) % 10)
    with pytest.raises(CardNumberError, match="check digit"):
        parse("".join(digits))


@given(ADDRESSES, st.integers(0, 10))
def test_two_neighbours_that_change_places_are_found_except_0_and_9(address: int, position: int) -> None:
    digits = list(spell(address))
    pair = {digits[position], digits[position + 1]}
    digits[position], digits[position + 1] = digits[position + 1], digits[position]
    if len(pair) == 1 or pair == {"0", "9"}:
        assert parse("".join(digits)) >= 0
    else:
        with pytest.raises(CardNumberError, match="check digit"):
            parse("".join(digits))


@pytest.mark.parametrize("text", ["", "07992739871", "0799273987130", "07992739871x", "٠٧٩٩٢٧٣٩٨٧١٣", "0799²7398713"])
def test_anything_else_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(CardNumberError, match="digits"):
        parse(text)


@given(st.text())
def test_any_text_gives_an_address_or_a_card_number_error(text: str) -> None:
    try:
        address = parse(text)
    except CardNumberError:
        return
    assert spell(address) == "".join(character for character in text if character not in " -")


@pytest.mark.parametrize("address", [-1, ADDRESS_MAX + 1])
def test_an_address_out_of_range_is_not_spelled(address: int) -> None:
    with pytest.raises(EncodeError, match="outside"):
        spell(address)
