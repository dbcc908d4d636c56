"""Sections: CRC against published values, building and reading, and refusing what is none."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.section import LongSection, ShortSection, build_section, crc32, parse_section

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mpegts.json").read_text())

short_sections = st.builds(
    ShortSection, st.integers(0, 0xFE), st.binary(max_size=300) | st.binary(min_size=4093, max_size=4093), st.booleans()
)
long_sections = st.builds(
    LongSection,
    table_id=st.integers(0, 0xFE),
    table_id_extension=st.integers(0, 0xFFFF),
    version_number=st.integers(0, 31),
    payload=st.binary(max_size=300) | st.binary(min_size=4084, max_size=4084),
    current_next_indicator=st.booleans(),
    section_number=st.integers(0, 255),
    last_section_number=st.integers(0, 255),
    private_indicator=st.booleans(),
)


def crc_bit_by_bit(data: bytes) -> int:
    """The shift register of ISO/IEC 13818-1, Annex A, as drawn there."""
    register = 0xFFFFFFFF
    for byte in data:
        for shift in range(7, -1, -1):
            out = register >> 31 ^ byte >> shift & 1
            register = register << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if out else 0)
    return register


@pytest.mark.parametrize("vector", VECTORS["crc32"])
def test_crc_is_the_published_one(vector: dict[str, str]) -> None:
    assert crc32(bytes.fromhex(vector["data"])) == int(vector["crc"], 16)


@given(st.binary(max_size=100))
def test_crc_is_that_of_the_standard_shift_register(data: bytes) -> None:
    assert crc32(data) == crc_bit_by_bit(data)


@pytest.mark.parametrize("vector", VECTORS["sections"], ids=lambda vector: vector["name"])
def test_sections_of_others_are_read_and_come_out_the_same(vector: dict[str, str]) -> None:
    raw = bytes.fromhex(vector["section"])
    assert crc32(raw) == 0
    assert build_section(parse_section(raw)) == raw


@given(short_sections | long_sections)
def test_what_is_built_is_read_back(section: ShortSection | LongSection) -> None:
    assert parse_section(build_section(section)) == section


def test_a_short_section_is_spelled_with_reserved_bits_set() -> None:
    assert build_section(ShortSection(0x82, b"abc")) == bytes.fromhex("827003") + b"abc"


@given(st.binary(max_size=40) | st.binary(min_size=4090, max_size=4100))
def test_arbitrary_bytes_give_a_section_or_a_decode_error(raw: bytes) -> None:
    try:
        section = parse_section(raw)
    except DecodeError:
        return
    assert len(build_section(section)) == len(raw)


@given(long_sections.map(build_section), st.data())
def test_a_single_wrong_bit_in_a_long_section_is_always_found(raw: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(raw) * 8 - 1))
    damaged = bytearray(raw)
    damaged[position // 8] ^= 0x80 >> position % 8
    # The bit that says there is a CRC at all cannot be protected by the CRC: then it reads as a short section.
    if position == 8:
        assert isinstance(parse_section(bytes(damaged)), ShortSection)
    else:
        with pytest.raises(DecodeError):
            parse_section(bytes(damaged))


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "at least 3 bytes"),
        (b"\x82\x70\x04abc", "section_length says 7 bytes, but there are 6"),
        (b"\x82\x70\x02abc", "section_length says 5 bytes, but there are 6"),
        (b"\x01\xb0\x00", "at least 12 bytes, not 3"),
        (b"\x82\x7f\xff" + bytes(4095), "at most 4096 bytes; section_length says 4098"),
    ],
)
def test_a_wrong_length_is_refused_and_named(raw: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        parse_section(raw)


@pytest.mark.parametrize(
    "section",
    [
        ShortSection(0x82, bytes(4094)),
        LongSection(0x00, 1, 0, bytes(4085)),
        ShortSection(0x182, b""),
        LongSection(0x00, 1, 32, b""),
        LongSection(0x00, -1, 0, b""),
    ],
)
def test_what_does_not_fit_is_not_built(section: ShortSection | LongSection) -> None:
    with pytest.raises(EncodeError):
        build_section(section)
