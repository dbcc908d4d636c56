"""Notices: vectors by both implementations, round trips, and what no card may take."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.errors import AuthenticationError, BuildError, DecodeError
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import EMM_MAX, FORMAT, NOTICE_FORMAT, EmmKind, Version, parse_emm
from emm.notices.content import (
    CONTENT_MAX,
    RANGES_MAX,
    Fingerprint,
    Members,
    Message,
    Notice,
    NoticePart,
    Position,
    Ranges,
    build_content,
    build_part,
    cut,
    parse_content,
    parse_part,
)
from emm.notices.seal import NUMBER_MAX, NoticeSealer, open_notice
from emm.plan import CardContent
from emm.seal import EmmSealer, open_sealed
from tests.support import emm_strategies as some
from tests.support import reference_formats as reference
from tests.support.vectors import load_vectors

VECTORS = load_vectors("notices.json")
MASTER = bytes.fromhex(VECTORS["master_key"])
LADDER = KeyLadder(LocalMasterKey(MASTER))
SEALER = NoticeSealer(LADDER)
HELLO = Message(False, 0, 1, (("en", "hello"),))


def notice_of(vector: dict[str, Any]) -> Notice:
    if (said := vector.get("message")) is not None:
        return Message(said["forced"], said["start"], said["end"], tuple(said["texts"].items()))
    said = vector["fingerprint"]
    return Fingerprint(said["start"], said["end"], said["duration_s"], Position(said["position"]), said["service_id"])


def sealed(vector: dict[str, Any]) -> tuple[tuple[bytes, ...], bytes]:
    """The sections as the product makes them, and the key that opens them."""
    kind, address, numbers = vector["table_id"], vector["address"], (vector["key_version"], vector["number"])
    content = build_content(notice_of(vector))
    if kind == EmmKind.UNIQUE:
        return SEALER.to_card(address, *numbers, content), reference.card_key(MASTER, address, numbers[0])
    if kind == EmmKind.GROUP:
        made = SEALER.to_members(address, vector["to"]["members"], *numbers, content)
        return made, reference.group_key(MASTER, address, numbers[0])
    (made,) = SEALER.to_ranges([tuple(one) for one in vector["to"]["ranges"]], *numbers, content)
    return made, reference.global_key(MASTER, numbers[0])


@pytest.mark.parametrize("vector", VECTORS["notices"], ids=lambda vector: str(vector["name"]))
def test_published_notices(vector: dict[str, Any]) -> None:
    sections, key = sealed(vector)
    assert [section.hex() for section in sections] == vector["sections"]
    opened = [open_notice(parse_emm(section), key) for section in sections]
    assert b"".join(one.part.piece for one in opened).hex() == vector["content"]
    assert parse_content(bytes.fromhex(vector["content"])) == notice_of(vector)
    assert {one.number for one in opened} == {vector["number"]}


@pytest.mark.parametrize("vector", VECTORS["notices"], ids=lambda vector: str(vector["name"]))
def test_the_other_implementation_says_the_same(vector: dict[str, Any]) -> None:
    if (said := vector.get("message")) is not None:
        content = reference.message_content(**said)
    else:
        content = reference.fingerprint_content(**vector["fingerprint"])
    assert content.hex() == vector["content"]
    to = vector["to"]
    block = reference.ranges_block(to["ranges"]) if "ranges" in to else b""
    block = reference.members_block(to["members"]) if "members" in to else block
    payloads = reference.notice_payloads(vector["table_id"], block, content)
    assert [payload.hex() for payload in payloads] == vector["payloads"]
    size = {0x82: 5, 0x84: 4, 0x88: 0}[vector["table_id"]]
    address, key = vector["address"].to_bytes(size, "big"), sealed(vector)[1]
    for part, payload in enumerate(payloads):
        numbers = (vector["key_version"], 0, vector["number"], part, len(payloads) - 1)
        made = reference.emm(vector["table_id"], address, *numbers, key, payload, NOTICE_FORMAT)
        assert made.hex() == vector["sections"][part]


TEXTS = st.dictionaries(st.sampled_from(["fi", "sv", "en", "ru", "zh-Hant-TW"]), st.text(min_size=1, max_size=200))
WINDOWS = st.tuples(some.U32, some.U32).filter(lambda ends: ends[0] < ends[1])
MESSAGES = st.builds(
    lambda forced, window, texts: Message(forced, *window, tuple(texts.items())),
    st.booleans(),
    WINDOWS,
    TEXTS.filter(bool),
)
FINGERPRINTS = st.builds(
    lambda window, duration, position, service: Fingerprint(*window, duration, position, service),
    WINDOWS,
    st.integers(1, 0xFFFF),
    st.sampled_from(Position),
    some.U16,
)


@given(MESSAGES | FINGERPRINTS)
def test_any_notice_is_read_back_or_refused(notice: Notice) -> None:
    try:
        content = build_content(notice)
    except BuildError:
        return
    assert parse_content(content) == notice


@given(st.binary(max_size=400))
def test_any_content_is_a_notice_or_a_decode_error(content: bytes) -> None:
    try:
        notice = parse_content(content)
    except DecodeError:
        return
    assert build_content(notice) == content


@given(st.sampled_from(EmmKind), st.binary(max_size=240))
def test_any_payload_is_a_part_or_a_decode_error(kind: EmmKind, payload: bytes) -> None:
    try:
        part = parse_part(kind, payload)
    except DecodeError:
        return
    assert parse_part(kind, build_part(kind, part)) == part


RANGES = st.lists(st.tuples(some.ADDRESSES, some.ADDRESSES).map(sorted).map(tuple), min_size=1, max_size=RANGES_MAX)


@given(st.integers(1, CONTENT_MAX), RANGES, st.sets(some.U8, min_size=1))
def test_the_longest_content_fits_whomever_it_addresses(size: int, ranges: Any, members: set[int]) -> None:
    content = bytes(index % 251 for index in range(size))
    for kind, to in (
        (EmmKind.UNIQUE, None),
        (EmmKind.GROUP, Members.of(members)),
        (EmmKind.GLOBAL, Ranges(tuple(ranges))),
    ):
        parts = cut(kind, content, to)
        assert b"".join(part.piece for part in parts) == content
        assert len(parts) <= 16
        for part in parts:
            assert parse_part(kind, build_part(kind, part)) == part


@given(st.integers(0, 390_624_999), st.sets(some.U8), some.U8)
def test_members_are_just_those_named(group: int, bytes_: set[int], other: int) -> None:
    members = Members.of(group * 256 + each for each in bytes_)
    assert members.includes(group * 256 + other) is (other in bytes_)


def test_many_ranges_go_out_in_several_emms_of_one_number() -> None:
    ranges = [(number * 10, number * 10 + 5) for number in range(2 * RANGES_MAX + 1)]
    key = reference.global_key(MASTER, 1)
    made = SEALER.to_ranges(ranges, 1, 9, build_content(HELLO))
    parts = [open_notice(parse_emm(section), key) for sections in made for section in sections]
    assert {one.number for one in parts} == {9}
    assert [sum(one.part.addresses(first) for one in parts) for first, _ in ranges] == [1] * len(ranges)
    assert not any(one.part.addresses(6) for one in parts)


def test_formats_are_not_taken_for_one_another() -> None:
    key = reference.card_key(MASTER, 5, 1)
    (notice,) = SEALER.to_card(5, 1, 1, build_content(HELLO))
    (truth,) = EmmSealer(LADDER).unique(5, 1, Version(0, 1), CardContent(suspended=False))
    assert (parse_emm(notice).header.format, parse_emm(truth).header.format) == (NOTICE_FORMAT, FORMAT)
    with pytest.raises(DecodeError, match="format 2"):
        open_sealed(parse_emm(notice), key)
    with pytest.raises(DecodeError, match="format 1"):
        open_notice(parse_emm(truth), key)
    relabelled = bytearray(notice)
    relabelled[8] = FORMAT
    with pytest.raises(AuthenticationError):
        open_sealed(parse_emm(bytes(relabelled)), key)


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (EmmKind.GLOBAL, "0001900100", "names"),
        (EmmKind.GROUP, "0001900100", "names"),
        (EmmKind.UNIQUE, "0002100a00000000000000000001900100", "neither"),
        (EmmKind.UNIQUE, "0101900100", "state"),
        (EmmKind.UNIQUE, "00012a0100", "0x2A"),
        (EmmKind.UNIQUE, "00019000", "not empty"),
        (EmmKind.UNIQUE, "0002900100900100", "one piece"),
        (EmmKind.UNIQUE, "0002900100", "fill"),
        (EmmKind.GLOBAL, "00021003000000900100", "whole number"),
        (EmmKind.GROUP, "000211020000900100", "32 bytes"),
    ],
)
def test_parts_that_no_card_takes(kind: EmmKind, payload: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        parse_part(kind, bytes.fromhex(payload))


def test_blocks_of_later_days_are_skipped() -> None:
    assert parse_part(EmmKind.UNIQUE, bytes.fromhex("0002ff01079001aa")) == NoticePart(None, b"\xaa")
    assert parse_part(EmmKind.UNIQUE, bytes.fromhex("0000")) == NoticePart(None, b"")


@pytest.mark.parametrize(
    "notice",
    [
        Message(False, 5, 5, (("en", "hello"),)),
        Message(False, 0, 1, ()),
        Message(False, 0, 1, (("en", ""),)),
        Message(False, 0, 1, (("en", "a"), ("en", "b"))),
        Message(False, 0, 1, (("ä", "a"),)),
        Message(False, 0, 1, (("en", "x" * CONTENT_MAX),)),
        Message(False, -1, 1, (("en", "a"),)),
        Fingerprint(0, 1, 0, Position.CENTRE),
        Fingerprint(0, 1, 1, Position.CENTRE, 1 << 16),
    ],
)
def test_what_cannot_be_said_is_refused(notice: Notice) -> None:
    with pytest.raises(BuildError):
        build_content(notice)


@pytest.mark.parametrize("number", [0, NUMBER_MAX + 1])
def test_numbers_without_a_place_are_refused(number: int) -> None:
    with pytest.raises(BuildError, match="number of a notice"):
        SEALER.to_card(5, 1, number, build_content(HELLO))


def test_sections_stay_within_what_receivers_hand_on() -> None:
    content = bytes(CONTENT_MAX)
    sections = [
        *SEALER.to_card(5, 1, 1, content),
        *SEALER.to_members(0, [1], 1, 1, content),
        *SEALER.to_ranges([(0, 1)] * RANGES_MAX, 1, 1, content)[0],
    ]
    assert max(map(len, sections)) == EMM_MAX
