"""The tables that lead a receiver from nothing to EMMs and ECMs: PAT, CAT and PMT, with CA_descriptor.

Each object here is one section of its table; section_number and last_section_number say which. `build_*` gives its
bytes with CRC; `parse_*` takes one whole section and raises DecodeError for anything else. Descriptors that are not
CA_descriptors are kept as they are.

Source: ISO/IEC 13818-1, 2.4.4.4 (PAT), 2.4.4.7 (CAT), 2.4.4.9 (PMT), 2.6.16 (CA_descriptor).
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from construct import (
    BitsInteger,
    BitStruct,
    Bytes,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Padding,
    Prefixed,
    Struct,
    Terminated,
    this,
)

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.packet import NULL_PID
from protocol.mpegts.section import PSI_SECTION_MAX, LongSection, build_section, parse_section


class TableId(IntEnum):
    """ISO/IEC 13818-1, table 2-31."""

    PAT = 0x00
    CAT = 0x01
    PMT = 0x02


# ISO/IEC 13818-1, table 2-45.
CA_DESCRIPTOR_TAG = 0x09
# 2.4.4.9: the PID of a PMT whose programme has no PCR.
NO_PCR_PID = NULL_PID
# 2.4.4.5: program_number 0 names the network PID.
NETWORK_PROGRAM = 0
# 2.4.4.7: reserved where other tables have an identifier.
_CAT_EXTENSION = 0xFFFF

_PID = BitStruct(Padding(3, pattern=b"\x01"), "pid" / BitsInteger(13))
_LENGTH = BitStruct(Padding(4, pattern=b"\x01"), "length" / BitsInteger(12))

# 2.6: every descriptor.
DESCRIPTOR = Struct("tag" / Int8ub, "data" / Prefixed(Int8ub, GreedyBytes))
# 2.6.16, behind tag and length.
CA_DESCRIPTOR = Struct("ca_system_id" / Int16ub, "ca_pid" / _PID, "private_data" / GreedyBytes, Terminated)
# 2.4.4.4, table 2-30: one turn of the loop.
PAT_PROGRAM = Struct("program_number" / Int16ub, "program_map_pid" / _PID)
# 2.4.4.9, table 2-33: what stands before the streams, and one turn of their loop.
PMT_HEAD = Struct("pcr_pid" / _PID, "info" / _LENGTH, "descriptors" / Bytes(this.info.length))
PMT_STREAM = Struct(
    "stream_type" / Int8ub, "elementary_pid" / _PID, "info" / _LENGTH, "descriptors" / Bytes(this.info.length)
)


@dataclass(frozen=True, slots=True)
class CaDescriptor:
    """Where a CA system's messages are: EMMs when it stands in the CAT, ECMs in a PMT.

    `private_data`: at most 251 bytes.
    """

    ca_system_id: int
    ca_pid: int
    private_data: bytes = b""


@dataclass(frozen=True, slots=True)
class OtherDescriptor:
    """A descriptor that is carried, not understood. `data`: at most 255 bytes."""

    tag: int
    data: bytes


Descriptor = CaDescriptor | OtherDescriptor


@dataclass(frozen=True, slots=True)
class ProgramAssociation:
    """The PAT. `programs`: (program_number, PID of its PMT); program_number is DVB's service_id, 0 the network PID."""

    transport_stream_id: int
    programs: tuple[tuple[int, int], ...]
    version_number: int = 0
    current: bool = True
    section_number: int = 0
    last_section_number: int = 0


@dataclass(frozen=True, slots=True)
class ConditionalAccess:
    """The CAT: a CA_descriptor for each CA system that sends EMMs in this transport stream."""

    descriptors: tuple[Descriptor, ...]
    version_number: int = 0
    current: bool = True
    section_number: int = 0
    last_section_number: int = 0


@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """One component of a programme. CA_descriptors here hold for this component only."""

    stream_type: int
    elementary_pid: int
    descriptors: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramMap:
    """The PMT of one programme. `descriptors` hold for all its streams."""

    program_number: int
    streams: tuple[ElementaryStream, ...]
    descriptors: tuple[Descriptor, ...] = ()
    pcr_pid: int = NO_PCR_PID
    version_number: int = 0
    current: bool = True
    section_number: int = 0
    last_section_number: int = 0


def ca_pid(descriptors: Iterable[Descriptor], ca_system_id: int) -> int | None:
    """The PID that the first CA_descriptor of this CA system names, or None."""
    for descriptor in descriptors:
        if isinstance(descriptor, CaDescriptor) and descriptor.ca_system_id == ca_system_id:
            return descriptor.ca_pid
    return None


def build_pat(table: ProgramAssociation) -> bytes:
    """The section of a PAT. Raises EncodeError when it does not fit one section (253 programmes)."""
    programs = [{"program_number": number, "program_map_pid": {"pid": pid}} for number, pid in table.programs]
    return _build(
        TableId.PAT, table.transport_stream_id, table, b"".join(_spell(PAT_PROGRAM, item) for item in programs)
    )


def parse_pat(raw: bytes) -> ProgramAssociation:
    """The PAT that stands in one section. Raises DecodeError."""
    section = _parse(TableId.PAT, raw)
    programs = tuple((item.program_number, item.program_map_pid.pid) for item in _items(PAT_PROGRAM, section.payload))
    return ProgramAssociation(section.table_id_extension, programs, *_edition(section))


def build_cat(table: ConditionalAccess) -> bytes:
    """The section of a CAT. Raises EncodeError when it does not fit one section."""
    return _build(TableId.CAT, _CAT_EXTENSION, table, _spell_descriptors(table.descriptors))


def parse_cat(raw: bytes) -> ConditionalAccess:
    """The CAT that stands in one section. Raises DecodeError."""
    section = _parse(TableId.CAT, raw)
    return ConditionalAccess(_descriptors(section.payload), *_edition(section))


def build_pmt(table: ProgramMap) -> bytes:
    """The section of a PMT. Raises EncodeError when it does not fit one section."""
    shared = _spell_descriptors(table.descriptors)
    parts = [
        _spell(PMT_HEAD, {"pcr_pid": {"pid": table.pcr_pid}, "info": {"length": len(shared)}, "descriptors": shared})
    ]
    for stream in table.streams:
        own = _spell_descriptors(stream.descriptors)
        fields = {"stream_type": stream.stream_type, "elementary_pid": {"pid": stream.elementary_pid}}
        parts.append(_spell(PMT_STREAM, {**fields, "info": {"length": len(own)}, "descriptors": own}))
    return _build(TableId.PMT, table.program_number, table, b"".join(parts))


def parse_pmt(raw: bytes) -> ProgramMap:
    """The PMT that stands in one section. Raises DecodeError."""
    section = _parse(TableId.PMT, raw)
    body = io.BytesIO(section.payload)
    head = _read(PMT_HEAD, body)
    streams = tuple(
        ElementaryStream(item.stream_type, item.elementary_pid.pid, _descriptors(item.descriptors))
        for item in _items(PMT_STREAM, body.read())
    )
    shared = _descriptors(head.descriptors)
    return ProgramMap(section.table_id_extension, streams, shared, head.pcr_pid.pid, *_edition(section))


def _build(
    table_id: TableId, extension: int, table: ProgramAssociation | ConditionalAccess | ProgramMap, payload: bytes
) -> bytes:
    edition = (table.current, table.section_number, table.last_section_number)
    section = build_section(LongSection(table_id, extension, table.version_number, payload, *edition))
    if len(section) > PSI_SECTION_MAX:
        raise EncodeError(f"a {table_id.name} of {len(section)} bytes is more than a section ({PSI_SECTION_MAX} bytes)")
    return section


def _parse(table_id: TableId, raw: bytes) -> LongSection:
    section = parse_section(raw)
    if section.table_id != table_id:
        raise DecodeError(f"table_id {section.table_id:#04x} is not that of a {table_id.name}")
    if not isinstance(section, LongSection):
        raise DecodeError(f"a {table_id.name} has section_syntax_indicator 1")
    return section


def _edition(section: LongSection) -> tuple[int, bool, int, int]:
    numbers = section.section_number, section.last_section_number
    return section.version_number, section.current_next_indicator, *numbers


def _spell_descriptors(descriptors: Iterable[Descriptor]) -> bytes:
    return b"".join(map(_spell_descriptor, descriptors))


def _spell_descriptor(descriptor: Descriptor) -> bytes:
    if isinstance(descriptor, OtherDescriptor):
        return _spell(DESCRIPTOR, {"tag": descriptor.tag, "data": descriptor.data})
    fields = {
        "ca_system_id": descriptor.ca_system_id,
        "ca_pid": {"pid": descriptor.ca_pid},
        "private_data": descriptor.private_data,
    }
    return _spell(DESCRIPTOR, {"tag": CA_DESCRIPTOR_TAG, "data": _spell(CA_DESCRIPTOR, fields)})


def _descriptors(data: bytes) -> tuple[Descriptor, ...]:
    return tuple(map(_descriptor, _items(DESCRIPTOR, data)))


def _descriptor(item: Any) -> Descriptor:
    if item.tag != CA_DESCRIPTOR_TAG:
        return OtherDescriptor(item.tag, item.data)
    fields = _read(CA_DESCRIPTOR, io.BytesIO(item.data))
    return CaDescriptor(fields.ca_system_id, fields.ca_pid.pid, fields.private_data)


def _spell(declaration: Any, value: dict[str, Any]) -> bytes:
    try:
        return bytes(declaration.build(value))
    except ConstructError as error:
        raise EncodeError(f"out of range: {', '.join(value)}") from error


def _items(declaration: Any, data: bytes) -> list[Any]:
    """Every item of a loop that fills `data` exactly; a last one that is cut short is an error."""
    stream = io.BytesIO(data)
    items: list[Any] = []
    while stream.tell() < len(data):
        items.append(_read(declaration, stream))
    return items


def _read(declaration: Any, stream: io.BytesIO) -> Any:
    try:
        return declaration.parse_stream(stream)
    except ConstructError as error:
        raise DecodeError("a table ends in the middle of an item") from error
