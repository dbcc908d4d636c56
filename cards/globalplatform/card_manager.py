"""The chip's card manager: key sets and their tries, secure channel, personalisation, life cycle.

Whatever a command changes is in the memory before its answer leaves the card.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from cards.apdu import CommandApdu, ResponseApdu
from cards.errors import StorageError
from cards.globalplatform.card_state import KEY_SETS_MAX, TRIES_MAX, CardState, KeySet, ManagerMemory
from cards.globalplatform.commands import (
    INS_GET_DATA,
    INS_GET_STATUS,
    INS_INSTALL,
    INS_PUT_KEY,
    INS_SET_STATUS,
    INS_STORE_DATA,
    INSTALL_FOR_PERSONALISATION,
    KEY_TYPE_AES,
    KEYS_IN_SET,
    PUT_KEY_MULTIPLE,
    STATUS_AS_TLV,
    STORE_ENCRYPTED_GROUPS,
    STORE_GROUPS,
    STORE_LAST,
    TAG_KEY_INFORMATION,
    TAG_SERIAL,
    ApplicationLifeCycle,
    CardLifeCycle,
    KeyInformation,
    RegistryEntry,
    StatusScope,
    decode_key_blocks,
    encode_key_information,
    encode_status,
    install_for_personalisation,
)
from cards.globalplatform.data_groups import PersonalData, decode_personal_data
from cards.globalplatform.errors import GlobalPlatformError, SecureMessagingError
from cards.globalplatform.scp03.card import CardChannel, CardHandshake
from cards.globalplatform.scp03.channel import is_secured
from cards.globalplatform.scp03.host import (
    CLA,
    CLA_SECURED,
    INS_EXTERNAL_AUTHENTICATE,
    INS_INITIALIZE_UPDATE,
    OPTION_PSEUDO_RANDOM,
    OPTION_R_ENC,
    OPTION_R_MAC,
    OPTION_S16,
    CardOffer,
)
from cards.globalplatform.scp03.keys import (
    INITIAL_VERSION,
    VERSION_MAX,
    Mode,
    SecurityLevel,
    StaticKeys,
    pseudo_random_challenge,
)
from cards.globalplatform.status_word import GpStatusWord
from cards.globalplatform.tlv import decode_tlvs, encode_tlv

MANAGER_AID: Final = bytes.fromhex("A000000151000000")
STORE_DATA_MAX: Final = 4096
_OPTIONS: Final = OPTION_PSEUDO_RANDOM | OPTION_R_MAC | OPTION_R_ENC


@dataclass(frozen=True, slots=True)
class ManagerPolicy:
    """What a card vendor decides. `application_aid` is the AID of the conditional-access application before it is
    personalised; `modes` are those that the card speaks.
    """

    application_aid: bytes
    manager_aid: bytes = MANAGER_AID
    modes: frozenset[Mode] = frozenset(Mode)


class _Refusal(Exception):  # noqa: N818 -- not an error of the program: it is the card's answer
    def __init__(self, sw: int) -> None:
        super().__init__(sw)
        self.sw = sw


class CardManager:
    """Answers commands of card management. No command makes `answer` raise.

    Raises StorageError at construction when the memory is empty or damaged: make a chip with `CardState.stock`.
    """

    def __init__(self, memory: ManagerMemory, policy: ManagerPolicy) -> None:
        content = memory.read()
        if content is None:
            raise StorageError("the memory of the card manager is empty", "write the state of a stock card into it")
        self._memory = memory
        self._policy = policy
        self._state = CardState.decode(content)
        self._handshake: CardHandshake | None = None
        self._channel: CardChannel | None = None
        self._for_application = False
        self._blocks: list[bytes] = []
        # INS: handler, and whether it works on a locked card.
        self._commands: dict[int, tuple[Callable[[CommandApdu], bytes], bool]] = {
            INS_GET_DATA: (self._get_data, True),
            INS_GET_STATUS: (self._get_status, True),
            INS_SET_STATUS: (self._set_status, True),
            INS_PUT_KEY: (self._put_key, False),
            INS_INSTALL: (self._install, False),
            INS_STORE_DATA: (self._store_data, False),
        }

    @property
    def state(self) -> CardState:
        """What the memory holds."""
        return self._state

    @property
    def application_aid(self) -> bytes:
        """The AID of the conditional-access application as it is now."""
        personal = self._state.personal
        if personal is None or personal.identity is None:
            return self._policy.application_aid
        return personal.identity.aid

    def reset(self) -> None:
        """Power was lost, or another application was selected: session and half-stored data are forgotten."""
        self._handshake = None
        self._channel = None
        self._forget_blocks()

    def select(self, aid: bytes) -> ResponseApdu | None:
        """Answer SELECT of this AID, empty for the default; None when the name is not the card manager's."""
        if not self._policy.manager_aid.startswith(aid):
            return None
        self.reset()
        words = {
            CardLifeCycle.CARD_LOCKED: GpStatusWord.CARD_LOCKED,
            CardLifeCycle.TERMINATED: GpStatusWord.CARD_TERMINATED,
        }
        sw = words.get(self._state.life_cycle, GpStatusWord.OK)
        # Card Specification table 11-77: file control information with the AID.
        return ResponseApdu(sw, encode_tlv(0x6F, encode_tlv(0x84, self._policy.manager_aid) + encode_tlv(0xA5, b"")))

    def answer(self, command: CommandApdu) -> ResponseApdu:
        """Answer one command, as it came over the wire."""
        handshake, self._handshake = self._handshake, None
        try:
            if command.cla & 0x43:
                return ResponseApdu(GpStatusWord.CHANNEL_NOT_SUPPORTED)
            if (command.cla, command.ins) == (CLA, INS_INITIALIZE_UPDATE):
                return ResponseApdu(GpStatusWord.OK, self._initialize_update(command))
            if (command.cla, command.ins) == (CLA_SECURED, INS_EXTERNAL_AUTHENTICATE):
                return self._external_authenticate(command, handshake)
        except _Refusal as refusal:
            return ResponseApdu(refusal.sw)
        return self._answer_protected(command)

    def _answer_protected(self, raw: CommandApdu) -> ResponseApdu:
        channel = self._channel
        command = raw
        if channel is None and is_secured(raw.cla):
            return ResponseApdu(GpStatusWord.NOT_AUTHENTICATED)
        if channel is not None:
            try:
                command = channel.open(raw)
            except SecureMessagingError:
                self.reset()
                bare = not is_secured(raw.cla)
                return ResponseApdu(GpStatusWord.NOT_AUTHENTICATED if bare else GpStatusWord.WRONG_SECURE_MESSAGE)
        try:
            response = ResponseApdu(GpStatusWord.OK, self._perform(command))
        except _Refusal as refusal:
            response = ResponseApdu(refusal.sw)
        return response if channel is None else channel.protect(response)

    def _perform(self, command: CommandApdu) -> bytes:
        if command.ins not in self._commands:
            raise _Refusal(GpStatusWord.WRONG_INSTRUCTION)
        if command.cla != CLA and (command.cla, command.ins) != (0x00, INS_GET_DATA):
            raise _Refusal(GpStatusWord.WRONG_CLASS)
        handler, when_locked = self._commands[command.ins]
        life = self._state.life_cycle
        if life is CardLifeCycle.TERMINATED and command.ins != INS_GET_DATA:
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        if life is CardLifeCycle.CARD_LOCKED and not when_locked:
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        if command.ins != INS_STORE_DATA:
            self._blocks = []
        return handler(command)

    def _store(self, state: CardState) -> None:
        """Into the memory first; only what is there counts."""
        try:
            self._memory.write(state.encode())
        except StorageError:
            raise _Refusal(GpStatusWord.MEMORY_FAILURE) from None
        self._state = state

    def _initialize_update(self, command: CommandApdu) -> bytes:
        """Amendment D clause 7.1.1. The sequence counter rises in the memory before the challenge is used."""
        self.reset()
        if command.p2 != 0:
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        if len(command.data) not in self._policy.modes:
            raise _Refusal(GpStatusWord.WRONG_LENGTH)
        found = self._state.key_set(command.p1)
        if found is None:
            raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)
        if found.blocked:
            raise _Refusal(GpStatusWord.BLOCKED)
        mode = Mode(len(command.data))
        sequence = found.sequence + 1
        self._store(self._state.with_key_set(replace(found, sequence=sequence)))
        challenge = pseudo_random_challenge(found.keys.enc, sequence, self._policy.manager_aid, mode)
        self._handshake = CardHandshake(found.keys, command.data, challenge)
        options = _OPTIONS | (OPTION_S16 if mode is Mode.S16 else 0)
        cryptogram = self._handshake.cryptogram()
        version = found.keys.version
        return CardOffer(self._state.serial, version, options, mode, challenge, cryptogram, sequence).encode()

    def _external_authenticate(self, command: CommandApdu, handshake: CardHandshake | None) -> ResponseApdu:
        """Amendment D clause 7.1.2. The try is spent in the memory before the proof is looked at, given back after."""
        self.reset()
        found = None if handshake is None else self._state.key_set(handshake.key_version)
        if handshake is None or found is None:
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        if command.p1 not in set(SecurityLevel) or command.p2 != 0:
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        if len(command.data) != 2 * handshake.mode:
            raise _Refusal(GpStatusWord.WRONG_LENGTH)
        if found.blocked:
            raise _Refusal(GpStatusWord.BLOCKED)
        left = found.tries_left - 1
        self._store(self._state.with_key_set(replace(found, tries_left=left)))
        try:
            channel = handshake.verify(command, SecurityLevel(command.p1))
        except SecureMessagingError:
            # ISO/IEC 7816-4 clause 5.6: verification failed, this many tries are left.
            raise _Refusal(0x63C0 | left if left else GpStatusWord.BLOCKED) from None
        self._store(self._state.with_key_set(replace(found, tries_left=TRIES_MAX)))
        self._channel = channel
        return ResponseApdu(GpStatusWord.OK)

    def _authenticated(self) -> CardChannel:
        """The open channel, at a level that protects commands."""
        if self._channel is None or not self._channel.level.command_mac:
            raise _Refusal(GpStatusWord.NOT_AUTHENTICATED)
        return self._channel

    def _get_data(self, command: CommandApdu) -> bytes:
        tag = command.p1 << 8 | command.p2
        if tag == TAG_SERIAL:
            return encode_tlv(TAG_SERIAL, self._state.serial)
        if tag == TAG_KEY_INFORMATION:
            return encode_key_information(
                KeyInformation(identifier, s.keys.version, KEY_TYPE_AES, key.size)
                for s in self._state.key_sets
                for identifier, key in enumerate(s.keys.keys, 1)
            )
        raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)

    def _get_status(self, command: CommandApdu) -> bytes:
        if self._channel is None:
            raise _Refusal(GpStatusWord.NOT_AUTHENTICATED)
        if command.p2 != STATUS_AS_TLV or command.p1 not in set(StatusScope):
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        if command.p1 == StatusScope.CARD:
            entry = RegistryEntry(self._policy.manager_aid, self._state.life_cycle)
        else:
            entry = RegistryEntry(self.application_aid, self._state.application_life_cycle)
        try:
            criteria = dict(decode_tlvs(command.data))
        except GlobalPlatformError:
            raise _Refusal(GpStatusWord.WRONG_DATA) from None
        if set(criteria) != {0x4F}:
            raise _Refusal(GpStatusWord.WRONG_DATA)
        if not entry.aid.startswith(criteria[0x4F]):
            raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)
        return encode_status([entry])

    def _set_status(self, command: CommandApdu) -> bytes:
        self._authenticated()
        if command.p1 == StatusScope.CARD:
            if command.p2 not in set(CardLifeCycle):
                raise _Refusal(GpStatusWord.WRONG_P1_P2)
            target = CardLifeCycle(command.p2)
            if not self._state.may_become(target):
                raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
            self._store(self._state.become(target))
            return b""
        locks = {ApplicationLifeCycle.LOCKED_PERSONALIZED: True, ApplicationLifeCycle.PERSONALIZED: False}
        if command.p1 != StatusScope.APPLICATION or command.p2 not in locks:
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        if command.data != self.application_aid:
            raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)
        if self._state.personal is None:
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        self._store(replace(self._state, application_locked=locks[ApplicationLifeCycle(command.p2)]))
        return b""

    def _put_key(self, command: CommandApdu) -> bytes:
        """Amendment D clause 7.2: one whole key set, added or in the place of another, all or nothing."""
        channel = self._authenticated()
        if command.p1 > VERSION_MAX or command.p2 != PUT_KEY_MULTIPLE:
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        try:
            version, keys = decode_key_blocks(command.data, channel.dek)
            if len(keys) != KEYS_IN_SET or not 1 <= version <= VERSION_MAX:
                raise _Refusal(GpStatusWord.WRONG_DATA)
            new = StaticKeys(version, keys[0], keys[1], keys[2])
        except GlobalPlatformError:
            raise _Refusal(GpStatusWord.WRONG_DATA) from None
        if command.p1 and self._state.key_set(command.p1) is None:
            raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)
        # The initial keys go with the first set that is added (Card Specification clause 11.8.2.1).
        leaving = command.p1 or INITIAL_VERSION
        staying = tuple(s for s in self._state.key_sets if s.keys.version != leaving)
        if any(s.keys.version == version for s in staying):
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        if len(staying) >= KEY_SETS_MAX:
            raise _Refusal(GpStatusWord.NO_MEMORY)
        # The counter goes on over all sets: no challenge ever comes twice, also not when old keys are loaded again.
        sequence = max((s.sequence for s in self._state.key_sets), default=0)
        self._store(replace(self._state, key_sets=(*staying, KeySet(new, sequence=sequence))))
        return bytes((version,)) + b"".join(key.check_value() for key in keys)

    def _install(self, command: CommandApdu) -> bytes:
        self._authenticated()
        if (command.p1, command.p2) != (INSTALL_FOR_PERSONALISATION, 0):
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        self._forget_blocks()
        if command.data != install_for_personalisation(self.application_aid).data:
            raise _Refusal(GpStatusWord.REFERENCE_NOT_FOUND)
        self._for_application = True
        return b"\x00"

    def _store_data(self, command: CommandApdu) -> bytes:
        """Blocks are gathered, and count all together with the last one or not at all."""
        channel = self._authenticated()
        if not self._for_application:
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        if command.p1 & ~STORE_LAST != STORE_GROUPS | STORE_ENCRYPTED_GROUPS or command.p2 != len(self._blocks):
            self._forget_blocks()
            raise _Refusal(GpStatusWord.WRONG_P1_P2)
        self._blocks.append(command.data)
        if sum(map(len, self._blocks)) > STORE_DATA_MAX:
            self._forget_blocks()
            raise _Refusal(GpStatusWord.NO_MEMORY)
        if command.p1 & STORE_LAST:
            stream = b"".join(self._blocks)
            self._forget_blocks()
            try:
                told = decode_personal_data(stream, channel.dek.decrypt_cbc)
            except GlobalPlatformError:
                raise _Refusal(GpStatusWord.WRONG_DATA) from None
            self._store(replace(self._state, personal=self._merge(told)))
        return b""

    def _merge(self, told: PersonalData) -> PersonalData:
        """What the application holds after `told`. An identity is for life; a key version never gets a second value."""
        held = self._state.personal
        if held is None:
            if not told.complete:
                raise _Refusal(GpStatusWord.WRONG_DATA)
            return told
        if told.identity not in (None, held.identity):
            raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        keys = {(key.purpose, key.version): key for key in held.keys}
        for key in told.keys:
            if keys.setdefault((key.purpose, key.version), key) != key:
                raise _Refusal(GpStatusWord.CONDITIONS_NOT_SATISFIED)
        merged = PersonalData(held.identity, tuple(keys.values()))
        if not merged.complete:
            raise _Refusal(GpStatusWord.WRONG_DATA)
        return merged

    def _forget_blocks(self) -> None:
        self._for_application = False
        self._blocks = []
