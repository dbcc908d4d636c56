"""Receiver numbers as printed on a receiver: seven bytes of serial and a check byte, in sixteen hexadecimal digits."""

import re
from typing import Final

from protocol.errors import EncodeError, ReceiverNumberError

SERIAL_SIZE: Final = 7
SIZE: Final = SERIAL_SIZE + 1
DIGITS: Final = 2 * SIZE
SERIAL_MAX: Final = 256**SERIAL_SIZE - 1
_POLYNOMIAL: Final = 0x07
_DIGITS: Final = re.compile(rf"[0-9A-Fa-f]{{{DIGITS}}}\Z")


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = (byte << 1 ^ _POLYNOMIAL if byte & 0x80 else byte << 1) & 0xFF
    return byte


_TABLE: Final = tuple([_remainder(byte) for byte in range(256)])


def parse(text: str) -> int:
    """Read a printed receiver number and return all of it as a number, check byte included.

    Spaces, hyphens and colons are ignored. Raises ReceiverNumberError, which says what to do, on anything but sixteen
    hexadecimal digits that end in the right check byte, and on a serial of 0.
    """
    digits = "".join(character for character in text if character not in " -:")
    if not _DIGITS.match(digits):
        raise ReceiverNumberError(
            f"a receiver number has {DIGITS} hexadecimal digits, 0 to 9 and A to F; read the receiver's label again"
        )
    number = int(digits, 16)
    if not is_number(number):
        raise ReceiverNumberError("the check digits are wrong: a digit is mistyped or two have changed places")
    return number


def spell(number: int) -> str:
    """Return the sixteen digits, in capitals. Raises EncodeError for what is no receiver number."""
    if not is_number(number):
        raise EncodeError("this is not the number of a receiver: its check byte does not fit")
    return f"{number:0{DIGITS}X}"


def is_number(number: int) -> bool:
    """Whether serial and check byte fit together; serial 0 is nobody's."""
    serial, check = divmod(number, 256)
    return 1 <= serial <= SERIAL_MAX and check == check_byte(serial)


def of_serial(serial: int) -> int:
    """Return the receiver number of a maker's serial, 1..2^56 - 1. Raises EncodeError."""
    if not 1 <= serial <= SERIAL_MAX:
        raise EncodeError(f"a receiver's serial is a number of {SERIAL_SIZE} bytes, from 1 on")
    return serial << 8 | check_byte(serial)


def check_byte(serial: int) -> int:
    """Return the CRC of eight bits of the seven bytes of the serial: polynomial 0x07, initial value 0."""
    crc = 0
    for byte in serial.to_bytes(SERIAL_SIZE, "big"):
        crc = _TABLE[crc ^ byte]
    return crc
