"""The EMM's header and payload: whatever arrives is a value or a DecodeError; what is built is read back."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.errors import BuildError, DecodeError
from emm.message import (
    EMM_MAX,
    HEAD_SIZE,
    EmmHeader,
    EmmKind,
    SealedEmm,
    Version,
    build_head,
    parse_emm,
    payload_max,
)
from emm.payload import (
    CardState,
    EmmPayload,
    OpaqueBlock,
    ProductKeys,
    RightsBlock,
    build_payload,
    parse_payload,
)
from emm.secret import Secret
from emm.traits import PairingBlock, ParentalBlock, PinResetBlock
from tests.support import emm_strategies as some
from tests.support.vectors import load_vectors

SECTION = bytes.fromhex(load_vectors("emm.json")["unique"][2]["sections"][0])
KEY = Secret(bytes(16))
HEADER = EmmHeader(EmmKind.UNIQUE, 1, 1, Version(1, 1))


@given(st.binary(max_size=300) | st.binary(max_size=260).map(lambda rest: b"\x82\x70" + rest))
def test_any_bytes_are_an_emm_or_a_decode_error(data: bytes) -> None:
    try:
        emm = parse_emm(data)
    except DecodeError:
        return
    assert emm.associated_data + emm.tag + emm.ciphertext == data


@given(st.data())
def test_a_header_is_read_back(data: st.DataObject) -> None:
    header = data.draw(some.headers())
    body = data.draw(st.binary(min_size=2, max_size=payload_max(header.kind)))
    tag = data.draw(st.binary(min_size=16, max_size=16))
    head = build_head(header, len(body))
    assert len(head) == HEAD_SIZE[header.kind]
    assert parse_emm(head + tag + body) == SealedEmm(header, head, tag, body)


def test_the_largest_emm_has_255_bytes_and_its_length_says_so() -> None:
    for kind, address in (
        (EmmKind.UNIQUE, 99_999_999_999),
        (EmmKind.GROUP, 0xFFFF_FFFF),
        (EmmKind.GLOBAL, 0),
    ):
        head = build_head(EmmHeader(kind, address, 255, Version(0xFFFF, 0xFFFF_FFFF), 15, 15), payload_max(kind))
        assert len(head) + 16 + payload_max(kind) == EMM_MAX
        assert head[1:3] == bytes([0x70, 252])
    assert payload_max(EmmKind.UNIQUE) == 222


def test_a_filter_of_sixteen_bytes_sees_address_and_version() -> None:
    head = build_head(EmmHeader(EmmKind.UNIQUE, 0x0102030405, 0xA6, Version(0x0708, 0x090A0B0C)), 2)
    assert head[3:16].hex() == "0102030405" + "01" + "a6" + "0708" + "090a0b0c"


@given(st.integers(0, len(SECTION) - 1), st.binary(max_size=3))
def test_cut_or_lengthened_emms_are_refused(size: int, more: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_emm(SECTION[:size])
    if more:
        with pytest.raises(DecodeError, match="section_length"):
            parse_emm(SECTION + more)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, 0x80, "table_id"),
        (1, 0xF0, "section_syntax_indicator"),
        (2, 0xFF, "section_length"),
        (3, 0xFF, "card address"),
        (8, 3, "format 3"),
        (16, 0x10, "part 1 is above the last part 0"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(offset: int, value: int, reason: str) -> None:
    changed = bytearray(SECTION)
    changed[offset] = value
    with pytest.raises(DecodeError, match=reason):
        parse_emm(bytes(changed))


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (HEADER, 1),
        (HEADER, 224),
        (EmmHeader(EmmKind.UNIQUE, 100_000_000_000, 1, Version(1, 1)), 2),
        (EmmHeader(EmmKind.UNIQUE, -1, 1, Version(1, 1)), 2),
        (EmmHeader(EmmKind.GROUP, 1 << 32, 1, Version(1, 1)), 2),
        (EmmHeader(EmmKind.GLOBAL, 1, 1, Version(1, 1)), 2),
        (EmmHeader(EmmKind.UNIQUE, 1, 256, Version(1, 1)), 2),
        (EmmHeader(EmmKind.UNIQUE, 1, 1, Version(65536, 1)), 2),
        (EmmHeader(EmmKind.UNIQUE, 1, 1, Version(1, 1 << 32)), 2),
        (EmmHeader(EmmKind.UNIQUE, 1, 1, Version(1, 1), part=1, last_part=0), 2),
        (EmmHeader(EmmKind.UNIQUE, 1, 1, Version(1, 1), part=0, last_part=16), 2),
    ],
)
def test_headers_that_cannot_be_said_are_refused(header: EmmHeader, size: int) -> None:
    with pytest.raises(BuildError):
        build_head(header, size)


def test_versions_are_compared_period_first() -> None:
    assert Version(1, 9) < Version(2, 0) < Version(2, 1)


@given(st.sampled_from(EmmKind), st.binary(max_size=223))
def test_any_payload_is_a_value_or_a_decode_error(kind: EmmKind, data: bytes) -> None:
    try:
        payload = parse_payload(kind, data)
    except DecodeError:
        return
    assert build_payload(kind, payload) == data


@given(st.data())
def test_a_payload_is_read_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(EmmKind))
    payload = data.draw(some.payloads(kind))
    assert parse_payload(kind, build_payload(kind, payload)) == payload


PAIRING = bytes.fromhex("01000000000001d8") + bytes(16)
RIGHTS = bytes.fromhex("000000000000000a0001010007") + bytes(16)


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (EmmKind.UNIQUE, b"\x00", "blocks"),
        (EmmKind.UNIQUE, b"\x02\x00", "state"),
        (EmmKind.UNIQUE, b"\x00\x00\x00", "blocks"),
        (EmmKind.UNIQUE, b"\x00\x01\x02\x00", "wrong length"),
        (EmmKind.UNIQUE, b"\x00\x01\x02\x19" + PAIRING + b"\x00", "wrong length"),
        (EmmKind.UNIQUE, b"\x00\x01\x02\x18" + b"\xff" + PAIRING[1:], "no receiver"),
        (EmmKind.UNIQUE, b"\x00\x01\x02\x18" + bytes(24), "no receiver"),
        (EmmKind.UNIQUE, b"\x00\x02" + (b"\x02\x18" + PAIRING) * 2, "twice"),
        (EmmKind.GROUP, b"\x00\x01\x02\x18" + PAIRING, "0x02 is unknown"),
        (EmmKind.UNIQUE, b"\x00\x01\x04\x00", "0x04 has the wrong length"),
        (EmmKind.UNIQUE, b"\x00\x01\x04\x01\x03", "age from 4 to 18"),
        (EmmKind.UNIQUE, b"\x00\x01\x04\x01\x13", "age from 4 to 18"),
        (EmmKind.UNIQUE, b"\x00\x02\x04\x01\x0c\x04\x01\x0c", "twice"),
        (EmmKind.UNIQUE, b"\x00\x01\xa0\x03\x00\x00\x01", "0xA0 has the wrong length"),
        (EmmKind.UNIQUE, b"\x00\x01\xa0\x04\x00\x00\x00\x00", "from 1 on"),
        (EmmKind.GLOBAL, b"\x00\x01\x04\x01\x0c", "0x04 is unknown"),
        (EmmKind.UNIQUE, b"\x00\x01\x00\x00", "0x00 is unknown"),
        (EmmKind.UNIQUE, b"\x00\x01\x7f\x01\x00", "0x7F is unknown"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x00", "cut short"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x0b" + RIGHTS[:11], "whole number"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x1c" + RIGHTS[:-1], "whole number"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x1d" + RIGHTS[:10] + b"\x03" + RIGHTS[11:], "one nor two"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x1d" + RIGHTS[:11] + b"\x00\x00" + RIGHTS[13:], "product_id 0"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x1d" + b"\x00\x00\x00\x0a" + RIGHTS[4:], "ends before"),
        (EmmKind.UNIQUE, b"\x00\x01\x01\x2d" + RIGHTS[:8] + b"\xff\xff\x02" + RIGHTS[11:] + bytes(16), "epoch"),
        (EmmKind.GROUP, b"\x01\x00", "state"),
        (EmmKind.GROUP, b"\x00\x01\x01\x1d" + RIGHTS, "0x01 is unknown"),
        (EmmKind.GLOBAL, b"\x00\x01\x01\x1d" + RIGHTS, "0x01 is unknown"),
    ],
)
def test_what_is_wrong_with_a_payload_is_said(kind: EmmKind, payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        parse_payload(kind, payload)


def test_blocks_from_0x80_on_are_kept_but_have_no_meaning() -> None:
    plain = b"\x00\x02\x80\x02hi\x01\x1d" + RIGHTS
    payload = parse_payload(EmmKind.UNIQUE, plain)
    assert payload.blocks[0] == OpaqueBlock(0x80, b"hi")
    assert payload.rights == (RightsBlock(0, 10, 1, (ProductKeys(7, (KEY,)),)),)


RECEIVER = 0x01000000000001D8


def _rights(**changes: object) -> EmmPayload:
    fields: dict[str, object] = {"start": 0, "end": 10, "first_epoch": 1, "products": (ProductKeys(7, (KEY,)),)}
    return EmmPayload(CardState.ACTIVE, (RightsBlock(**(fields | changes)),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (EmmKind.UNIQUE, lambda: _rights(end=0)),
        (EmmKind.UNIQUE, lambda: _rights(start=-1)),
        (EmmKind.UNIQUE, lambda: _rights(end=1 << 32)),
        (EmmKind.UNIQUE, lambda: _rights(first_epoch=65536)),
        (EmmKind.UNIQUE, lambda: _rights(products=())),
        (EmmKind.UNIQUE, lambda: _rights(products=(ProductKeys(7, ()),))),
        (EmmKind.UNIQUE, lambda: _rights(products=(ProductKeys(7, (Secret(b"short"),)),))),
        (EmmKind.UNIQUE, lambda: _rights(products=(ProductKeys(0, (KEY,)),))),
        (EmmKind.UNIQUE, lambda: _rights(products=(ProductKeys(1, (KEY,)), ProductKeys(2, (KEY, KEY))))),
        (EmmKind.UNIQUE, lambda: _rights(products=tuple(ProductKeys(each, (KEY,)) for each in range(1, 13)))),
        (EmmKind.UNIQUE, lambda: _rights(products=tuple(ProductKeys(each, (KEY,)) for each in range(1, 20)))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x7F, b""),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x100, b""),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x80, bytes(256)),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (PairingBlock(1, KEY),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (PairingBlock(RECEIVER, Secret(b"short")),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (PairingBlock(RECEIVER, KEY),) * 2)),
        (EmmKind.GROUP, lambda: EmmPayload(CardState.ACTIVE, (PairingBlock(RECEIVER, KEY),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (ParentalBlock(0),))),
        (EmmKind.UNIQUE, lambda: EmmPayload(CardState.ACTIVE, (PinResetBlock(1 << 32),))),
        (EmmKind.GROUP, _rights),
        (EmmKind.GLOBAL, lambda: EmmPayload(CardState.SUSPENDED)),
    ],
)
def test_payloads_that_cannot_be_said_are_refused(kind: EmmKind, make: Callable[[], EmmPayload]) -> None:
    with pytest.raises(BuildError):
        build_payload(kind, make())


def test_errors_do_not_show_keys() -> None:
    key = Secret(bytes.fromhex("00112233445566778899aabbccddeeff"))
    for products in ((ProductKeys(7, (key,)), ProductKeys(8, (key, key))), (ProductKeys(70000, (key,)),)):
        with pytest.raises(BuildError) as caught:
            build_payload(EmmKind.UNIQUE, _rights(products=products))
        assert key.hex() not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
