"""Status words of card management: GlobalPlatform Card Specification 2.3 clause 11.1.3, ISO/IEC 7816-4 clause 5.6."""

from enum import IntEnum
from typing import Final, NoReturn

from cards.apdu import ResponseApdu
from cards.errors import CardRefusedError
from cards.status_word import Explanation


class GpStatusWord(IntEnum):
    """What the card manager answers."""

    OK = 0x9000
    CARD_LOCKED = 0x6283
    CARD_TERMINATED = 0x6285
    MEMORY_FAILURE = 0x6581
    WRONG_LENGTH = 0x6700
    CHANNEL_NOT_SUPPORTED = 0x6881
    CHAIN_BROKEN = 0x6883
    NOT_AUTHENTICATED = 0x6982
    BLOCKED = 0x6983
    CONDITIONS_NOT_SATISFIED = 0x6985
    WRONG_SECURE_MESSAGE = 0x6988
    WRONG_DATA = 0x6A80
    NOT_FOUND = 0x6A82
    NO_MEMORY = 0x6A84
    WRONG_P1_P2 = 0x6A86
    REFERENCE_NOT_FOUND = 0x6A88
    WRONG_INSTRUCTION = 0x6D00
    WRONG_CLASS = 0x6E00


_REPEAT: Final = "put the card in again and repeat; if it stays so, put it aside"
_PROGRAM: Final = "this is an error of the program that sent the command, not of the card; report it"

EXPLANATIONS: Final[dict[GpStatusWord, Explanation]] = {
    GpStatusWord.OK: Explanation("done", ""),
    GpStatusWord.CARD_LOCKED: Explanation("the card is locked", "unlock it with its card manager keys, or replace it"),
    GpStatusWord.CARD_TERMINATED: Explanation("the card is terminated, for good", "take another card"),
    GpStatusWord.MEMORY_FAILURE: Explanation("the card could not write its memory; nothing changed", _REPEAT),
    GpStatusWord.WRONG_LENGTH: Explanation("the command has a length that does not fit", _PROGRAM),
    GpStatusWord.CHANNEL_NOT_SUPPORTED: Explanation("the card has one logical channel only", _PROGRAM),
    GpStatusWord.CHAIN_BROKEN: Explanation("the last command of a chain is missing", _REPEAT),
    GpStatusWord.NOT_AUTHENTICATED: Explanation("the command needs an open secure channel", _REPEAT),
    GpStatusWord.BLOCKED: Explanation("the key set is blocked after too many wrong tries", "take another card"),
    GpStatusWord.CONDITIONS_NOT_SATISFIED: Explanation("the card's state does not allow this now", _REPEAT),
    GpStatusWord.WRONG_SECURE_MESSAGE: Explanation("the secured command is not authentic", _REPEAT),
    GpStatusWord.WRONG_DATA: Explanation("the data of the command is wrong", _PROGRAM),
    GpStatusWord.NOT_FOUND: Explanation("the card has no application of this name", "put in a card of this system"),
    GpStatusWord.NO_MEMORY: Explanation("the card has no room for this", "take another card"),
    GpStatusWord.WRONG_P1_P2: Explanation("P1 or P2 is not one that the command knows", _PROGRAM),
    GpStatusWord.REFERENCE_NOT_FOUND: Explanation("the card has no such key set or data object", _PROGRAM),
    GpStatusWord.WRONG_INSTRUCTION: Explanation("the card does not know this instruction", _PROGRAM),
    GpStatusWord.WRONG_CLASS: Explanation("the card does not know this class of command", _PROGRAM),
}


def explain(sw: int) -> Explanation:
    """What `sw` means in card management, and what to do."""
    if is_failed_try(sw):
        left = tries_remaining(sw)
        said = "" if left is None else f"; {left} tries are left"
        return Explanation(f"the proof of the key was wrong{said}", "stop, and find out which keys this delivery has")
    try:
        return EXPLANATIONS[GpStatusWord(sw)]
    except ValueError:
        return Explanation("a status word that card management does not use", _REPEAT)


def is_failed_try(sw: int) -> bool:
    """Whether `sw` says that a verification failed: 6300 (GlobalPlatform) or 63Cx (ISO/IEC 7816-4 clause 5.6)."""
    return sw == 0x6300 or sw & 0xFFF0 == 0x63C0


def tries_remaining(sw: int) -> int | None:
    """The counter in 63Cx; None where the word has none."""
    return sw & 0x000F if sw & 0xFFF0 == 0x63C0 else None


def refuse(command: str, sw: int) -> NoReturn:
    """Raise CardRefusedError for a command that the card answered with `sw`."""
    said = explain(sw)
    raise CardRefusedError(command, sw, said.meaning, said.advice)


def demand_ok(command: str, response: ResponseApdu) -> bytes:
    """Return the data of a response whose status word is 9000; raise CardRefusedError on any other."""
    if response.sw != GpStatusWord.OK:
        refuse(command, response.sw)
    return response.data
