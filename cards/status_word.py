"""The status words of the card's application: one table, from which the card answers and the host explains."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class StatusWord(IntEnum):
    """What the two last bytes of a response say. 6xxx as in ISO/IEC 7816-4 clause 5.6; 91xx about EMMs, 92xx ECMs."""

    OK = 0x9000
    MEMORY_FAILURE = 0x6581
    WRONG_LENGTH = 0x6700
    PIN_BLOCKED = 0x6983
    CONDITIONS_NOT_MET = 0x6985
    WRONG_DATA = 0x6A80
    FUNCTION_NOT_SUPPORTED = 0x6A81
    APPLICATION_NOT_FOUND = 0x6A82
    WRONG_P1_P2 = 0x6A86
    DATA_NOT_FOUND = 0x6A88
    WRONG_INSTRUCTION = 0x6D00
    WRONG_CLASS = 0x6E00
    PART_HELD = 0x9101
    ALREADY_HELD = 0x9102
    OLDER_VERSION = 0x9103
    NOT_FOR_THIS_CARD = 0x9104
    NOT_AUTHENTIC = 0x9105
    NOT_UNDERSTOOD = 0x9106
    UNKNOWN_KEY_VERSION = 0x9107
    FOR_OTHERS = 0x9109
    NO_RIGHT = 0x9201
    RIGHT_NOT_BEGUN = 0x9202
    RIGHT_ENDED = 0x9203
    NO_KEY_OF_EPOCH = 0x9204
    SUSPENDED = 0x9205
    NO_EMM_YET = 0x9206
    BLACKED_OUT = 0x9207


@dataclass(frozen=True, slots=True)
class Explanation:
    """A status word in words: what it means, and what to do about it."""

    meaning: str
    advice: str


_WAIT: Final = "leave the card in a receiver tuned to this network for half an hour, or send: card refresh"
_REPLACE: Final = "repeat with the card put in again; if it stays so, replace the card"
_PROGRAM: Final = "this is an error of the program that sent the command, not of the card; report it"

EXPLANATIONS: Final[dict[StatusWord, Explanation]] = {
    StatusWord.OK: Explanation("done", ""),
    StatusWord.MEMORY_FAILURE: Explanation(
        "the card could not write its memory; it holds what it held before", _REPLACE
    ),
    StatusWord.WRONG_LENGTH: Explanation("the command is not an APDU, or its lengths do not fit", _PROGRAM),
    StatusWord.PIN_BLOCKED: Explanation(
        "the PIN is blocked: it was given wrongly too often", "the operator sets it back to 0000 with: card pin-reset"
    ),
    StatusWord.CONDITIONS_NOT_MET: Explanation(
        "the application is not selected, or no rest of an answer waits", "send SELECT first; a reset deselects"
    ),
    StatusWord.WRONG_DATA: Explanation("the data is not a whole CA section", _PROGRAM),
    StatusWord.FUNCTION_NOT_SUPPORTED: Explanation(
        "this card does not know the format of the section", "replace the card by one of the present specification"
    ),
    StatusWord.APPLICATION_NOT_FOUND: Explanation(
        "the card has no application of this name", "compare ca.card_aid of the settings with the card"
    ),
    StatusWord.WRONG_P1_P2: Explanation("P1 or P2 is not one that this command knows", _PROGRAM),
    StatusWord.DATA_NOT_FOUND: Explanation("the card has no such data object", _PROGRAM),
    StatusWord.WRONG_INSTRUCTION: Explanation("the card does not know this instruction", _PROGRAM),
    StatusWord.WRONG_CLASS: Explanation("the card does not know this class of command", _PROGRAM),
    StatusWord.PART_HELD: Explanation("the part is held; the card waits for the other parts of this version", ""),
    StatusWord.ALREADY_HELD: Explanation("the card holds this already", ""),
    StatusWord.OLDER_VERSION: Explanation("the card has heard of a newer version than this", ""),
    StatusWord.NOT_FOR_THIS_CARD: Explanation("the EMM is addressed to another card or group", ""),
    StatusWord.NOT_AUTHENTIC: Explanation(
        "not sealed under a key of this card, or changed on the way",
        "check that the card belongs to this headend (card number, master key) and that the network is the right one",
    ),
    StatusWord.NOT_UNDERSTOOD: Explanation(
        "authentic, but with content that this card does not understand",
        "replace the card by one of the present specification",
    ),
    StatusWord.UNKNOWN_KEY_VERSION: Explanation(
        "sealed under a key version that this card does not have", "personalise the card anew, or replace it"
    ),
    StatusWord.FOR_OTHERS: Explanation("the message is for other cards that can open it; nothing was kept", ""),
    StatusWord.NO_RIGHT: Explanation(
        "the card has no right to this service", f"look at: cad explain CARD CHANNEL; if it is ordered, {_WAIT}"
    ),
    StatusWord.RIGHT_NOT_BEGUN: Explanation(
        "the card's right to this service has not begun", "wait until the start that cad card read shows"
    ),
    StatusWord.RIGHT_ENDED: Explanation(
        "the card's right to this service has ended", f"if the subscription goes on, {_WAIT}"
    ),
    StatusWord.NO_KEY_OF_EPOCH: Explanation(
        "the card has the right, but not the key of this epoch: it missed a renewal", _WAIT
    ),
    StatusWord.SUSPENDED: Explanation("the card is suspended", "the operator reopens it with: card reopen"),
    StatusWord.NO_EMM_YET: Explanation("the card has not taken any EMM yet", f"assign it to a subscriber and {_WAIT}"),
    StatusWord.BLACKED_OUT: Explanation(
        "the card has the right, but this programme is blacked out in the card's region",
        "cad explain CARD CHANNEL says until when; if the card stands elsewhere: card region",
    ),
}


def explain(sw: int) -> Explanation:
    """What `sw` means and what to do about it; also for words of cards that are not ours."""
    if is_pin_wrong(sw):
        return Explanation(
            f"the PIN is wrong, or none was given; {sw & 0x0F} tries are left",
            "ask the subscriber; who has forgotten it has the operator reset it: card pin-reset",
        )
    try:
        return EXPLANATIONS[StatusWord(sw)]
    except ValueError:
        return Explanation("a status word that this application does not use", _REPLACE)


def is_pin_wrong(sw: int) -> bool:
    """Whether `sw` is 63Cx: so many tries of the PIN are left (ISO/IEC 7816-4 clause 5.6)."""
    return sw >> 4 == 0x63C


def is_more_data(sw: int) -> bool:
    """Whether `sw` says that more of the answer waits (61xx); its low byte says how much, 0 for 256 or more."""
    return sw >> 8 == 0x61


def is_wrong_le(sw: int) -> bool:
    """Whether `sw` asks for the command again with the length in its low byte (6Cxx), 0 for 256."""
    return sw >> 8 == 0x6C
