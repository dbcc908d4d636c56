"""TLVs, data groups and the commands of card management: what is built is read again, and nonsense is refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.apdu import CommandApdu
from cards.globalplatform.commands import (
    KeyInformation,
    RegistryEntry,
    StatusScope,
    decode_key_blocks,
    decode_key_information,
    decode_status,
    encode_key_information,
    encode_status,
    get_data,
    get_status,
    install_for_personalisation,
    put_keys,
    select,
    set_status,
    store_data,
)
from cards.globalplatform.data_groups import (
    CaKey,
    CardIdentity,
    KeyPurpose,
    PersonalData,
    ca_keys,
    decode_personal_data,
    encode_personal_data,
)
from cards.globalplatform.errors import EncodingError, GlobalPlatformError, KeyCheckError
from cards.globalplatform.scp03.keys import AesKey
from cards.globalplatform.status_word import EXPLANATIONS, GpStatusWord, explain, is_failed_try, tries_remaining
from cards.globalplatform.tlv import decode_groups, decode_tlvs, encode_groups, encode_tlv
from tests.support.cards import ADDRESS, KEYS
from tests.support.globalplatform import DATA, IDENTITY, INITIAL_VERSION, OWN, Reader, static_keys, stock

DEK = AesKey(bytes(range(16)))
FEW = settings(max_examples=40, deadline=None)
tags = st.sampled_from((0x4F, 0x45, 0xE0, 0xE3, 0x6F, 0x9F70, 0x9F65, 0xDF20))
values = st.one_of(st.binary(max_size=40), st.integers(0x7E, 0x102).map(bytes))


@FEW
@given(st.lists(st.tuples(tags, values), max_size=4))
def test_tlvs_are_read_as_they_were_written(tlvs: list[tuple[int, bytes]]) -> None:
    assert decode_tlvs(b"".join(encode_tlv(tag, value) for tag, value in tlvs)) == tlvs


@FEW
@given(st.binary(max_size=60))
def test_any_bytes_are_tlvs_or_our_own_error(data: bytes) -> None:
    for decode in (decode_tlvs, decode_groups, decode_status, decode_key_information):
        try:
            decode(data)
        except EncodingError:
            continue


@FEW
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.one_of(values, st.just(bytes(300)))), max_size=4))
def test_data_groups_are_read_as_they_were_written(groups: list[tuple[int, bytes]]) -> None:
    assert decode_groups(encode_groups(groups)) == groups


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(EncodingError):
        encode_tlv(0x4F, bytes(0x10000))
    with pytest.raises(EncodingError):
        encode_groups([(0x0101, bytes(0x10000))])


@pytest.mark.slow
@FEW
@given(cut=st.integers(1, 200))
def test_cut_groups_and_tlvs_are_refused(cut: int) -> None:
    for whole, decode in (
        (encode_groups([(1, bytes(300))]), decode_groups),
        (encode_tlv(0x9F70, bytes(300)), decode_tlvs),
    ):
        with pytest.raises(EncodingError):
            decode(whole[:-cut])


def test_commands_are_those_of_the_specification() -> None:
    aid = bytes.fromhex("A000000151000000")
    assert select(aid).encode().hex() == "00a4040008a00000015100000000"
    assert select(b"").encode().hex() == "00a4040000"
    assert get_data(0xE0).encode().hex() == "80ca00e000"
    assert get_status(StatusScope.CARD).encode().hex() == "80f28002024f0000"
    assert set_status(StatusScope.CARD, 0x0F, b"").encode().hex() == "80f0800f00"
    assert install_for_personalisation(aid).encode().hex() == "80e620000e000008a00000015100000000000000"


def test_store_data_numbers_its_blocks_and_marks_the_last() -> None:
    blocks = store_data(bytes(range(100)), 40)
    assert [(b.p1, b.p2, len(b.data)) for b in blocks] == [(0x28, 0, 40), (0x28, 1, 40), (0xA8, 2, 20)]
    assert store_data(b"", 40) == [CommandApdu(0x80, 0xE2, 0xA8, 0, b"", 256)]
    with pytest.raises(EncodingError, match="256"):
        store_data(bytes(257), 1)


@pytest.mark.parametrize(("size", "wrapped"), [(16, 16), (24, 32), (32, 32)])
def test_put_key_carries_type_lengths_and_check_values(size: int, wrapped: int) -> None:
    channel = Reader(stock(size=16)[0]).open(INITIAL_VERSION).channel
    keys = static_keys(OWN, size=size)
    put = put_keys(channel, 0x30, keys)
    assert (put.command.ins, put.command.p1, put.command.p2) == (0xD8, 0x30, 0x81)
    block = put.command.data[1 : 1 + 3 + wrapped + 4]
    assert block[:3] == bytes((0x88, 1 + wrapped, size))
    assert block[3 + wrapped :] == b"\x03" + keys.enc.check_value()
    version, read = decode_key_blocks(put.command.data, static_keys(INITIAL_VERSION).dek)
    assert (version, tuple(read)) == (OWN, keys.keys)
    put.check(bytes((OWN,)) + b"".join(key.check_value() for key in keys.keys))


@FEW
@given(st.data())
def test_put_key_believes_no_other_echo(data: st.DataObject) -> None:
    put = put_keys(Reader(stock()[0]).open(INITIAL_VERSION).channel, 0, static_keys(OWN))
    right = put.expected
    bit = data.draw(st.integers(0, 8 * len(right) - 1))
    wrong = bytearray(right)
    wrong[bit // 8] ^= 1 << bit % 8
    for echo in (bytes(wrong), right[:-1], right + b"\0", b""):
        with pytest.raises(KeyCheckError):
            put.check(echo)


@FEW
@given(st.binary(max_size=120))
def test_any_put_key_data_is_keys_or_our_own_error(data: bytes) -> None:
    try:
        decode_key_blocks(data, DEK)
    except GlobalPlatformError:
        return
    assert len(data) == 1  # only a version without keys can be right by chance


def test_registry_and_key_information_are_read_as_they_were_written() -> None:
    entries = [RegistryEntry(b"12345", 0x0F), RegistryEntry(b"123456", 0x7F)]
    assert decode_status(encode_status(entries)) == entries
    keys = [KeyInformation(1, 0x30, 0x88, 16), KeyInformation(2, 0x30, 0x88, 16)]
    assert decode_key_information(encode_key_information(keys)) == keys


@pytest.mark.parametrize("wrong", ["4f00", "e302" + "4f00", "e3059f70014f00"])
def test_incomplete_registry_entries_are_refused(wrong: str) -> None:
    with pytest.raises(EncodingError):
        decode_status(bytes.fromhex(wrong))


@pytest.mark.parametrize("wrong", ["4f00", "e002c100", "e004c0020130"])
def test_incomplete_key_information_is_refused(wrong: str) -> None:
    with pytest.raises(EncodingError):
        decode_key_information(bytes.fromhex(wrong))


@pytest.mark.slow
@FEW
@given(
    address=st.integers(0, 99_999_999_999),
    issuer=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8),
    aid=st.binary(min_size=5, max_size=16),
    secrets=st.lists(st.binary(min_size=32, max_size=32), min_size=3, max_size=3),
    version=st.integers(0, 255),
)
def test_personal_data_is_read_as_it_was_written(
    address: int, issuer: str, aid: bytes, secrets: list[bytes], version: int
) -> None:
    keys = tuple(CaKey(purpose, version, AesKey(secret)) for purpose, secret in zip(KeyPurpose, secrets, strict=True))
    data = PersonalData(CardIdentity(address, issuer, aid), keys)
    stream = encode_personal_data(data, DEK.encrypt_cbc)
    assert decode_personal_data(stream, DEK.decrypt_cbc) == data
    assert data.complete
    assert not any(secret in stream for secret in secrets)


@FEW
@given(st.binary(max_size=120))
def test_any_stream_is_personal_data_or_our_own_error(stream: bytes) -> None:
    try:
        decode_personal_data(stream, DEK.decrypt_cbc)
    except GlobalPlatformError:
        return
    assert stream == b""


@FEW
@given(st.data())
def test_a_changed_bit_of_the_stream_is_refused_or_seen(data: st.DataObject) -> None:
    stream = bytearray(encode_personal_data(DATA, DEK.encrypt_cbc))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(GlobalPlatformError):
        assert decode_personal_data(bytes(stream), DEK.decrypt_cbc) != DATA


def groups_without(*names: int) -> bytes:
    groups = decode_groups(encode_personal_data(DATA, DEK.encrypt_cbc))
    return encode_groups((name, content) for name, content in groups if name not in names)


@pytest.mark.parametrize("name", [0x0101, 0x0102, 0x0103, 0x0104])
def test_an_identity_with_a_part_missing_is_refused(name: int) -> None:
    with pytest.raises(EncodingError, match="together"):
        decode_personal_data(groups_without(name), DEK.decrypt_cbc)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (0x0101, bytes(4)),
        (0x0101, (100_000_000_000).to_bytes(5, "big")),
        (0x0102, b"123456789017"),
        (0x0102, b"000000000000"),
        (0x0102, "１２３４５６".encode()),
        (0x0103, b""),
        (0x0103, b"\xff\xfe"),
        (0x0103, b"bell\x07"),
        (0x0103, b"x" * 33),
        (0x0104, b"1234"),
        (0x8101, bytes(35)),
        (0x8101, bytes(36)),
        (0x7777, b""),
    ],
)
def test_wrong_groups_are_refused(name: int, content: bytes) -> None:
    with pytest.raises(EncodingError):
        decode_personal_data(groups_without(name) + encode_groups([(name, content)]), DEK.decrypt_cbc)


def test_doubled_groups_are_refused() -> None:
    stream = encode_personal_data(DATA, DEK.encrypt_cbc)
    for again in (
        groups_without(0x0102, 0x0103, 0x0104, 0x8101, 0x8102, 0x8103),
        groups_without(0x101, 0x102, 0x103, 0x104),
    ):
        with pytest.raises(EncodingError):
            decode_personal_data(stream + again, DEK.decrypt_cbc)


def test_data_is_complete_with_an_identity_and_all_keys_of_its_versions() -> None:
    keys = ca_keys(KEYS)
    assert PersonalData(IDENTITY, keys).complete
    assert not PersonalData(None, keys).complete
    assert not PersonalData(IDENTITY, ()).complete
    assert not PersonalData(IDENTITY, keys[:2]).complete
    other = CaKey(KeyPurpose.CARD, 2, AesKey(bytes(32)))
    assert not PersonalData(IDENTITY, (*keys, other)).complete
    assert PersonalData(IDENTITY, keys).card_keys(1) == KEYS
    with pytest.raises(EncodingError):
        PersonalData(IDENTITY, (*keys, other)).card_keys(2)


@pytest.mark.parametrize("version", [-1, 256])
def test_key_versions_are_one_byte(version: int) -> None:
    with pytest.raises(EncodingError):
        CaKey(KeyPurpose.CARD, version, AesKey(bytes(32)))


def test_keys_of_the_application_have_32_bytes() -> None:
    with pytest.raises(EncodingError):
        CaKey(KeyPurpose.CARD, 1, AesKey(bytes(16)))


def test_addresses_have_eleven_digits() -> None:
    for address in (-1, 100_000_000_000):
        with pytest.raises(EncodingError):
            CardIdentity(address, "x", b"12345")
    assert CardIdentity(ADDRESS, "x", b"12345").address == ADDRESS


def test_every_status_word_is_explained() -> None:
    assert set(EXPLANATIONS) == set(GpStatusWord)
    assert all(e.meaning for e in EXPLANATIONS.values())
    assert all(explain(sw).advice for sw in (0x6300, 0x63C3, 0x1234, 0x6983))
    assert "3 tries" in explain(0x63C3).meaning
    assert [is_failed_try(sw) for sw in (0x6300, 0x63C0, 0x63CF, 0x6310, 0x9000)] == [True, True, True, False, False]
    assert [tries_remaining(sw) for sw in (0x6300, 0x63C0, 0x63CF)] == [None, 0, 15]
