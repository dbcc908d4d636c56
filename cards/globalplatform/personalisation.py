"""Personalisation as a dialogue: from a chip with transport keys to a customer's card, resumable at every command.

Each run looks at what the chip has and does what is missing. Nothing is ever tried with a second key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cards.apdu import CommandApdu
from cards.globalplatform.card_manager import MANAGER_AID
from cards.globalplatform.commands import (
    TAG_KEY_INFORMATION,
    TAG_SERIAL,
    CardLifeCycle,
    StatusScope,
    decode_key_information,
    decode_status,
    get_data,
    get_status,
    install_for_personalisation,
    put_keys,
    select,
    set_status,
    store_data,
)
from cards.globalplatform.data_groups import PersonalData, encode_personal_data
from cards.globalplatform.dialogue import Dialogue, Processor, SecureMessaging
from cards.globalplatform.errors import (
    EncodingError,
    KeySetUnknownError,
    NotACardManagerError,
    OtherIdentityError,
    WeakChannelError,
)
from cards.globalplatform.scp03.host import HostHandshake
from cards.globalplatform.scp03.keys import INITIAL_VERSION, Mode, SecurityLevel, StaticKeys
from cards.globalplatform.status_word import GpStatusWord, demand_ok
from cards.globalplatform.tlv import decode_tlvs

Random = Callable[[int], bytes]
"""Gives so many bytes from the operating system's generator."""


class KeyRing(Protocol):
    """Where static keys come from."""

    def static_keys(self, version: int, diversification: bytes) -> StaticKeys:
        """The key set of this version on the chip that tells these 10 bytes. Raises KeySetUnknownError."""
        ...


class Step(Enum):
    """What a run has reached, for a journal."""

    FOUND = "found"
    KEYS_LOADED = "keys-loaded"
    DATA_STORED = "data-stored"
    SECURED = "secured"


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """How channels are opened. `manager_aid`: the card manager's AID, empty for the card's default."""

    key_ring: KeyRing
    random: Random
    mode: Mode = Mode.S16
    level: SecurityLevel = SecurityLevel.C_MAC_C_ENC_R_MAC_R_ENC
    manager_aid: bytes = MANAGER_AID


@dataclass(frozen=True, slots=True)
class PersonalisationOrder:
    """What the chip is to become: its transport keys replaced by our own, and `data`, which is complete."""

    transport_version: int
    own_version: int
    data: PersonalData


@dataclass(frozen=True, slots=True)
class ChipReading:
    """What a chip tells without a key: serial number and the versions of its key sets, in its order."""

    serial: bytes
    key_versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A card that is done. `check_values`: name of each key → three bytes in hex. No key is in it."""

    serial: bytes
    address: int
    own_version: int
    check_values: dict[str, str]


def read_chip(link: Processor, manager_aid: bytes = MANAGER_AID) -> Dialogue[ChipReading]:
    """Select the card manager and read what it tells to everyone. Raises NotACardManagerError, CardRefusedError."""
    answer = yield from link.exchange(select(manager_aid))
    if answer.sw in (GpStatusWord.NOT_FOUND, GpStatusWord.WRONG_INSTRUCTION, GpStatusWord.WRONG_CLASS):
        raise NotACardManagerError("the card has no card manager of the name expected")
    demand_ok("SELECT of the card manager", answer)
    answer = yield from link.exchange(get_data(TAG_SERIAL))
    serial = dict(decode_tlvs(demand_ok("GET DATA of the serial number", answer))).get(TAG_SERIAL, b"")
    answer = yield from link.exchange(get_data(TAG_KEY_INFORMATION))
    keys = decode_key_information(demand_ok("GET DATA of the key information", answer))
    return ChipReading(serial, tuple(dict.fromkeys(key.version for key in keys)))


def open_channel(link: Processor, terms: ChannelTerms, version: int) -> Dialogue[SecureMessaging]:
    """Open a secure channel with the key set of one version, chosen by what the card tells about itself.

    Raises what HostHandshake raises. One key set is tried, once.
    """
    handshake = HostHandshake(terms.random(terms.mode), version, terms.level)
    offer = handshake.receive_offer((yield from link.exchange(handshake.initialize_update())))
    proof = handshake.authenticate(terms.key_ring.static_keys(offer.key_version, offer.diversification))
    return SecureMessaging(link, handshake.receive_verdict((yield from link.exchange(proof))))


def initialise(link: Processor, terms: ChannelTerms, transport_version: int) -> Dialogue[ChipReading]:
    """The card vendor's part: the initial keys of a stock chip go, transport keys come; OP_READY → INITIALIZED."""
    _demand_encryption(terms)
    chip = yield from read_chip(link, terms.manager_aid)
    if transport_version not in chip.key_versions:
        yield from _load_keys(link, terms, chip, INITIAL_VERSION, transport_version)
    secure = yield from open_channel(link, terms, transport_version)
    yield from _advance(secure, (CardLifeCycle.INITIALIZED,))
    secure.channel.close()
    return ChipReading(chip.serial, (transport_version,))


def personalise(
    link: Processor, terms: ChannelTerms, order: PersonalisationOrder, note: Callable[[Step], None]
) -> Dialogue[Receipt]:
    """Make a card, or finish one that was begun. `note` is told each step when the card has confirmed it.

    Raises EncodingError and WeakChannelError before the card is touched; OtherIdentityError when the card is another
    one already, KeySetUnknownError, KeyCheckError, CardRefusedError, and what the channel raises.
    """
    identity = order.data.identity
    if identity is None or not order.data.complete:
        raise EncodingError("a card needs address, issuer, AID, and all three keys of a version")
    _demand_encryption(terms)
    chip = yield from read_chip(link, terms.manager_aid)
    note(Step.FOUND)
    if order.own_version not in chip.key_versions:
        yield from _load_keys(link, terms, chip, order.transport_version, order.own_version)
    secure = yield from open_channel(link, terms, order.own_version)
    note(Step.KEYS_LOADED)
    yield from _advance(secure, (CardLifeCycle.INITIALIZED,))
    yield from _store(secure, order.data)
    note(Step.DATA_STORED)
    yield from _advance(secure, (CardLifeCycle.INITIALIZED, CardLifeCycle.SECURED))
    own = terms.key_ring.static_keys(order.own_version, secure.channel.offer.diversification)
    secure.channel.close()
    note(Step.SECURED)
    values = {name: key.check_value() for name, key in zip(("enc", "mac", "dek"), own.keys, strict=True)}
    values |= {f"{key.purpose.name.lower()}-{key.version}": key.key.check_value() for key in order.data.keys}
    shown = {name: value.hex().upper() for name, value in values.items()}
    return Receipt(chip.serial, identity.address, order.own_version, shown)


def lock_application(link: Processor, terms: ChannelTerms, version: int, *, locked: bool) -> Dialogue[None]:
    """Lock the conditional-access application of a personalised card, or unlock it."""
    yield from read_chip(link, terms.manager_aid)
    secure = yield from open_channel(link, terms, version)
    aid, _ = yield from _registry(secure, StatusScope.APPLICATION)
    yield from _confirmed(secure, "SET STATUS", set_status(StatusScope.APPLICATION, 0x8F if locked else 0x0F, aid))
    secure.channel.close()


def set_card_state(link: Processor, terms: ChannelTerms, version: int, state: CardLifeCycle) -> Dialogue[None]:
    """Bring a card to CARD_LOCKED, back to SECURED, or to TERMINATED, from which nothing brings it back.

    SELECT is not looked at: a locked card answers it with a warning.
    """
    yield from link.exchange(select(terms.manager_aid))
    secure = yield from open_channel(link, terms, version)
    yield from _confirmed(secure, "SET STATUS", set_status(StatusScope.CARD, state, terms.manager_aid))
    secure.channel.close()


def _demand_encryption(terms: ChannelTerms) -> None:
    if not terms.level.command_encryption:
        raise WeakChannelError(
            f"keys do not go over a channel of level {terms.level:02X}: it does not encrypt commands"
        )


def _load_keys(link: Processor, terms: ChannelTerms, chip: ChipReading, leaving: int, coming: int) -> Dialogue[None]:
    """PUT KEY of a new set in the place of the one that opens the channel."""
    if leaving not in chip.key_versions:
        there = ", ".join(f"{version:02X}" for version in chip.key_versions) or "none"
        raise KeySetUnknownError(f"the card has neither key set {coming:02X} nor {leaving:02X}, but {there}", leaving)
    secure = yield from open_channel(link, terms, leaving)
    keys = terms.key_ring.static_keys(coming, secure.channel.offer.diversification)
    put = put_keys(secure.channel, 0 if leaving == INITIAL_VERSION else leaving, keys)
    answer = yield from secure.exchange(put.command)
    put.check(demand_ok("PUT KEY", answer))
    secure.channel.close()


def _store(secure: SecureMessaging, data: PersonalData) -> Dialogue[None]:
    aid, _ = yield from _registry(secure, StatusScope.APPLICATION)
    yield from _confirmed(secure, "INSTALL", install_for_personalisation(aid))
    groups = encode_personal_data(data, secure.channel.encrypt_sensitive)
    for block in store_data(groups, secure.channel.data_max):
        answer = yield from secure.exchange(block)
        if answer.sw == GpStatusWord.CONDITIONS_NOT_SATISFIED:
            raise OtherIdentityError("this card is personalised with another number, issuer, AID or other keys")
        demand_ok("STORE DATA", answer)


def _advance(secure: SecureMessaging, path: tuple[CardLifeCycle, ...]) -> Dialogue[None]:
    """Bring the card's life forward along `path`; states behind it are left alone."""
    _, state = yield from _registry(secure, StatusScope.CARD)
    for target in path:
        if state < target:
            yield from _confirmed(secure, "SET STATUS", set_status(StatusScope.CARD, target, b""))


def _registry(secure: SecureMessaging, scope: StatusScope) -> Dialogue[tuple[bytes, int]]:
    answer = yield from secure.exchange(get_status(scope))
    entries = decode_status(demand_ok("GET STATUS", answer))
    if len(entries) != 1:
        raise EncodingError(f"GET STATUS gave {len(entries)} entries, one was expected")
    return entries[0].aid, entries[0].life_cycle


def _confirmed(secure: SecureMessaging, name: str, command: CommandApdu) -> Dialogue[None]:
    demand_ok(name, (yield from secure.exchange(command)))
