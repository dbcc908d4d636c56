"""The card application: a command APDU in, a response APDU out, over a store. docs/card.md is the same in prose.

Pure but for the store: no clock (the time is that of ECMs), no randomness. Whatever bytes come in, a response goes out.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import Final

from cards import data_objects
from cards.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.authentication import CHALLENGE_SIZE, proof
from cards.data_objects import DataObject
from cards.errors import ApduError, StorageError
from cards.mailbox import contents as mailbox
from cards.memory import collecting
from cards.memory.contents import CardMemory, Storage
from cards.memory.pin import PIN_SIZE, is_pin
from cards.status_word import StatusWord
from emm.ecm import FORMATS as ECM_FORMATS
from emm.ecm import WORD_SIZES, Parity, SealedEcm, open_by_rights, parse_ecm
from emm.errors import AuthenticationError, DecodeError, NotEntitledError, Refusal
from emm.message import FORMATS, NOTICE_FORMAT, SECTION_HEAD_SIZE, EmmHeader, EmmKind, SealedEmm, parse_emm
from emm.notices.seal import open_notice
from emm.pairing import seal_words
from emm.payload import CardState, RightsBlock
from emm.seal import open_sealed
from emm.secret import Secret

DEFAULT_AID: Final = bytes.fromhex("F0434144454D4D01")
TIME_STORED_EVERY_S: Final = 3600
"""How far the stored time of the last ECM may lag: a real card's memory wears out with every write."""


class Instruction(IntEnum):
    """INS of the commands: of ISO/IEC 7816-4 in class 00 (GET RESPONSE in both), our own and GET DATA in class 80."""

    SELECT = 0xA4
    INTERNAL_AUTHENTICATE = 0x88
    VERIFY = 0x20
    CHANGE_REFERENCE_DATA = 0x24
    GET_RESPONSE = 0xC0
    GET_DATA = 0xCA
    PROCESS_EMM = 0x30
    PROCESS_ECM = 0x32
    GET_MESSAGE = 0x34


CLA_STANDARD: Final = 0x00
CLA_APPLICATION: Final = 0x80
SELECT_BY_NAME: Final = 0x04
SELECT_WITH_ANSWER: Final = 0x00
SELECT_WITHOUT_ANSWER: Final = 0x0C
PIN_REFERENCE: Final = 0x81
FORGET_PIN: Final = 0xFF
LOOK: Final = 0x00
LOOK_AND_MARK: Final = 0x01
NUMBER_SIZE: Final = 4

_CLASSES: Final = {
    Instruction.SELECT: (CLA_STANDARD,),
    Instruction.INTERNAL_AUTHENTICATE: (CLA_STANDARD,),
    Instruction.VERIFY: (CLA_STANDARD,),
    Instruction.CHANGE_REFERENCE_DATA: (CLA_STANDARD,),
    Instruction.GET_RESPONSE: (CLA_STANDARD, CLA_APPLICATION),
    Instruction.GET_DATA: (CLA_APPLICATION,),
    Instruction.PROCESS_EMM: (CLA_APPLICATION,),
    Instruction.PROCESS_ECM: (CLA_APPLICATION,),
    Instruction.GET_MESSAGE: (CLA_APPLICATION,),
}


_EMM_FORMAT_AT: Final = {
    EmmKind.UNIQUE: SECTION_HEAD_SIZE + 5,
    EmmKind.GROUP: SECTION_HEAD_SIZE + 4,
    EmmKind.GLOBAL: SECTION_HEAD_SIZE,
}


class _RefusedError(Exception):
    def __init__(self, sw: int) -> None:
        super().__init__(f"{sw:04X}")
        self.sw = sw


class CardApplication:
    """The application of one card. `reset` when the card is powered or reset; one thread at a time."""

    def __init__(self, storage: Storage, aid: bytes = DEFAULT_AID) -> None:
        """Raises StorageError when the store cannot be read."""
        self._storage = storage
        self._aid = aid
        self._memory: CardMemory = storage.load()
        self._last_time = self._memory.last_time
        self._selected = False
        self._pin_given = False
        self._rest = Secret(b"")
        self._commands: dict[Instruction, Callable[[CommandApdu], bytes]] = {
            Instruction.SELECT: self._select,
            Instruction.INTERNAL_AUTHENTICATE: self._internal_authenticate,
            Instruction.VERIFY: self._verify,
            Instruction.CHANGE_REFERENCE_DATA: self._change_reference_data,
            Instruction.GET_DATA: self._get_data,
            Instruction.PROCESS_EMM: self._process_emm,
            Instruction.PROCESS_ECM: self._process_ecm,
            Instruction.GET_MESSAGE: self._get_message,
        }

    def __repr__(self) -> str:
        return f"<CardApplication of card address {self._memory.address}>"

    @property
    def memory(self) -> CardMemory:
        """What the card remembers without power."""
        return self._memory

    def reset(self) -> None:
        """Forget what is volatile: the selection, that the PIN was given, and the rest of an answer."""
        self._selected = False
        self._pin_given = False
        self._rest = Secret(b"")

    def process(self, command: bytes) -> bytes:
        """Answer one command APDU. Raises nothing, whatever `command` holds."""
        return self._process(command).encode()

    def _process(self, raw: bytes) -> ResponseApdu:
        try:
            command = CommandApdu.decode(raw)
        except ApduError:
            self._rest = Secret(b"")
            return ResponseApdu(StatusWord.WRONG_LENGTH)
        rest, self._rest = self._rest, Secret(b"")
        try:
            instruction = self._instruction(command)
            if instruction is Instruction.GET_RESPONSE:
                return self._answer(command, self._get_response(command, rest))
            return self._answer(command, self._commands[instruction](command))
        except _RefusedError as refused:
            return ResponseApdu(refused.sw)
        except StorageError:
            return ResponseApdu(StatusWord.MEMORY_FAILURE)

    def _instruction(self, command: CommandApdu) -> Instruction:
        if command.cla not in (CLA_STANDARD, CLA_APPLICATION):
            raise _RefusedError(StatusWord.WRONG_CLASS)
        try:
            instruction = Instruction(command.ins)
        except ValueError:
            raise _RefusedError(StatusWord.WRONG_INSTRUCTION) from None
        if command.cla not in _CLASSES[instruction]:
            raise _RefusedError(StatusWord.WRONG_CLASS)
        if not self._selected and instruction is not Instruction.SELECT:
            raise _RefusedError(StatusWord.CONDITIONS_NOT_MET)
        return instruction

    def _answer(self, command: CommandApdu, data: bytes) -> ResponseApdu:
        """ISO/IEC 7816-4 clause 5.3.4: what does not fit Le waits for GET RESPONSE, and 61xx says how much waits."""
        room = command.le or 0
        if len(data) <= room:
            return ResponseApdu(StatusWord.OK, data)
        self._rest = Secret(data[room:])
        waiting = len(self._rest) if len(self._rest) < SHORT_LE_MAX else 0
        return ResponseApdu(0x6100 | waiting, data[:room])

    def _get_response(self, command: CommandApdu, rest: Secret) -> bytes:
        _expect(command, p1p2=(0,))
        if command.data or command.le is None:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        if not rest:
            raise _RefusedError(StatusWord.CONDITIONS_NOT_MET)
        return rest

    def _select(self, command: CommandApdu) -> bytes:
        _expect(command, p1p2=(SELECT_BY_NAME << 8 | SELECT_WITH_ANSWER, SELECT_BY_NAME << 8 | SELECT_WITHOUT_ANSWER))
        if not command.data:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        if command.data != self._aid:
            raise _RefusedError(StatusWord.APPLICATION_NOT_FOUND)
        self._selected = True
        self._pin_given = False
        return self._template() if command.p2 == SELECT_WITH_ANSWER else b""

    def _template(self) -> bytes:
        """File control information (7816-4 clause 7.4.3): template 6F, in it the application's name, 84."""
        name = bytes((0x84, len(self._aid))) + self._aid
        return bytes((0x6F, len(name))) + name

    def _internal_authenticate(self, command: CommandApdu) -> bytes:
        """ISO/IEC 7816-4:2013 clause 11.5.2: prove that this card holds its card key, without giving it out."""
        _expect(command, p1p2=(0,))
        if len(command.data) != CHALLENGE_SIZE:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        keys = self._memory.keys
        return proof(keys.card_key, self._memory.address, keys.key_version, command.data)

    def _verify(self, command: CommandApdu) -> bytes:
        """ISO/IEC 7816-4:2013 clause 11.5.6: without data whether the PIN was given, with P1 FF forget that it was."""
        _expect(command, p1p2=(PIN_REFERENCE, FORGET_PIN << 8 | PIN_REFERENCE))
        if command.p1 == FORGET_PIN:
            if command.data:
                raise _RefusedError(StatusWord.WRONG_LENGTH)
            self._pin_given = False
        elif command.data:
            self._check_pin(command.data)
        elif not self._pin_given:
            raise _RefusedError(self._pin_word())
        return b""

    def _change_reference_data(self, command: CommandApdu) -> bytes:
        """ISO/IEC 7816-4:2013 clause 11.5.7: the old PIN and a new one."""
        _expect(command, p1p2=(PIN_REFERENCE,))
        old, new = command.data[:PIN_SIZE], command.data[PIN_SIZE:]
        if len(command.data) == 2 * PIN_SIZE and not is_pin(new):
            raise _RefusedError(StatusWord.WRONG_DATA)
        if len(command.data) != 2 * PIN_SIZE:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        self._check_pin(old, new)
        return b""

    def _check_pin(self, digits: bytes, new: bytes | None = None) -> None:
        """Look whether these are the digits; a try is spent in memory before, so that cutting the power gains none."""
        if len(digits) != PIN_SIZE:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        self._pin_given = False
        pin = self._memory.pin
        if not pin.tries_left:
            raise _RefusedError(StatusWord.PIN_BLOCKED)
        self._remember(replace(self._memory, pin=pin.spent()))
        if not pin.is_right(digits):
            raise _RefusedError(self._pin_word())
        self._remember(replace(self._memory, pin=pin.known(new)))
        self._pin_given = True

    def _pin_word(self) -> int:
        left = self._memory.pin.tries_left
        return 0x63C0 | left if left else StatusWord.PIN_BLOCKED

    def _get_data(self, command: CommandApdu) -> bytes:
        try:
            which = DataObject(command.p1 << 8 | command.p2)
        except ValueError:
            raise _RefusedError(StatusWord.DATA_NOT_FOUND) from None
        if command.data:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        return data_objects.build(which, self._memory, self._last_time)

    def _process_emm(self, command: CommandApdu) -> bytes:
        section = _section(command, tuple(EmmKind))
        try:
            emm = parse_emm(section)
        except DecodeError:
            raise _RefusedError(_unreadable(section, _EMM_FORMAT_AT[EmmKind(command.p1)], FORMATS)) from None
        self._check_addressee(emm.header)
        if emm.header.format == NOTICE_FORMAT:
            return self._take_notice(emm)
        track = self._memory.tracks[emm.header.kind]
        verdict = collecting.judge(track, emm.header)
        if verdict is not StatusWord.OK:
            raise _RefusedError(verdict)
        try:
            opened = open_sealed(emm, self._memory.keys.key(emm.header.kind))
        except AuthenticationError:
            raise _RefusedError(StatusWord.NOT_AUTHENTIC) from None
        except DecodeError:
            raise _RefusedError(StatusWord.NOT_UNDERSTOOD) from None
        track, verdict = collecting.add(track, emm.header, opened.payload)
        told = replace(self._memory, tracks=self._memory.tracks | {emm.header.kind: track})
        pin = told.pin.after(told.traits.pin_reset)
        self._pin_given = self._pin_given and pin == told.pin
        self._remember(replace(told, pin=pin))
        if verdict is not StatusWord.OK:
            raise _RefusedError(verdict)
        return b""

    def _take_notice(self, emm: SealedEmm) -> bytes:
        """Keep a notice, or a part of one, that is for this card."""
        header = emm.header
        number = header.version.revision
        if (verdict := mailbox.judge(self._memory.mailbox, number, header.part, header.last_part)) is not StatusWord.OK:
            raise _RefusedError(verdict)
        try:
            part = open_notice(emm, self._memory.keys.key(header.kind)).part
        except AuthenticationError:
            raise _RefusedError(StatusWord.NOT_AUTHENTIC) from None
        except DecodeError:
            raise _RefusedError(StatusWord.NOT_UNDERSTOOD) from None
        if not part.addresses(self._memory.address):
            raise _RefusedError(StatusWord.FOR_OTHERS)
        if not number or not part.piece:
            raise _RefusedError(StatusWord.NOT_UNDERSTOOD)
        numbers = (number, header.part, header.last_part)
        box, verdict = mailbox.add(self._memory.mailbox, *numbers, part.piece, self._last_time)
        self._remember(replace(self._memory, mailbox=box))
        if verdict is not StatusWord.OK:
            raise _RefusedError(verdict)
        return b""

    def _get_message(self, command: CommandApdu) -> bytes:
        """Give what a letter says; with P1 01 it counts as read, or as shown."""
        _expect(command, p1p2=(LOOK << 8, LOOK_AND_MARK << 8))
        if len(command.data) != NUMBER_SIZE:
            raise _RefusedError(StatusWord.WRONG_LENGTH)
        number = int.from_bytes(command.data, "big")
        letter = self._memory.mailbox.find(number)
        if letter is None:
            raise _RefusedError(StatusWord.DATA_NOT_FOUND)
        if command.p1 == LOOK_AND_MARK and not letter.done:
            self._remember(replace(self._memory, mailbox=mailbox.mark(self._memory.mailbox, number)))
        return letter.content

    def _check_addressee(self, header: EmmHeader) -> None:
        address = self._memory.address
        mine = {EmmKind.UNIQUE: address, EmmKind.GROUP: address >> 8, EmmKind.GLOBAL: 0}[header.kind]
        if header.address != mine:
            raise _RefusedError(StatusWord.NOT_FOR_THIS_CARD)
        if header.key_version != self._memory.keys.key_version:
            raise _RefusedError(StatusWord.UNKNOWN_KEY_VERSION)

    def _process_ecm(self, command: CommandApdu) -> bytes:
        section = _section(command, tuple(Parity))
        try:
            ecm = parse_ecm(section)
        except DecodeError:
            raise _RefusedError(_unreadable(section, SECTION_HEAD_SIZE, ECM_FORMATS)) from None
        if self._memory.state is None:
            raise _RefusedError(StatusWord.NO_EMM_YET)
        if self._memory.state is CardState.SUSPENDED:
            raise _RefusedError(StatusWord.SUSPENDED)
        try:
            words = open_by_rights(ecm, self._memory.rights, self._memory.traits.region)
        except AuthenticationError:
            raise _RefusedError(StatusWord.NOT_AUTHENTIC) from None
        except NotEntitledError as refused:
            raise _RefusedError(_refusal(refused.refusal, ecm, self._memory.rights)) from None
        self._note_time(ecm.header.time)
        word_info = ecm.word_count << 4 | WORD_SIZES.index(ecm.word_size)
        if (pairing := self._memory.pairing) is not None:
            return seal_words(pairing.key, word_info, ecm.tag, words)
        return bytes((word_info,)) + b"".join(words)

    def _note_time(self, time: int) -> None:
        self._last_time = max(self._last_time, time)
        if self._last_time >= self._memory.last_time + TIME_STORED_EVERY_S:
            # Who has the right sees the channel, also when the time cannot be noted.
            with contextlib.suppress(StorageError):
                self._remember(replace(self._memory, last_time=self._last_time))

    def _remember(self, memory: CardMemory) -> None:
        self._storage.store(memory)
        self._memory = memory


def _expect(command: CommandApdu, p1p2: tuple[int, ...]) -> None:
    if command.p1 << 8 | command.p2 not in p1p2:
        raise _RefusedError(StatusWord.WRONG_P1_P2)


def _section(command: CommandApdu, table_ids: tuple[int, ...]) -> bytes:
    """The whole section: P1 is its first byte, the data the others."""
    if command.p1 not in table_ids or command.p2:
        raise _RefusedError(StatusWord.WRONG_P1_P2)
    if not command.data:
        raise _RefusedError(StatusWord.WRONG_LENGTH)
    return bytes((command.p1,)) + command.data


def _unreadable(section: bytes, format_at: int, known: tuple[int, ...]) -> StatusWord:
    """Tell a section of another format from one that is spoilt."""
    is_other_format = len(section) > format_at and section[format_at] not in known
    return StatusWord.FUNCTION_NOT_SUPPORTED if is_other_format else StatusWord.WRONG_DATA


def _refusal(refusal: Refusal, ecm: SealedEcm, rights: tuple[RightsBlock, ...]) -> StatusWord:
    if refusal is Refusal.NO_PRODUCT:
        return StatusWord.NO_RIGHT
    if refusal is Refusal.NO_KEY:
        return StatusWord.NO_KEY_OF_EPOCH
    if refusal is Refusal.BLACKED_OUT:
        return StatusWord.BLACKED_OUT
    named = set(ecm.product_ids)
    begins_later = any(
        block.start > ecm.header.time and any(product.product_id in named for product in block.products)
        for block in rights
    )
    return StatusWord.RIGHT_NOT_BEGUN if begins_later else StatusWord.RIGHT_ENDED
