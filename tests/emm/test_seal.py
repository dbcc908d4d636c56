"""Sealing: published vectors by both implementations, determinism, and nothing opens that was touched."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.errors import AuthenticationError, BuildError, DecodeError, PlanError
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import EmmHeader, EmmKind, Version, build_head
from emm.payload import CardState, EmmPayload, OpaqueBlock, build_payload, parse_payload
from emm.plan import WINDOWS_MAX, CardContent, Window
from emm.seal import EmmSealer, open_global, open_group, open_unique, section_sizes
from emm.traits import Traits
from protocol import receiver_number
from tests.support import emm_strategies as some
from tests.support import reference_formats as reference
from tests.support.emm_parts import join_parts
from tests.support.vectors import load_vectors

VECTORS = load_vectors("emm.json")
MASTER = bytes.fromhex(VECTORS["master_key"])
LADDER = KeyLadder(LocalMasterKey(MASTER))
SEALER = EmmSealer(LADDER)
ADDRESS = 12_345_678_901
ONE = CardContent(suspended=False, windows=(Window(0, 1_801_440_000, 694, 1, (1,)),))


def _content(vector: dict[str, Any]) -> CardContent:
    """The vector's windows as the plan gives them: one per window, not one per part."""
    windows: dict[tuple[int, int, int, int], list[int]] = {}
    for each in vector["windows"]:
        key = (each["start"], each["end"], each["first_epoch"], each["key_count"])
        windows.setdefault(key, []).extend(each["product_ids"])
    traits = Traits(
        receiver_number.parse(vector["receiver"]) if "receiver" in vector else None,
        parental=vector.get("parental", 0),
        pin_reset=vector.get("pin_reset", 0),
        region=vector.get("region", 0),
    )
    return CardContent(vector["suspended"], tuple(Window(*key, tuple(ids)) for key, ids in windows.items()), traits)


@pytest.mark.parametrize("vector", VECTORS["unique"], ids=lambda vector: str(vector["name"]))
def test_published_unique_emms(vector: dict[str, Any]) -> None:
    version = Version(vector["period"], vector["revision"])
    sections = SEALER.unique(vector["address"], vector["key_version"], version, _content(vector))
    assert [section.hex() for section in sections] == vector["sections"]
    assert section_sizes(_content(vector)) == tuple(map(len, sections))
    for part, (section, payload) in enumerate(zip(vector["sections"], vector["payloads"], strict=True)):
        blocks = [
            reference.rights_block(
                MASTER, each["start"], each["end"], each["first_epoch"], each["key_count"], each["product_ids"]
            )
            for each in vector["windows"]
            if each["part"] == part
        ]
        if part == 0 and "receiver" in vector:
            receiver = receiver_number.parse(vector["receiver"])
            blocks.append(reference.pairing_block(MASTER, receiver, vector["address"]))
        if part == 0 and "parental" in vector:
            blocks.append(reference.parental_block(vector["parental"]))
        if part == 0 and "pin_reset" in vector:
            blocks.append(reference.pin_reset_block(vector["pin_reset"]))
        if part == 0 and "region" in vector:
            blocks.append(reference.region_block(vector["region"]))
        plain = reference.payload(int(vector["suspended"]), blocks)
        last = len(vector["sections"]) - 1
        numbers = (vector["address"], vector["key_version"], vector["period"], vector["revision"], part, last)
        assert plain.hex() == payload
        assert reference.unique_emm(MASTER, *numbers, plain).hex() == section


@pytest.mark.parametrize("vector", VECTORS["shared"], ids=lambda vector: str(vector["name"]))
def test_published_group_and_global_emms(vector: dict[str, Any]) -> None:
    blocks = tuple(OpaqueBlock(each["tag"], bytes.fromhex(each["value"])) for each in vector["blocks"])
    payload = EmmPayload(CardState.ACTIVE, blocks)
    version = Version(vector["period"], vector["revision"])
    kind = EmmKind(vector["table_id"])
    if kind is EmmKind.GROUP:
        sections = SEALER.group(vector["address"], vector["key_version"], version, [payload])
        address = vector["address"].to_bytes(4, "big")
        key = reference.group_key(MASTER, vector["address"], vector["key_version"])
        opened = open_group(sections[0], key)
    else:
        sections = SEALER.to_all(vector["key_version"], version, [payload])
        address, key = b"", reference.global_key(MASTER, vector["key_version"])
        opened = open_global(sections[0], key)
    plain = reference.payload(0, [bytes([b.tag, len(b.value)]) + b.value for b in blocks])
    numbers = (vector["key_version"], vector["period"], vector["revision"], 0, 0)
    assert [section.hex() for section in sections] == [vector["section"]]
    assert reference.emm(kind, address, *numbers, key, plain).hex() == vector["section"]
    assert plain.hex() == vector["payload"]
    assert opened.payload == payload


@given(some.ADDRESSES, some.U8, some.VERSIONS, some.CONTENTS)
def test_a_card_reads_what_was_planned_for_it(
    address: int, key_version: int, version: Version, content: CardContent
) -> None:
    sections = SEALER.unique(address, key_version, version, content)
    assert section_sizes(content) == tuple(map(len, sections))
    card_key = reference.card_key(MASTER, address, key_version)
    payload = join_parts(open_unique(section, card_key) for section in sections)
    assert (payload.state is CardState.SUSPENDED) is content.suspended
    said: list[tuple[int, int, int, int]] = []
    for window in content.windows:
        for product_id in window.product_ids:
            said.extend((window.start, window.end, product_id, window.first_epoch + n) for n in range(window.key_count))
    heard = [
        (block.start, block.end, product.product_id, block.first_epoch + index)
        for block in payload.rights
        for product in block.products
        for index, _ in enumerate(product.keys)
    ]
    assert heard == said
    for block in payload.rights:
        for product in block.products:
            for index, key in enumerate(product.keys):
                assert key == reference.product_key(MASTER, product.product_id, block.first_epoch + index)


@given(some.ADDRESSES, some.U8, some.VERSIONS, some.CONTENTS)
def test_the_fast_header_is_the_declared_header(
    address: int, key_version: int, version: Version, content: CardContent
) -> None:
    sections = SEALER.unique(address, key_version, version, content)
    for part, section in enumerate(sections):
        header = EmmHeader(EmmKind.UNIQUE, address, key_version, version, part, len(sections) - 1)
        head = build_head(header, len(section) - 33)
        assert section[: len(head)] == head


@given(some.CONTENTS)
def test_the_fast_payload_is_the_declared_payload(content: CardContent) -> None:
    for section in SEALER.unique(1, 1, Version(1, 1), content):
        plain = reference.open_unique_emm(MASTER, section)
        assert build_payload(EmmKind.UNIQUE, parse_payload(EmmKind.UNIQUE, plain)) == plain


@pytest.mark.parametrize(
    "window",
    [
        Window(5, 5, 1, 1, (1,)),
        Window(0, 1 << 32, 1, 1, (1,)),
        Window(-1, 5, 1, 1, (1,)),
        Window(0, 5, 65535, 2, (1,)),
        Window(0, 5, 65536, 1, (1,)),
        Window(0, 5, 1, 3, (1,)),
        Window(0, 5, 1, 1, (0,)),
        Window(0, 5, 1, 1, (65536,)),
    ],
)
def test_windows_that_cannot_be_said_are_refused(window: Window) -> None:
    with pytest.raises(BuildError):
        SEALER.unique(1, 1, Version(1, 1), CardContent(suspended=False, windows=(window,)))


def test_equal_content_gives_equal_bytes_from_any_sealer() -> None:
    again = EmmSealer(KeyLadder(LocalMasterKey(MASTER)), payloads_cached=1)
    other = CardContent(suspended=True)
    first = SEALER.unique(ADDRESS, 1, Version(4166, 3), ONE)
    assert again.unique(ADDRESS, 1, Version(4166, 3), ONE) == first
    assert again.unique(ADDRESS, 1, Version(4166, 3), other) != first
    assert again.unique(ADDRESS, 1, Version(4166, 3), ONE) == first


@given(st.data())
def test_one_changed_bit_anywhere_opens_nothing(data: st.DataObject) -> None:
    section = bytearray(SEALER.unique(ADDRESS, 1, Version(4166, 3), ONE)[0])
    bit = data.draw(st.integers(0, len(section) * 8 - 1))
    section[bit // 8] ^= 1 << bit % 8
    with pytest.raises((DecodeError, AuthenticationError)):
        open_unique(bytes(section), LADDER.card_key(ADDRESS, 1))


def test_another_key_opens_nothing() -> None:
    section = SEALER.unique(ADDRESS, 1, Version(4166, 3), ONE)[0]
    for key in (LADDER.card_key(ADDRESS + 1, 1), LADDER.card_key(ADDRESS, 2), LADDER.group_key(ADDRESS >> 8, 1)):
        with pytest.raises(AuthenticationError):
            open_unique(section, key)
    with pytest.raises(BuildError, match="32 bytes"):
        open_unique(section, b"short")


def test_each_opener_takes_its_own_kind_only() -> None:
    unique = SEALER.unique(ADDRESS, 1, Version(1, 1), ONE)[0]
    group = SEALER.group(ADDRESS >> 8, 1, Version(1, 1), [EmmPayload(CardState.ACTIVE)])[0]
    to_all = SEALER.to_all(1, Version(1, 1), [EmmPayload(CardState.ACTIVE)])[0]
    for opener, wrong in (
        (open_unique, (group, to_all)),
        (open_group, (unique, to_all)),
        (open_global, (unique, group)),
    ):
        for section in wrong:
            with pytest.raises(DecodeError, match="expected"):
                opener(section, bytes(32))


@given(some.SIV_KEYS, st.binary(max_size=256))
def test_any_bytes_give_a_value_or_an_error_of_ours(key: bytes, data: bytes) -> None:
    for opener in (open_unique, open_group, open_global):
        with pytest.raises((DecodeError, AuthenticationError)):
            opener(data, key)


@given(some.SIV_KEYS, st.sampled_from(EmmKind), st.binary(min_size=2, max_size=223))
def test_a_sealed_payload_of_any_bytes_gives_a_value_or_a_decode_error(key: bytes, kind: EmmKind, plain: bytes) -> None:
    address = {EmmKind.UNIQUE: bytes(5), EmmKind.GROUP: bytes(4), EmmKind.GLOBAL: b""}[kind]
    section = reference.emm(kind, address, 1, 1, 1, 0, 0, key, plain)
    opener = {EmmKind.UNIQUE: open_unique, EmmKind.GROUP: open_group, EmmKind.GLOBAL: open_global}[kind]
    try:
        opened = opener(section, key)
    except DecodeError:
        return
    assert build_payload(kind, opened.payload) == plain


def test_parts_of_a_group_emm_are_numbered() -> None:
    payloads = [EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x90 + part, bytes(200)),)) for part in range(16)]
    sections = SEALER.group(1, 1, Version(1, 1), payloads)
    headers = [open_group(section, LADDER.group_key(1, 1)).header for section in sections]
    assert [(header.part, header.last_part) for header in headers] == [(part, 15) for part in range(16)]
    for wrong in ([], payloads * 2):
        with pytest.raises(BuildError, match=r"1\.\.16 parts"):
            SEALER.group(1, 1, Version(1, 1), wrong)


def test_a_card_with_too_many_products_is_refused_with_a_reason() -> None:
    fits = CardContent(suspended=False, windows=(Window(0, 10, 1, 1, tuple(range(1, 177))),))
    assert len(SEALER.unique(1, 1, Version(1, 1), fits)) == 16
    too_many = CardContent(suspended=False, windows=(Window(0, 10, 1, 1, tuple(range(1, 178))),))
    for ask in (lambda: SEALER.unique(1, 1, Version(1, 1), too_many), lambda: section_sizes(too_many)):
        with pytest.raises(PlanError, match="177 rights in 1 windows need 17 parts"):
            ask()


def test_what_is_said_of_a_card_fits_beside_as_many_windows_as_it_may_hold() -> None:
    full = tuple(Window(start, 1_000 + start, 1, 2, (1 + start,)) for start in range(WINDOWS_MAX))
    everything = Traits(
        receiver_number.of_serial(receiver_number.SERIAL_MAX), parental=18, pin_reset=0xFFFF_FFFF, region=0xFFFF
    )
    assert len(section_sizes(CardContent(False, full))) == 16
    assert len(section_sizes(CardContent(False, full, everything))) == 16


def test_the_key_of_a_pair_is_of_one_card_although_payloads_are_shared() -> None:
    content = CardContent(False, ONE.windows, Traits(receiver_number.of_serial(7)))
    found = [
        open_unique(SEALER.unique(address, 1, Version(1, 1), content)[0], LADDER.card_key(address, 1)).payload.pairing
        for address in (1, 2, 1)
    ]
    assert [one and one.receiver for one in found] == [receiver_number.of_serial(7)] * 3
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("address", "key_version", "version"),
    [
        (100_000_000_000, 1, Version(1, 1)),
        (-1, 1, Version(1, 1)),
        (1, 256, Version(1, 1)),
        (1, 1, Version(65536, 1)),
        (1, 1, Version(1, 1 << 32)),
    ],
)
def test_numbers_without_a_place_are_refused(address: int, key_version: int, version: Version) -> None:
    with pytest.raises(BuildError):
        SEALER.unique(address, key_version, version, ONE)
