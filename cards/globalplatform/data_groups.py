"""What makes a chip one customer's card: the data groups of STORE DATA. Described in docs/personalisation.md."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cards.globalplatform.errors import EncodingError
from cards.globalplatform.scp03.keys import CHECK_VALUE_SIZE, AesKey
from cards.globalplatform.tlv import decode_groups, encode_groups
from cards.memory.contents import CardKeys
from emm.secret import Secret
from protocol import card_number
from protocol.errors import ProtocolError

ADDRESS_SIZE: Final = 5
CA_KEY_SIZE: Final = 32
ISSUER_SIZE_MAX: Final = 32
AID_SIZES: Final = range(5, 17)
_KEY_GROUP_SIZE: Final = 1 + CHECK_VALUE_SIZE + CA_KEY_SIZE


class Group(IntEnum):
    """Names of the data groups; those from 8000 on carry a key under Key-DEK."""

    ADDRESS = 0x0101
    PRINTED_NUMBER = 0x0102
    ISSUER = 0x0103
    APPLICATION_AID = 0x0104
    CARD_KEY = 0x8101
    GROUP_KEY = 0x8102
    GLOBAL_KEY = 0x8103


_IDENTITY: Final = (Group.ADDRESS, Group.PRINTED_NUMBER, Group.ISSUER, Group.APPLICATION_AID)


class KeyPurpose(IntEnum):
    """Whose EMMs a key of the conditional-access application opens: the card's, its group's of 256, everyone's."""

    CARD = Group.CARD_KEY
    GROUP = Group.GROUP_KEY
    GLOBAL = Group.GLOBAL_KEY


@dataclass(frozen=True, slots=True)
class CaKey:
    """One 32-byte key of the conditional-access application under its key version 0..255. Raises EncodingError."""

    purpose: KeyPurpose
    version: int
    key: AesKey

    def __post_init__(self) -> None:
        if not 0 <= self.version <= 0xFF:
            raise EncodingError(f"the version of a card's key is one byte, not {self.version}")
        if self.key.size != CA_KEY_SIZE:
            raise EncodingError(f"a key of the application has {CA_KEY_SIZE} bytes, not {self.key.size}")


@dataclass(frozen=True, slots=True)
class CardIdentity:
    """Who the card is, for life: address, issuer (1..32 bytes of UTF-8), AID it answers to. Raises EncodingError."""

    address: int
    issuer: str
    aid: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.address <= card_number.ADDRESS_MAX:
            raise EncodingError(f"a card address is 0..{card_number.ADDRESS_MAX}, not {self.address}")
        if not 1 <= len(self.issuer.encode()) <= ISSUER_SIZE_MAX or not self.issuer.isprintable():
            raise EncodingError(f"an issuer's name is 1..{ISSUER_SIZE_MAX} bytes of printable UTF-8")
        if len(self.aid) not in AID_SIZES:
            raise EncodingError(f"an AID has 5..16 bytes, not {len(self.aid)}")


def ca_keys(keys: CardKeys) -> tuple[CaKey, ...]:
    """The keys that the headend derived for a card, as data groups take them."""
    return (
        CaKey(KeyPurpose.CARD, keys.key_version, AesKey(keys.card_key)),
        CaKey(KeyPurpose.GROUP, keys.key_version, AesKey(keys.group_key)),
        CaKey(KeyPurpose.GLOBAL, keys.key_version, AesKey(keys.global_key)),
    )


@dataclass(frozen=True, slots=True)
class PersonalData:
    """Content of one run of STORE DATA. `identity` None: only keys, for a card that has its identity already."""

    identity: CardIdentity | None
    keys: tuple[CaKey, ...]

    @property
    def complete(self) -> bool:
        """Whether a card can live with this: an identity, and all three keys of every version in it, at least one."""
        purposes = {version: {k.purpose for k in self.keys if k.version == version} for version in self.versions}
        return self.identity is not None and bool(purposes) and all(p == set(KeyPurpose) for p in purposes.values())

    @property
    def versions(self) -> tuple[int, ...]:
        """The key versions, rising."""
        return tuple(sorted({key.version for key in self.keys}))

    def card_keys(self, version: int) -> CardKeys:
        """The keys of one version, as the conditional-access application holds them."""
        keys = {key.purpose: Secret(key.key.reveal()) for key in self.keys if key.version == version}
        if len(keys) != len(KeyPurpose):
            raise EncodingError(f"the keys of version {version} are not complete")
        return CardKeys(version, keys[KeyPurpose.CARD], keys[KeyPurpose.GROUP], keys[KeyPurpose.GLOBAL])


def encode_personal_data(data: PersonalData, encrypt: Callable[[bytes], bytes]) -> bytes:
    """The data groups; `encrypt` puts whole blocks under Key-DEK."""
    groups: list[tuple[int, bytes]] = []
    if data.identity is not None:
        address = data.identity.address
        groups += [
            (Group.ADDRESS, address.to_bytes(ADDRESS_SIZE, "big")),
            (Group.PRINTED_NUMBER, card_number.spell(address).encode("ascii")),
            (Group.ISSUER, data.identity.issuer.encode()),
            (Group.APPLICATION_AID, data.identity.aid),
        ]
    for key in data.keys:
        content = bytes((key.version,)) + key.key.check_value() + encrypt(key.key.reveal())
        groups.append((key.purpose, content))
    return encode_groups(groups)


def decode_personal_data(stream: bytes, decrypt: Callable[[bytes], bytes]) -> PersonalData:
    """The card's reading. Raises EncodingError on anything unknown, missing, doubled or not fitting together."""
    identity: dict[int, bytes] = {}
    keys: list[CaKey] = []
    for name, content in decode_groups(stream):
        if name in _IDENTITY and name not in identity:
            identity[name] = content
        elif name in set(KeyPurpose):
            keys.append(_decode_key(KeyPurpose(name), content, decrypt))
        else:
            raise EncodingError(f"data group {name:04X} is unknown or comes twice")
    if len({(key.purpose, key.version) for key in keys}) != len(keys):
        raise EncodingError("two keys of one purpose have the same version")
    return PersonalData(_decode_identity(identity) if identity else None, tuple(keys))


def _decode_identity(groups: dict[int, bytes]) -> CardIdentity:
    if len(groups) != len(_IDENTITY):
        raise EncodingError("address, printed number, issuer and AID come together")
    if len(groups[Group.ADDRESS]) != ADDRESS_SIZE:
        raise EncodingError(f"a card address has {ADDRESS_SIZE} bytes")
    try:
        issuer = groups[Group.ISSUER].decode("utf-8")
        printed = card_number.parse(groups[Group.PRINTED_NUMBER].decode("ascii"))
    except (UnicodeDecodeError, ProtocolError):
        raise EncodingError("the issuer is not UTF-8, or the printed number is not a card number") from None
    identity = CardIdentity(int.from_bytes(groups[Group.ADDRESS], "big"), issuer, groups[Group.APPLICATION_AID])
    if printed != identity.address:
        raise EncodingError("the printed number is not that of the address")
    return identity


def _decode_key(purpose: KeyPurpose, content: bytes, decrypt: Callable[[bytes], bytes]) -> CaKey:
    if len(content) != _KEY_GROUP_SIZE:
        raise EncodingError(f"a key group has {_KEY_GROUP_SIZE} bytes, not {len(content)}")
    key = AesKey(decrypt(content[1 + CHECK_VALUE_SIZE :]))
    if not hmac.compare_digest(key.check_value(), content[1 : 1 + CHECK_VALUE_SIZE]):
        raise EncodingError("a key does not fit its key check value")
    return CaKey(purpose, content[0], key)
