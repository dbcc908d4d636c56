"""PAT, CAT and PMT: against sections that others wrote, there and back, and refusing what is cut short."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.psi import (
    NO_PCR_PID,
    CaDescriptor,
    ConditionalAccess,
    ElementaryStream,
    OtherDescriptor,
    ProgramAssociation,
    ProgramMap,
    build_cat,
    build_pat,
    build_pmt,
    ca_pid,
    parse_cat,
    parse_pat,
    parse_pmt,
)
from protocol.mpegts.section import LongSection, ShortSection, build_section

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mpegts.json").read_text())["sections"]
PAT, PMT, CAT = (bytes.fromhex(vector["section"]) for vector in VECTORS)

u16 = st.integers(0, 0xFFFF)
pids = st.integers(0, 0x1FFF)
descriptors = st.lists(
    st.builds(CaDescriptor, u16, pids, st.binary(max_size=20))
    | st.builds(OtherDescriptor, st.integers(0, 255).filter(lambda tag: tag != 9), st.binary(max_size=20)),
    max_size=4,
).map(tuple)
editions: dict[str, Any] = {
    "version_number": st.integers(0, 31),
    "current": st.booleans(),
    "section_number": st.integers(0, 255),
    "last_section_number": st.integers(0, 255),
}
streams = st.lists(st.builds(ElementaryStream, st.integers(0, 255), pids, descriptors), max_size=4).map(tuple)
programs = st.lists(st.tuples(u16, pids), max_size=20).map(tuple)


def test_the_pat_of_another_program() -> None:
    table = ProgramAssociation(transport_stream_id=1, programs=((1, 0x1000),))
    assert parse_pat(PAT) == table
    assert build_pat(table) == PAT


def test_the_pmt_of_another_program() -> None:
    language = OtherDescriptor(0x0A, b"und\0")
    table = ProgramMap(1, (ElementaryStream(0x1B, 0x100), ElementaryStream(0x0F, 0x101, (language,))), pcr_pid=0x100)
    assert parse_pmt(PMT) == table
    assert build_pmt(table) == PMT


def test_the_cat_of_another_program() -> None:
    table = ConditionalAccess((CaDescriptor(0x1020, 0x1890),), version_number=1, last_section_number=1)
    assert parse_cat(CAT) == table
    assert build_cat(table) == CAT


@given(st.builds(ProgramAssociation, u16, programs, **editions))
def test_every_pat_comes_back(table: ProgramAssociation) -> None:
    assert parse_pat(build_pat(table)) == table


@given(st.builds(ConditionalAccess, descriptors, **editions))
def test_every_cat_comes_back(table: ConditionalAccess) -> None:
    assert parse_cat(build_cat(table)) == table


@pytest.mark.slow
@given(st.builds(ProgramMap, u16, streams, descriptors, pids, **editions))
def test_every_pmt_comes_back(table: ProgramMap) -> None:
    assert parse_pmt(build_pmt(table)) == table


def test_the_pid_of_a_ca_system_is_the_first_one_named() -> None:
    listed = (OtherDescriptor(0x0A, b""), CaDescriptor(1, 0x20), CaDescriptor(2, 0x21), CaDescriptor(2, 0x22))
    assert ca_pid(listed, 2) == 0x21
    assert ca_pid(listed, 3) is None


@given(st.sampled_from([0x00, 0x01, 0x02]), st.binary(max_size=40))
def test_arbitrary_contents_under_a_right_crc_give_a_table_or_a_decode_error(table_id: int, payload: bytes) -> None:
    raw = build_section(LongSection(table_id, 1, 0, payload))
    for parse in (parse_pat, parse_cat, parse_pmt):
        try:
            table = parse(raw)
        except DecodeError:
            continue
        assert isinstance(table, ProgramAssociation | ConditionalAccess | ProgramMap)


@pytest.mark.parametrize(
    "payload", [b"\x09", b"\x09\x04\x10\x20\xf8", b"\x09\x03\x10\x20\xf8", b"\x0a\x00\x09"], ids=bytes.hex
)
def test_a_descriptor_that_is_cut_short_is_no_cat(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="middle of an item"):
        parse_cat(build_section(LongSection(0x01, 0xFFFF, 0, payload)))


def test_another_table_is_named() -> None:
    with pytest.raises(DecodeError, match="table_id 0x01 is not that of a PAT"):
        parse_pat(CAT)
    with pytest.raises(DecodeError, match="section_syntax_indicator"):
        parse_cat(build_section(ShortSection(0x01, b"")))


def test_a_table_that_fits_no_section_is_not_built() -> None:
    full = ProgramAssociation(1, tuple((number, 0x100) for number in range(253)))
    assert len(build_pat(full)) == 1024
    with pytest.raises(EncodeError, match="more than a section"):
        build_pat(ProgramAssociation(1, (*full.programs, (253, 0x100))))


@pytest.mark.parametrize(
    "table",
    [
        ConditionalAccess((CaDescriptor(0x10000, 0x100),)),
        ConditionalAccess((CaDescriptor(1, 0x2000),)),
        ConditionalAccess((CaDescriptor(1, 0x100, bytes(252)),)),
        ConditionalAccess((OtherDescriptor(0x100, b""),)),
    ],
)
def test_a_value_out_of_range_is_not_built(table: ConditionalAccess) -> None:
    with pytest.raises(EncodeError, match="out of range"):
        build_cat(table)


def test_a_programme_without_pcr_says_so() -> None:
    assert parse_pmt(build_pmt(ProgramMap(1, ()))).pcr_pid == NO_PCR_PID == 0x1FFF
