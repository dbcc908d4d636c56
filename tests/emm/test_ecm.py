"""ECMs: published vectors by both implementations, who opens them, and what arrives from outside."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from emm.ecm import (
    EcmHeader,
    EcmSealer,
    Parity,
    ecm_key,
    ecm_size,
    open_by_rights,
    open_ecm,
    parse_ecm,
    products_max,
    unwrap,
    wrap,
)
from emm.errors import AuthenticationError, BuildError, DecodeError, NotEntitledError, Refusal
from emm.keys import ECM_KEY_LABEL, KeyLadder, LocalMasterKey, derive
from emm.payload import ProductKeys, RightsBlock
from emm.secret import Secret
from tests.support import emm_strategies as some
from tests.support import reference_formats as reference
from tests.support.vectors import load_vectors

VECTORS = load_vectors("ecm.json")
MASTER = bytes.fromhex(VECTORS["master_key"])
LADDER = KeyLadder(LocalMasterKey(MASTER))
SEALER = EcmSealer(LADDER)
SESSION_KEY = bytes(range(16))
WORDS = [bytes(range(8)), bytes(range(8, 16))]
HEADER = EcmHeader(Parity.EVEN, 1_000, 7, 3)
SECTION = SEALER.seal(HEADER, [1, 2], WORDS, SESSION_KEY)


@pytest.mark.parametrize("vector", VECTORS["ecms"], ids=lambda vector: str(vector["name"]))
def test_published_ecms(vector: dict[str, Any]) -> None:
    regions = tuple(vector.get("regions", ()))
    header = EcmHeader(Parity(vector["table_id"]), vector["time"], vector["service_id"], vector["epoch"], regions)
    words = [bytes.fromhex(word) for word in vector["control_words"]]
    session_key = bytes.fromhex(vector["session_key"])
    section = SEALER.seal(header, vector["product_ids"], words, session_key)
    assert section.hex() == vector["section"]
    numbers = (vector["table_id"], vector["time"], vector["service_id"], vector["epoch"])
    assert reference.ecm(MASTER, *numbers, vector["product_ids"], words, session_key, regions) == section
    assert reference.kdf(session_key, b"cad ecm key", section[10:12], 32).hex() == vector["ecm_key"]
    ecm = parse_ecm(section)
    assert [key.wrapped.hex() for key in ecm.keys] == vector["wrapped"]
    for product_id in vector["product_ids"]:
        key = reference.product_key(MASTER, product_id, vector["epoch"])
        assert reference.open_ecm(section, product_id, key) == words
        assert list(open_ecm(ecm, product_id, key)) == words


@given(
    some.ECM_HEADERS,
    st.sets(some.PRODUCT_IDS, min_size=1, max_size=10),
    st.integers(1, 2),
    st.sampled_from([8, 16]),
    st.binary(min_size=16, max_size=16),
    st.randoms(use_true_random=False),
)
def test_every_holder_of_a_product_opens_the_ecm(
    header: EcmHeader, products: set[int], count: int, size: int, session_key: bytes, rng: Any
) -> None:
    words = [rng.randbytes(size) for _ in range(count)]
    section = SEALER.seal(header, products, words, session_key)
    assert len(section) == ecm_size(len(products), count, size) <= 256
    ecm = parse_ecm(section)
    assert (ecm.header, ecm.word_count, ecm.word_size) == (header, count, size)
    assert ecm.product_ids == tuple(sorted(products))
    for product_id in products:
        assert reference.open_ecm(section, product_id, LADDER.product_key(product_id, header.epoch)) == words
        assert list(open_ecm(ecm, product_id, LADDER.product_key(product_id, header.epoch))) == words


@given(st.binary(min_size=16, max_size=16), st.integers(0, 0xFFFF))
def test_the_key_of_an_ecm_is_that_of_the_key_derivation(session_key: bytes, epoch: int) -> None:
    expected = derive(cmac_under(session_key), ECM_KEY_LABEL, epoch.to_bytes(2, "big"), 32)
    assert ecm_key(session_key, epoch) == expected


def cmac_under(key: bytes) -> Callable[[bytes], bytes]:
    def prf(message: bytes) -> bytes:
        context = CMAC(AES(key))
        context.update(message)
        return context.finalize()

    return prf


@given(st.binary(max_size=300) | st.binary(max_size=256).map(lambda rest: b"\x80\x70" + rest))
def test_any_bytes_are_an_ecm_or_a_decode_error(data: bytes) -> None:
    try:
        ecm = parse_ecm(data)
    except DecodeError:
        return
    assert ecm.associated_data + ecm.tag + ecm.ciphertext == data


@given(st.data())
def test_one_changed_bit_anywhere_opens_nothing(data: st.DataObject) -> None:
    section = bytearray(SECTION)
    bit = data.draw(st.integers(0, len(section) * 8 - 1))
    section[bit // 8] ^= 1 << bit % 8
    with pytest.raises((DecodeError, AuthenticationError, NotEntitledError)):
        open_ecm(parse_ecm(bytes(section)), 2, LADDER.product_key(2, 3))


@given(st.integers(0, len(SECTION) - 1))
def test_cut_ecms_are_refused(size: int) -> None:
    with pytest.raises(DecodeError):
        parse_ecm(SECTION[:size])


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, 0x82, "table_id"),
        (1, 0xF0, "section_syntax_indicator"),
        (2, 0x00, "section_length"),
        (3, 3, "format 3"),
        (3, 2, "too short|regions"),
        (12, 0, "control words|product"),
        (49, 0x30, "control words of kind 0x30"),
        (49, 0x00, "control words of kind 0x00"),
        (49, 0x22, "control words of kind 0x22"),
        (49, 0x10, "16 bytes are not 1 control words of 8"),
    ],
)
def test_what_is_wrong_with_an_ecm_is_said(offset: int, value: int, reason: str) -> None:
    changed = bytearray(SECTION)
    changed[offset] = value
    with pytest.raises(DecodeError, match=reason):
        parse_ecm(bytes(changed))


def test_an_ecm_without_products_is_refused() -> None:
    section = bytes.fromhex("8070000100000001000100010020") + bytes(32)
    section = section[:2] + bytes([len(section) - 3]) + section[3:]
    with pytest.raises(DecodeError, match="without a product"):
        parse_ecm(section)


def test_how_many_products_a_service_may_be_in() -> None:
    assert products_max() == products_max(2, 8) == 11
    assert products_max(2, 16) == 10
    assert len(SEALER.seal(HEADER, range(1, 12), WORDS, SESSION_KEY)) == 244
    with pytest.raises(BuildError, match="at most 11 products"):
        SEALER.seal(HEADER, range(1, 13), WORDS, SESSION_KEY)
    # ISO/IEC 13818-1: a packet has 184 bytes of payload, of which pointer_field takes one.
    assert ecm_size(7, 2, 8) <= 183 < ecm_size(8, 2, 8)


@pytest.mark.parametrize(
    ("header", "products", "words", "session_key"),
    [
        (HEADER, [], WORDS, SESSION_KEY),
        (HEADER, [0], WORDS, SESSION_KEY),
        (HEADER, [65536], WORDS, SESSION_KEY),
        (HEADER, [1, 1], WORDS, SESSION_KEY),
        (HEADER, [1], [], SESSION_KEY),
        (HEADER, [1], [bytes(8)] * 3, SESSION_KEY),
        (HEADER, [1], [bytes(9)], SESSION_KEY),
        (HEADER, [1], [bytes(8), bytes(16)], SESSION_KEY),
        (HEADER, [1], WORDS, bytes(32)),
        (EcmHeader(Parity.ODD, -1, 1, 1), [1], WORDS, SESSION_KEY),
        (EcmHeader(Parity.ODD, 1 << 32, 1, 1), [1], WORDS, SESSION_KEY),
        (EcmHeader(Parity.ODD, 1, 65536, 1), [1], WORDS, SESSION_KEY),
        (EcmHeader(Parity.ODD, 1, 1, 65536), [1], WORDS, SESSION_KEY),
    ],
)
def test_ecms_that_cannot_be_said_are_refused(
    header: EcmHeader, products: list[int], words: list[bytes], session_key: bytes
) -> None:
    with pytest.raises(BuildError):
        SEALER.seal(header, products, words, session_key)


def _held(product_id: int, start: int, end: int, first_epoch: int, count: int = 1) -> RightsBlock:
    keys = tuple(LADDER.product_key(product_id, first_epoch + index) for index in range(count))
    return RightsBlock(start, end, first_epoch, (ProductKeys(product_id, keys),))


@pytest.mark.parametrize(
    "rights",
    [
        [_held(1, 0, 1_001, 3)],
        [_held(1, 1_000, 1_001, 3)],
        [_held(2, 0, 5_000, 2, 2)],
        [_held(9, 0, 5_000, 3), _held(1, 0, 1_000, 3), _held(1, 1_000, 2_000, 3)],
        [RightsBlock(0, 5_000, 3, (ProductKeys(1, (Secret(b"not the right ke"),)),)), _held(2, 0, 5_000, 3)],
    ],
)
def test_rights_that_open(rights: list[RightsBlock]) -> None:
    assert list(open_by_rights(parse_ecm(SECTION), rights)) == WORDS


@pytest.mark.parametrize(
    ("rights", "refusal"),
    [
        ([], Refusal.NO_PRODUCT),
        ([_held(3, 0, 5_000, 3)], Refusal.NO_PRODUCT),
        ([_held(1, 0, 1_000, 3)], Refusal.OUTSIDE_WINDOW),
        ([_held(1, 1_001, 5_000, 3), _held(3, 0, 5_000, 3)], Refusal.OUTSIDE_WINDOW),
        ([_held(1, 0, 5_000, 4, 2)], Refusal.NO_KEY),
        ([_held(1, 0, 5_000, 1, 2)], Refusal.NO_KEY),
        ([_held(1, 0, 5_000, 2), _held(2, 0, 1_000, 3)], Refusal.NO_KEY),
    ],
)
def test_rights_that_do_not_open_say_why(rights: list[RightsBlock], refusal: Refusal) -> None:
    with pytest.raises(NotEntitledError) as caught:
        open_by_rights(parse_ecm(SECTION), rights)
    assert caught.value.refusal is refusal
    assert str(caught.value)


def test_a_right_with_a_false_key_opens_nothing() -> None:
    block = RightsBlock(0, 5_000, 3, (ProductKeys(1, (LADDER.product_key(1, 4),)),))
    with pytest.raises(AuthenticationError):
        open_by_rights(parse_ecm(SECTION), [block])


def test_a_card_unwraps_with_the_forward_cipher() -> None:
    wrapped = wrap(SESSION_KEY, LADDER.product_key(1, 3))
    assert reference.aes_encrypt(LADDER.product_key(1, 3), wrapped) == SESSION_KEY
    assert unwrap(wrapped, LADDER.product_key(1, 3)) == SESSION_KEY


def test_control_words_do_not_show_themselves() -> None:
    opened = open_ecm(parse_ecm(SECTION), 1, LADDER.product_key(1, 3))
    assert repr(opened) == "(<secret of 8 bytes>, <secret of 8 bytes>)"


def test_an_envelope_made_ahead_gives_the_same_ecm_and_only_one() -> None:
    envelope = SEALER.envelope([2, 1], HEADER.epoch, SESSION_KEY)
    assert SEALER.seal_in(envelope, HEADER, WORDS) == SECTION
    with pytest.raises(BuildError, match="an envelope is for one ECM"):
        SEALER.seal_in(envelope, HEADER, WORDS)


def test_an_envelope_of_another_epoch_is_refused() -> None:
    with pytest.raises(BuildError, match="envelope of epoch 4 is not for an ECM of epoch 3"):
        SEALER.seal_in(SEALER.envelope([1], 4, SESSION_KEY), HEADER, WORDS)


def test_an_envelope_does_not_show_its_key() -> None:
    envelope = SEALER.envelope([1], 3, SESSION_KEY)
    assert repr(envelope) == "<Envelope for 1 products in epoch 3>"


@given(st.sets(st.integers(0, 0xFFFF), min_size=1, max_size=60), st.sets(some.PRODUCT_IDS, min_size=1, max_size=5))
def test_a_blackout_is_read_back_and_holds_for_the_regions_it_names(regions: set[int], products: set[int]) -> None:
    named = tuple(sorted(regions))
    header = EcmHeader(Parity.EVEN, 1_000, 7, 3, named)
    section = SEALER.seal(header, products, WORDS, SESSION_KEY)
    assert len(section) == ecm_size(len(products), 2, 8, len(named)) <= 256
    ecm = parse_ecm(section)
    assert (ecm.header, section[3]) == (header, 2)
    product = min(products)
    held = RightsBlock(0, 2_000, 3, (ProductKeys(product, (LADDER.product_key(product, 3),)),))
    assert reference.open_ecm(section, product, LADDER.product_key(product, 3)) == WORDS
    for region in {*named, *(number for number in (0, 1, 0xFFFF) if number not in regions)}:
        if region in regions:
            with pytest.raises(NotEntitledError) as refused:
                open_by_rights(ecm, [held], region)
            assert refused.value.refusal is Refusal.BLACKED_OUT
        else:
            assert list(open_by_rights(ecm, [held], region)) == WORDS


@pytest.mark.parametrize("regions", [(7, 7), (8, 7), (0x10000,), (-1,), tuple(range(300))])
def test_regions_that_no_ecm_can_name(regions: tuple[int, ...]) -> None:
    with pytest.raises(BuildError):
        SEALER.seal(EcmHeader(Parity.EVEN, 1_000, 7, 3, regions), [1], WORDS, SESSION_KEY)


@pytest.mark.parametrize("regions", ["00", "020007", "0200070007", "0200080007", "01"])
def test_regions_that_are_not_as_they_should_be_are_refused(regions: str) -> None:
    whole = SEALER.seal(EcmHeader(Parity.EVEN, 1_000, 7, 3, (7,)), [1], WORDS, SESSION_KEY)
    spoilt = whole[:32] + bytes.fromhex(regions) + whole[35:]
    spoilt = spoilt[:1] + (0x7000 | len(spoilt) - 3).to_bytes(2, "big") + spoilt[3:]
    with pytest.raises(DecodeError):
        parse_ecm(spoilt)
