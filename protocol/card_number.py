"""Card numbers as printed on a card: 11 digits of address and a Luhn check digit (D6, ISO/IEC 7812-1 annex B)."""

from typing import Final

from protocol.errors import CardNumberError, EncodeError

ADDRESS_DIGITS: Final = 11
NUMBER_DIGITS: Final = ADDRESS_DIGITS + 1
ADDRESS_MAX: Final = 10**ADDRESS_DIGITS - 1


def parse(text: str) -> int:
    """Read a printed card number and return its address, 0..99_999_999_999.

    Spaces and hyphens are ignored. Raises CardNumberError, which says what to do, on anything but twelve ASCII digits
    with the right check digit.
    """
    digits = "".join(character for character in text if character not in " -")
    if not (digits.isascii() and digits.isdigit()):
        raise CardNumberError("a card number has digits only; spaces and hyphens may stand between them")
    if len(digits) != NUMBER_DIGITS:
        raise CardNumberError(f"a card number has {NUMBER_DIGITS} digits, here are {len(digits)}; read the card again")
    address = int(digits[:ADDRESS_DIGITS])
    if int(digits[-1]) != check_digit(address):
        raise CardNumberError("the check digit is wrong: a digit is mistyped or two have changed places")
    return address


def spell(address: int) -> str:
    """Return the twelve digits printed on the card with this address. Raises EncodeError outside 0..ADDRESS_MAX."""
    if not 0 <= address <= ADDRESS_MAX:
        raise EncodeError(f"card address {address} is outside 0..{ADDRESS_MAX}")
    return f"{address:0{ADDRESS_DIGITS}d}{check_digit(address)}"


def check_digit(address: int) -> int:
    """Return the Luhn digit that follows the eleven digits of the address."""
    total = 0
    for position in range(ADDRESS_DIGITS):
        address, digit = divmod(address, 10)
        if position % 2 == 0:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return -total % 10
