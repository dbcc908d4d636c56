"""ECMs: the control words of a service, for the holders of any of its products. docs/ecm.md is the same in prose."""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import Final

from construct import (
    Bytes,
    ConstructError,
    GreedyBytes,
    If,
    Int8ub,
    Int16ub,
    Int32ub,
    PrefixedArray,
    Struct,
    Terminated,
    this,
)
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC

from emm.errors import AuthenticationError, BuildError, DecodeError, NotEntitledError, Refusal
from emm.keys import ECM_KEY_LABEL, KeyLadder
from emm.message import (
    FORMAT,
    SECTION_HEAD_SIZE,
    SECTION_MAX,
    SHORT_SECTION,
    TAG_SIZE,
    check_section_length,
)
from emm.payload import RightsBlock
from emm.secret import KEY_SIZE, SIV_KEY_SIZE, Secret

BLACKOUT_FORMAT: Final = 2
"""Of ECMs that name regions in which the service is blacked out; all others are of format 1."""
FORMATS: Final = (FORMAT, BLACKOUT_FORMAT)
HEAD_SIZE: Final = 14
"""Everything before the tag but the wrapped keys and the regions."""

WRAPPED_SIZE: Final = 2 + KEY_SIZE
WORD_SIZES: Final = (8, 16)
WORDS_MAX: Final = 2
_WRAPPERS_CACHED: Final = 4096
_BLOCK_1: Final = bytes([0, 0, 0, 1])
_BLOCK_2: Final = bytes([0, 0, 0, 2])
_ECM_KEY_FIXED: Final = ECM_KEY_LABEL + bytes(1)
_ECM_KEY_BITS: Final = (SIV_KEY_SIZE * 8).to_bytes(4, "big")


class Parity(IntEnum):
    """The table_id says which parity the first control word has; a scrambler acts when it toggles."""

    EVEN = 0x80
    ODD = 0x81


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The session key, for those who hold the key of `product_id`."""

    product_id: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class EcmHeader:
    """What an ECM says in clear. `time`: UTC seconds, the card's only clock.

    `regions`: those in which the service is blacked out, rising; 0 stands for cards without a region.
    """

    parity: Parity
    time: int
    service_id: int
    epoch: int
    regions: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedEcm:
    """An ECM as received. `associated_data` is everything before the tag, byte for byte."""

    header: EcmHeader
    keys: tuple[WrappedKey, ...]
    word_count: int
    word_size: int
    associated_data: bytes
    tag: bytes
    ciphertext: bytes

    @property
    def product_ids(self) -> tuple[int, ...]:
        """The products that open the service."""
        return tuple([key.product_id for key in self.keys])


_HEAD: Final = Struct(
    "table_id" / Int8ub,
    "flags_and_length" / Int16ub,
    "format" / Int8ub,
    "time" / Int32ub,
    "service_id" / Int16ub,
    "epoch" / Int16ub,
    "wrapped_keys" / PrefixedArray(Int8ub, Struct("product_id" / Int16ub, "wrapped" / Bytes(KEY_SIZE))),
    "word_info" / Int8ub,
    "regions" / If(this.format == BLACKOUT_FORMAT, PrefixedArray(Int8ub, Int16ub)),
)
_SECTION: Final = Struct("head" / _HEAD, "tag" / Bytes(TAG_SIZE), "ciphertext" / GreedyBytes, Terminated)
# The same as _HEAD by hand, for every ECM on the air; what `parse_ecm` reads by the declaration is its test.
_HEAD_START: Final = struct.Struct(">BHBIHHB")
_WRAPPED: Final = struct.Struct(f">H{KEY_SIZE}s")
_WORD_INFO: Final = {
    (count, size): bytes([count << 4 | code])
    for count in range(1, WORDS_MAX + 1)
    for code, size in enumerate(WORD_SIZES)
}


def ecm_size(product_count: int, word_count: int, word_size: int, region_count: int = 0) -> int:
    """Return the bytes of an ECM section for so many products, control words and blacked-out regions."""
    blackout = 1 + 2 * region_count if region_count else 0
    return HEAD_SIZE + product_count * WRAPPED_SIZE + blackout + TAG_SIZE + word_count * word_size


def products_max(word_count: int = WORDS_MAX, word_size: int = WORD_SIZES[0], region_count: int = 0) -> int:
    """Return how many products an ECM with such control words can name (11 with two words of 8 bytes)."""
    return (SECTION_MAX - ecm_size(0, word_count, word_size, region_count)) // WRAPPED_SIZE


class Envelope:
    """A session key wrapped for some products in one epoch, ready for the control words of one ECM."""

    __slots__ = ("_encrypt", "count", "epoch", "wrapped")

    def __init__(self, epoch: int, count: int, wrapped: bytes, session_key: bytes) -> None:
        self.epoch = epoch
        self.count = count
        self.wrapped = wrapped
        self._encrypt: Callable[[bytes, list[bytes]], bytes] | None = AESSIV(ecm_key(session_key, epoch)).encrypt

    def __repr__(self) -> str:
        return f"<Envelope for {self.count} products in epoch {self.epoch}>"

    def close(self, words: bytes, head: bytes) -> bytes:
        """Return tag and ciphertext. Raises `BuildError` the second time: a session key is for one ECM."""
        encrypt, self._encrypt = self._encrypt, None
        if encrypt is None:
            raise BuildError("an envelope is for one ECM")
        return encrypt(words, [head])


class EcmSealer:
    """Makes the ECMs of a headend from the same keys as its EMMs."""

    def __init__(self, ladder: KeyLadder) -> None:
        self._product_key = ladder.product_key
        self._wrapper = lru_cache(maxsize=_WRAPPERS_CACHED)(self._make_wrapper)

    def __repr__(self) -> str:
        return "<EcmSealer>"

    def seal(
        self, header: EcmHeader, product_ids: Iterable[int], control_words: Sequence[bytes], session_key: bytes
    ) -> bytes:
        """Return the ECM section that gives one or two control words to the holders of any of these products.

        The first word is of the header's parity, the second of the other. `session_key`: 16 fresh random bytes, used
        for no other ECM. Raises `BuildError`.
        """
        return self.seal_in(self.envelope(product_ids, header.epoch, session_key), header, control_words)

    def envelope(self, product_ids: Iterable[int], epoch: int, session_key: bytes) -> Envelope:
        """Do all of `seal` that needs neither control words nor time. Raises `BuildError`."""
        ids = sorted(product_ids)
        if len(session_key) != KEY_SIZE:
            raise BuildError(f"a session key has {KEY_SIZE} bytes, not {len(session_key)}")
        if len(set(ids)) != len(ids) or not ids or ids[0] < 1:
            raise BuildError("the products of an ECM are one or more different numbers from 1 on")
        wrapped = b"".join([_WRAPPED.pack(each, self._wrapper(each, epoch)(session_key)) for each in ids])
        return Envelope(epoch, len(ids), wrapped, session_key)

    def seal_in(self, envelope: Envelope, header: EcmHeader, control_words: Sequence[bytes]) -> bytes:
        """Return the ECM section of these control words, in an envelope of the header's epoch. Raises `BuildError`."""
        word_size = _word_size(control_words)
        size = ecm_size(envelope.count, len(control_words), word_size, len(header.regions))
        if size > SECTION_MAX:
            raise _too_many(envelope.count, len(header.regions), len(control_words), word_size)
        if envelope.epoch != header.epoch:
            raise BuildError(f"an envelope of epoch {envelope.epoch} is not for an ECM of epoch {header.epoch}")
        try:
            start = _HEAD_START.pack(
                int(header.parity),
                SHORT_SECTION | size - SECTION_HEAD_SIZE,
                BLACKOUT_FORMAT if header.regions else FORMAT,
                header.time,
                header.service_id,
                header.epoch,
                envelope.count,
            )
        except struct.error:
            raise BuildError(f"a number does not fit its field: {header}") from None
        head = start + envelope.wrapped + _WORD_INFO[len(control_words), word_size]
        if header.regions:
            head += _pack_regions(header.regions)
        return head + envelope.close(b"".join(control_words), head)

    def _make_wrapper(self, product_id: int, epoch: int) -> Callable[[bytes], bytes]:
        return _wrapper(self._product_key(product_id, epoch))


def parse_ecm(section: bytes) -> SealedEcm:
    """Return the ECM in a whole section, from table_id to its last byte. Raises `DecodeError`."""
    section = bytes(section)
    if not section or section[0] not in tuple(Parity):
        raise DecodeError("not an ECM: the table_id is neither 0x80 nor 0x81")
    try:
        fields = _SECTION.parse(section)
    except ConstructError:
        raise DecodeError(f"an ECM of {len(section)} bytes is too short for what it announces") from None
    head = fields.head
    check_section_length(head.flags_and_length, len(section))
    if head.format not in FORMATS:
        raise DecodeError(f"ECM format {head.format} is unknown; this version reads {' and '.join(map(str, FORMATS))}")
    regions = tuple(head.regions or ())
    if bool(regions) != (head.format == BLACKOUT_FORMAT) or not _rises(regions):
        raise DecodeError("the regions of an ECM are one or more different numbers that rise")
    if not head.wrapped_keys:
        raise DecodeError("an ECM without a product opens for nobody")
    word_count, size_code = divmod(head.word_info, 16)
    if not 1 <= word_count <= WORDS_MAX or size_code >= len(WORD_SIZES):
        raise DecodeError(f"control words of kind 0x{head.word_info:02X} are unknown")
    word_size = WORD_SIZES[size_code]
    if len(fields.ciphertext) != word_count * word_size:
        raise DecodeError(f"{len(fields.ciphertext)} bytes are not {word_count} control words of {word_size} bytes")
    return SealedEcm(
        EcmHeader(Parity(head.table_id), head.time, head.service_id, head.epoch, regions),
        tuple([WrappedKey(key.product_id, key.wrapped) for key in head.wrapped_keys]),
        word_count,
        word_size,
        section[: -TAG_SIZE - len(fields.ciphertext)],
        fields.tag,
        fields.ciphertext,
    )


def open_ecm(ecm: SealedEcm, product_id: int, product_key: bytes) -> tuple[Secret, ...]:
    """Return the control words for the holder of one product's key of the ECM's epoch.

    Raises `NotEntitledError` when the ECM does not name the product, `AuthenticationError` when its tag is not right.
    """
    wrapped = [key.wrapped for key in ecm.keys if key.product_id == product_id]
    if not wrapped:
        raise NotEntitledError(Refusal.NO_PRODUCT)
    siv = AESSIV(ecm_key(unwrap(wrapped[0], product_key), ecm.header.epoch))
    try:
        words = siv.decrypt(ecm.tag + ecm.ciphertext, [ecm.associated_data])
    except InvalidTag:
        raise AuthenticationError("the tag of the ECM does not verify") from None
    return tuple([Secret(words[start : start + ecm.word_size]) for start in range(0, len(words), ecm.word_size)])


def open_by_rights(ecm: SealedEcm, rights: Iterable[RightsBlock], region: int = 0) -> tuple[Secret, ...]:
    """Return the control words for a card that holds these rights: the rule by which a card opens or refuses.

    It opens when a product of the ECM is held in a window that contains the ECM's time, with a key of the ECM's epoch,
    the tag verifies, and the ECM does not name the card's region (0: it has none).
    Raises `NotEntitledError`, `AuthenticationError`.
    """
    refusal = Refusal.NO_PRODUCT
    failure: AuthenticationError | None = None
    named = set(ecm.product_ids)
    for block in rights:
        for product in block.products:
            if product.product_id not in named:
                continue
            index = ecm.header.epoch - block.first_epoch
            if not block.start <= ecm.header.time < block.end:
                refusal = max(refusal, Refusal.OUTSIDE_WINDOW)
            elif not 0 <= index < len(product.keys):
                refusal = max(refusal, Refusal.NO_KEY)
            else:
                try:
                    words = open_ecm(ecm, product.product_id, product.keys[index])
                except AuthenticationError as error:
                    failure = error
                    continue
                # Only now is it certain that the regions are the headend's word.
                if region in ecm.header.regions:
                    raise NotEntitledError(Refusal.BLACKED_OUT)
                return words
    raise failure or NotEntitledError(refusal)


def ecm_key(session_key: bytes, epoch: int) -> Secret:
    """Return the 32-byte AES-SIV key of one ECM: the same KDF as the key ladder's, under the session key."""
    # `emm.keys.derive` with its two blocks written out, for every ECM on the air.
    first = CMAC(AES(session_key))
    second = first.copy()
    context = _ECM_KEY_FIXED + epoch.to_bytes(2, "big") + _ECM_KEY_BITS
    first.update(_BLOCK_1 + context)
    second.update(_BLOCK_2 + context)
    return Secret(first.finalize() + second.finalize())


def wrap(session_key: bytes, product_key: bytes) -> bytes:
    """Return a session key wrapped by the inverse cipher, one block, so that a card needs only the forward one."""
    return _wrapper(product_key)(session_key)


def _wrapper(product_key: bytes) -> Callable[[bytes], bytes]:
    # One block comes out for each that goes in, and ECB keeps nothing between them: it can be used again.
    return Cipher(AES(product_key), ECB()).decryptor().update  # noqa: S305 - one random block


def unwrap(wrapped: bytes, product_key: bytes) -> Secret:
    """Return the session key; what was wrapped under another key comes out as noise, which the tag then refuses."""
    return Secret(Cipher(AES(product_key), ECB()).encryptor().update(wrapped))  # noqa: S305 - one random block


def _word_size(control_words: Sequence[bytes]) -> int:
    if not 1 <= len(control_words) <= WORDS_MAX or (size := len(control_words[0])) not in WORD_SIZES:
        raise BuildError("an ECM carries one or two control words of 8 or 16 bytes")
    if len(control_words[-1]) != size:
        raise BuildError("the control words of an ECM have one size")
    return size


def _pack_regions(regions: Sequence[int]) -> bytes:
    if not _rises(regions):
        raise BuildError("the regions of an ECM are different numbers that rise")
    try:
        return bytes([len(regions)]) + struct.pack(f">{len(regions)}H", *regions)
    except (struct.error, ValueError):
        raise BuildError("a region does not fit its field") from None


def _rises(regions: Sequence[int]) -> bool:
    return all(earlier < later for earlier, later in pairwise(regions))


def _too_many(products: int, regions: int, word_count: int, word_size: int) -> BuildError:
    size = ecm_size(products, word_count, word_size, regions)
    blackout = f" and {regions} blacked-out regions" if regions else ""
    return BuildError(
        f"{products} products{blackout} need an ECM of {size} bytes, but {SECTION_MAX} is the most: let the service be"
        f" in at most {products_max(word_count, word_size, regions)} products"
    )
