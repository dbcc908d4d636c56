"""Readers with a keypad of their own: PC/SC part 10, version 2.02.09. Pure; `cards.pcsc` carries it to the reader.

The PIN is typed on the reader, which puts it into the command itself: this machine never sees it.
"""

from enum import IntEnum
from typing import Final

from construct import Bytes, Const, Int8ul, Int16ul, Int32ul, Struct, Terminated, this

from cards.apdu import CommandApdu
from cards.errors import CardReplyError, PinPadError

GET_FEATURE_REQUEST: Final = 0x42000000 + 3400
"""CM_IOCTL_GET_FEATURE_REQUEST as pcsc-lite counts control codes (part 10 clause 2.2; pcsc-lite `reader.h`)."""

ENTRY_S: Final = 30
"""How long the reader waits for the first key, and for each further one."""

# Part 10 clause 2.5.2, bmFormatString: the PIN's place is counted in bytes, it begins right after the header, is
# justified to the left and spelt in ASCII.
_FORMAT_ASCII: Final = 0x82
# bEntryValidationCondition: the entry ends with the key for "OK".
_VALIDATION_KEY: Final = 0x02
# bConfirmPIN: the old PIN is asked for, and the new one twice.
_OLD_AND_CONFIRMED: Final = 0x03
_ENGLISH: Final = 0x0409
_NO_DIGIT: Final = b"\xff"
"""Stands where the reader puts the PIN: a reader that does not would try no PIN that there is."""


class Feature(IntEnum):
    """What a reader may offer (part 10 clause 2.3)."""

    VERIFY_PIN_START = 0x01
    VERIFY_PIN_FINISH = 0x02
    MODIFY_PIN_START = 0x03
    MODIFY_PIN_FINISH = 0x04
    GET_KEY_PRESSED = 0x05
    VERIFY_PIN_DIRECT = 0x06
    MODIFY_PIN_DIRECT = 0x07
    MCT_READER_DIRECT = 0x08
    MCT_UNIVERSAL = 0x09
    IFD_PIN_PROPERTIES = 0x0A
    ABORT = 0x0B
    SET_SPE_MESSAGE = 0x0C
    VERIFY_PIN_DIRECT_APP_ID = 0x0D
    MODIFY_PIN_DIRECT_APP_ID = 0x0E
    WRITE_DISPLAY = 0x0F
    GET_KEY = 0x10
    IFD_DISPLAY_PROPERTIES = 0x11
    GET_TLV_PROPERTIES = 0x12
    CCID_ESC_COMMAND = 0x13


# Part 10 clause 2.5.2, PIN_VERIFY_STRUCTURE; numbers of several bytes as the machine has them: little-endian.
VERIFY: Final = Struct(
    "timeout_s" / Int8ul,
    "timeout_after_key_s" / Int8ul,
    "format" / Const(_FORMAT_ASCII, Int8ul),
    "block_size" / Int8ul,
    "length_format" / Const(0, Int8ul),  # the command holds no field for the PIN's length
    "digits_max" / Int8ul,  # wPINMaxExtraDigit: minimum in its upper byte, maximum in its lower
    "digits_min" / Int8ul,
    "entry_validation" / Const(_VALIDATION_KEY, Int8ul),
    "messages" / Const(1, Int8ul),
    "language" / Const(_ENGLISH, Int16ul),
    "message" / Const(0, Int8ul),
    "teo_prologue" / Const(bytes(3), Bytes(3)),  # of T=1; the reader makes its own
    "size" / Int32ul,
    "command" / Bytes(this.size),
    Terminated,
)

# Part 10 clause 2.5.3, PIN_MODIFY_STRUCTURE.
MODIFY: Final = Struct(
    "timeout_s" / Int8ul,
    "timeout_after_key_s" / Int8ul,
    "format" / Const(_FORMAT_ASCII, Int8ul),
    "block_size" / Int8ul,
    "length_format" / Const(0, Int8ul),
    "offset_old" / Int8ul,
    "offset_new" / Int8ul,
    "digits_max" / Int8ul,
    "digits_min" / Int8ul,
    "confirm" / Const(_OLD_AND_CONFIRMED, Int8ul),
    "entry_validation" / Const(_VALIDATION_KEY, Int8ul),
    "messages" / Const(3, Int8ul),
    "language" / Const(_ENGLISH, Int16ul),
    "message_old" / Const(0, Int8ul),
    "message_new" / Const(1, Int8ul),
    "message_again" / Const(2, Int8ul),
    "teo_prologue" / Const(bytes(3), Bytes(3)),
    "size" / Int32ul,
    "command" / Bytes(this.size),
    Terminated,
)

_REFUSALS: Final = {
    0x6400: "nobody typed the PIN in time",
    0x6401: "the cancel key was pressed",
    0x6402: "the new PIN was typed differently the second time",
    0x6403: "the PIN typed has too few or too many digits",
}
"""What the reader itself answers in place of the card (part 10 clause 2.5.2); the card heard nothing."""
_KNOWN: Final = frozenset(int(feature) for feature in Feature)


def parse_features(answer: bytes) -> dict[Feature, int]:
    """The reader's answer to GET_FEATURE_REQUEST (clause 2.2): which features, each with its control code.

    Features that are not known here are left out. Raises CardReplyError when it is no list of such.
    """
    found: dict[Feature, int] = {}
    rest = answer
    while rest:
        # PCSC_TLV_STRUCTURE: tag, length 4, control code big-endian.
        if len(rest) < 6 or rest[1] != 4:
            raise CardReplyError("the reader's list of features is not one of PC/SC part 10")
        if rest[0] in _KNOWN:
            found[Feature(rest[0])] = int.from_bytes(rest[2:6], "big")
        rest = rest[6:]
    return found


def verify_structure(header: bytes, digits: int) -> bytes:
    """The PIN_VERIFY_STRUCTURE for a command (`header`: CLA INS P1 P2) whose data is a PIN of so many ASCII digits."""
    command = _command(header, digits)
    return bytes(VERIFY.build(_common(command, digits)))


def modify_structure(header: bytes, digits: int) -> bytes:
    """The PIN_MODIFY_STRUCTURE for a command whose data is the old PIN, then the new one."""
    command = _command(header, 2 * digits)
    return bytes(MODIFY.build({**_common(command, digits), "offset_old": 0, "offset_new": digits}))


def card_word(answer: bytes) -> int:
    """The card's status word out of the reader's answer. Raises PinPadError when the PIN did not get to the card."""
    if len(answer) != 2:
        raise CardReplyError("the reader's answer to the entry of the PIN is not a status word")
    sw = int.from_bytes(answer, "big")
    if sw in _REFUSALS:
        raise PinPadError(f"the PIN was not given to the card: {_REFUSALS[sw]}")
    return sw


def _command(header: bytes, size: int) -> bytes:
    cla, ins, p1, p2 = header
    return CommandApdu(cla, ins, p1, p2, _NO_DIGIT * size).encode()


def _common(command: bytes, digits: int) -> dict[str, int | bytes]:
    return {
        "timeout_s": ENTRY_S,
        "timeout_after_key_s": ENTRY_S,
        "block_size": digits,
        "digits_max": digits,
        "digits_min": digits,
        "size": len(command),
        "command": command,
    }
