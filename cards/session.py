"""The host's side of the card application, over anything that carries APDUs (PC/SC, a software card, a test)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cards import data_objects
from cards.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.application import (
    CLA_APPLICATION,
    CLA_STANDARD,
    DEFAULT_AID,
    FORGET_PIN,
    LOOK,
    LOOK_AND_MARK,
    NUMBER_SIZE,
    PIN_REFERENCE,
    SELECT_BY_NAME,
    SELECT_WITH_ANSWER,
    Instruction,
)
from cards.authentication import PROOF_SIZE
from cards.data_objects import AccessData, DataObject, HeldLetter, HeldRight, StateData, VersionsData
from cards.errors import ApduError, CardRefusedError, CardReplyError, PairedError, PinError, WrongCardError
from cards.memory.pin import PIN_SIZE, is_pin
from cards.status_word import StatusWord, explain, is_more_data, is_pin_wrong, is_wrong_le
from emm.ecm import WORD_SIZES, WORDS_MAX, parse_ecm
from emm.errors import AuthenticationError, DecodeError
from emm.message import SECTION_MAX, TAG_SIZE
from emm.notices.content import Notice, parse_content
from emm.pairing import SEALED, ReceiverIdentity, open_words
from emm.secret import Secret
from protocol import card_number, receiver_number

GIVE_PIN: Final = 0x00

PinPad = Callable[[bool, bytes, int], int | None]
"""A keypad: whether to change, CLA INS P1 P2, digits of a PIN → the card's status word; None: there is no keypad."""
ANSWER_MAX: Final = 65_536
"""More than any answer of the application; a card that goes on answering is broken."""

TAKEN: Final = frozenset(
    {
        StatusWord.OK,
        StatusWord.PART_HELD,
        StatusWord.ALREADY_HELD,
        StatusWord.OLDER_VERSION,
        StatusWord.FOR_OTHERS,
    }
)
"""The answers to an EMM with which nothing is wrong."""


@dataclass(frozen=True, slots=True)
class CardInfo:
    """What a card tells about itself. `last_ecm_time`: UTC seconds, None before the first channel was opened.

    `receiver`: number of the receiver that it is paired with, None for any. `region`: number of the region that it
    stands in, 0 for none.
    """

    address: int
    versions: VersionsData
    state: StateData
    rights: tuple[HeldRight, ...]
    last_ecm_time: int | None
    receiver: int | None = None
    access: AccessData = field(default_factory=AccessData)
    region: int = 0

    @property
    def number(self) -> str:
        """The twelve digits printed on the card."""
        return card_number.spell(self.address)


@dataclass(frozen=True, slots=True)
class ControlWords:
    """What an ECM opened: the first word is of the parity that the ECM's table_id says, the second of the other."""

    words: tuple[Secret, ...]


class CardSession:
    """The application on one card, selected when the session is made. One thread at a time.

    `transmit` sends a command APDU and returns the response APDU; what it raises goes through. `receiver`: who opens
    the control words of a card that is paired with it; without, only cards that are not paired can be used.
    Raises WrongCardError when the card has no such application, CardRefusedError when the card refuses a command,
    CardReplyError when it answers what its specification does not allow.
    """

    def __init__(
        self, transmit: Callable[[bytes], bytes], aid: bytes = DEFAULT_AID, receiver: ReceiverIdentity | None = None
    ) -> None:
        self._transmit = transmit
        self._receiver = receiver
        self._select(aid)

    def read_info(self) -> CardInfo:
        """Read everything that the card tells about itself."""
        return CardInfo(
            address=data_objects.parse_number(self.read(DataObject.NUMBER)),
            versions=data_objects.parse_versions(self.read(DataObject.VERSIONS)),
            state=data_objects.parse_state(self.read(DataObject.STATE)),
            rights=data_objects.parse_rights(self.read(DataObject.RIGHTS)),
            last_ecm_time=data_objects.parse_time(self.read(DataObject.TIME)),
            receiver=data_objects.parse_pairing(self.read(DataObject.PAIRING)),
            access=data_objects.parse_access(self.read(DataObject.ACCESS)),
            region=data_objects.parse_region(self.read(DataObject.REGION)),
        )

    def read(self, which: DataObject) -> bytes:
        """The value of one data object."""
        p1, p2 = divmod(int(which), 256)
        command = CommandApdu(CLA_APPLICATION, Instruction.GET_DATA, p1, p2, le=SHORT_LE_MAX)
        return self._expect_ok(f"GET DATA {which.name}", command).data

    def mailbox(self) -> tuple[HeldLetter, ...]:
        """The letters in the card's mailbox, the oldest first; none on a card that has no mailbox."""
        try:
            return data_objects.parse_mailbox(self.read(DataObject.MAILBOX))
        except CardRefusedError as refused:
            if refused.sw == StatusWord.DATA_NOT_FOUND:
                return ()
            raise

    def letter(self, number: int, *, mark: bool = False) -> Notice:
        """What a letter says; `mark` has it count as read, or as shown."""
        data = number.to_bytes(NUMBER_SIZE, "big")
        how = LOOK_AND_MARK if mark else LOOK
        command = CommandApdu(CLA_APPLICATION, Instruction.GET_MESSAGE, how, 0, data, le=SHORT_LE_MAX)
        content = self._expect_ok("GET MESSAGE", command).data
        try:
            return parse_content(content)
        except DecodeError as error:
            raise CardReplyError(f"letter {number} of the card's mailbox cannot be read: {error.reason}") from None

    def letters(self) -> tuple[tuple[HeldLetter, Notice], ...]:
        """Look at all letters, the oldest first."""
        return tuple((held, self.letter(held.number)) for held in self.mailbox())

    def process_emm(self, section: bytes) -> StatusWord:
        """Give the card an EMM section, from table_id on; return which of `TAKEN` it answers.

        Raises CardRefusedError for every other answer, ApduError when `section` is no short section.
        """
        command = _carry(Instruction.PROCESS_EMM, section, None)
        response = self._exchange(command)
        if response.sw not in TAKEN:
            raise _refused("PROCESS EMM", response.sw)
        return StatusWord(response.sw)

    def process_ecm(self, section: bytes) -> ControlWords:
        """Give the card an ECM section, from table_id on; return the control words.

        Raises CardRefusedError, whose `sw` says why the channel stays closed, PairedError when the card is paired with
        another receiver than this session's, ApduError when `section` is no short section.
        """
        data = self._expect_ok("PROCESS ECM", _carry(Instruction.PROCESS_ECM, section, SHORT_LE_MAX)).data
        return _control_words(self._unseal(data, section) if data and data[0] & SEALED else data)

    def authenticate(self, challenge: bytes) -> bytes:
        """The card's proof for a challenge of 16 bytes (`cards.authentication`), to be checked by who has its key.

        Raises CardRefusedError; a card of an older specification does not know the command.
        """
        command = CommandApdu(CLA_STANDARD, Instruction.INTERNAL_AUTHENTICATE, 0, 0, challenge, le=SHORT_LE_MAX)
        data = self._expect_ok("INTERNAL AUTHENTICATE", command).data
        if len(data) != PROOF_SIZE:
            raise CardReplyError(f"the card's proof has {len(data)} bytes instead of {PROOF_SIZE}")
        return data

    def give_pin(self, pin: str) -> None:
        """Give the card its subscriber's PIN; who may watch what its parental level locks knows it.

        Raises PinError, which says how many tries are left.
        """
        self._pin_command(Instruction.VERIFY, GIVE_PIN, _digits(pin))

    def forget_pin(self) -> None:
        """Have the card forget that its PIN was given."""
        self._pin_command(Instruction.VERIFY, FORGET_PIN, b"")

    def change_pin(self, old: str, new: str) -> None:
        """Give the card another PIN; the old one is tried as by `give_pin`. Raises PinError."""
        self._pin_command(Instruction.CHANGE_REFERENCE_DATA, GIVE_PIN, _digits(old) + _digits(new))

    def type_pin(self, pad: PinPad, *, change: bool = False) -> bool:
        """Have the PIN, or (`change`) the old and the new one, typed on the reader; False when it has no keypad.

        Raises PinError, and what `pad` raises.
        """
        instruction = Instruction.CHANGE_REFERENCE_DATA if change else Instruction.VERIFY
        sw = pad(change, bytes((CLA_STANDARD, instruction, GIVE_PIN, PIN_REFERENCE)), PIN_SIZE)
        if sw is not None:
            _check_pin_word(instruction, sw)
        return sw is not None

    def _pin_command(self, instruction: Instruction, p1: int, data: bytes) -> None:
        _check_pin_word(instruction, self._exchange(CommandApdu(CLA_STANDARD, instruction, p1, PIN_REFERENCE, data)).sw)

    def _unseal(self, answer: bytes, section: bytes) -> bytes:
        """The answer as a card that is not paired gives it. Raises PairedError, CardReplyError."""
        paired = data_objects.parse_pairing(self.read(DataObject.PAIRING))
        if paired is None or len(answer) < 1 + TAG_SIZE:
            raise CardReplyError("the card seals its control words, but says that it is not paired")
        name, mine = receiver_number.spell(paired), self._receiver
        if mine is None:
            raise PairedError(f"the card is paired with receiver {name}, and this is no receiver", name)
        if mine.number != paired:
            this = receiver_number.spell(mine.number)
            raise PairedError(f"the card is paired with receiver {name}, not with this one, {this}", name)
        address = data_objects.parse_number(self.read(DataObject.NUMBER))
        try:
            words = open_words(mine.pair_key(address), answer, parse_ecm(section).tag)
        except (AuthenticationError, DecodeError):
            raise PairedError(
                f"the card is paired with this receiver, {name}, but under another key than the receiver has",
                name,
                "give the receiver a key of this headend: cad keys receiver",
            ) from None
        return bytes((answer[0] & ~SEALED,)) + words

    def _select(self, aid: bytes) -> None:
        command = CommandApdu(
            CLA_STANDARD, Instruction.SELECT, SELECT_BY_NAME, SELECT_WITH_ANSWER, aid, le=SHORT_LE_MAX
        )
        response = self._exchange(command)
        if response.sw != StatusWord.OK:
            raise WrongCardError(
                f"the card has no application {aid.hex().upper()} (SELECT answered {response.sw:04X}: "
                f"{explain(response.sw).meaning})"
            )

    def _expect_ok(self, name: str, command: CommandApdu) -> ResponseApdu:
        response = self._exchange(command)
        if response.sw != StatusWord.OK:
            raise _refused(name, response.sw)
        return response

    def _exchange(self, command: CommandApdu) -> ResponseApdu:
        """One command with all of its answer (7816-4 clause 5.3.4): 6Cxx asks for another Le, 61xx has more."""
        response = self._once(command)
        if is_wrong_le(response.sw):
            again = (response.sw & 0xFF) or SHORT_LE_MAX
            response = self._once(CommandApdu(command.cla, command.ins, command.p1, command.p2, command.data, le=again))
        data = response.data
        while is_more_data(response.sw):
            waiting = (response.sw & 0xFF) or SHORT_LE_MAX
            response = self._once(CommandApdu(CLA_STANDARD, Instruction.GET_RESPONSE, 0, 0, le=waiting))
            if (is_more_data(response.sw) and not response.data) or len(data) + len(response.data) > ANSWER_MAX:
                raise CardReplyError("the card announces more and more of its answer without giving it")
            data += response.data
        return ResponseApdu(response.sw, data)

    def _once(self, command: CommandApdu) -> ResponseApdu:
        try:
            return ResponseApdu.decode(self._transmit(command.encode()))
        except ApduError as error:
            raise CardReplyError(f"the card's answer is not a response: {error.message}") from error


def _check_pin_word(instruction: Instruction, sw: int) -> None:
    if is_pin_wrong(sw) or sw == StatusWord.PIN_BLOCKED:
        explanation = explain(sw)
        raise PinError(explanation.meaning, sw & 0x0F if is_pin_wrong(sw) else 0, explanation.advice)
    if sw != StatusWord.OK:
        raise _refused(instruction.name.replace("_", " "), sw)


def _digits(pin: str) -> bytes:
    digits = pin.encode("utf-8", "surrogatepass")
    if not is_pin(digits):
        raise PinError(f"a PIN has {PIN_SIZE} digits", None, "nothing was sent to the card; give it again")
    return digits


def _carry(instruction: Instruction, section: bytes, le: int | None) -> CommandApdu:
    if not 2 <= len(section) <= SECTION_MAX:
        raise ApduError(f"a CA section has at most {SECTION_MAX} bytes and at least 2, not {len(section)}")
    return CommandApdu(CLA_APPLICATION, instruction, section[0], 0, section[1:], le)


def _control_words(data: bytes) -> ControlWords:
    count, size_code = divmod(data[0], 16) if data else (0, 0)
    if not 1 <= count <= WORDS_MAX or size_code >= len(WORD_SIZES) or len(data) != 1 + count * WORD_SIZES[size_code]:
        raise CardReplyError("the card's answer to PROCESS ECM does not hold control words")
    size = WORD_SIZES[size_code]
    return ControlWords(tuple(Secret(data[start : start + size]) for start in range(1, len(data), size)))


def _refused(command: str, sw: int) -> CardRefusedError:
    explanation = explain(sw)
    return CardRefusedError(command, sw, explanation.meaning, explanation.advice)
