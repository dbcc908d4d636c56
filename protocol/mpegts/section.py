"""Sections: building, reading, CRC-32, and collecting them out of the packets of one PID.

A section is what a table or a CA message travels in. The short form is a header of three bytes and the payload; the
long form adds five bytes of header and a CRC-32. EMMs and ECMs are short sections.

Source: ISO/IEC 13818-1, 2.4.4.10 and 2.4.4.11 (private_section), Annex A (CRC); ETSI ETR 289, 5 (CA messages).
"""

import zlib
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from construct import (
    BitsInteger,
    BitStruct,
    Bytes,
    Const,
    ConstructError,
    Flag,
    Int32ub,
    Padding,
    Struct,
    Terminated,
    this,
)

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.packet import STUFFING_BYTE, TsPacket

# ISO/IEC 13818-1, 2.4.4.11: private_section_length at most 4093. 2.4.4.5, .6, .8: PAT, CAT and PMT at most 1021.
SECTION_MAX = 4096
PSI_SECTION_MAX = 1024
SECTION_HEADER = 3
_LONG_OVERHEAD = 9

# ISO/IEC 13818-1, table 2-35. Reserved bits are sent as ones (2.1.65) and not looked at when read.
SHORT_SECTION = Struct(
    "header"
    / BitStruct(
        "table_id" / BitsInteger(8),
        "section_syntax_indicator" / Const(0, BitsInteger(1)),
        "private_indicator" / Flag,
        Padding(2, pattern=b"\x01"),
        "section_length" / BitsInteger(12),
    ),
    "payload" / Bytes(this.header.section_length),
    Terminated,
)
LONG_SECTION = Struct(
    "header"
    / BitStruct(
        "table_id" / BitsInteger(8),
        "section_syntax_indicator" / Const(1, BitsInteger(1)),
        "private_indicator" / Flag,
        Padding(2, pattern=b"\x01"),
        "section_length" / BitsInteger(12),
        "table_id_extension" / BitsInteger(16),
        Padding(2, pattern=b"\x01"),
        "version_number" / BitsInteger(5),
        "current_next_indicator" / Flag,
        "section_number" / BitsInteger(8),
        "last_section_number" / BitsInteger(8),
    ),
    "payload" / Bytes(this.header.section_length - _LONG_OVERHEAD),
    "crc_32" / Int32ub,
    Terminated,
)


@dataclass(frozen=True, slots=True)
class ShortSection:
    """A section without version, numbers and CRC, as CA messages are. `payload`: at most 4093 bytes."""

    table_id: int
    payload: bytes
    private_indicator: bool = True


@dataclass(frozen=True, slots=True)
class LongSection:
    """A section with table_id_extension, version, numbers and CRC-32, as PAT, CAT and PMT are.

    `payload`: at most 4084 bytes.
    """

    table_id: int
    table_id_extension: int
    version_number: int
    payload: bytes
    current_next_indicator: bool = True
    section_number: int = 0
    last_section_number: int = 0
    private_indicator: bool = False


# Each byte with its bits in reverse: zlib's CRC-32 has the same polynomial, but takes the lowest bit first.
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """The CRC-32 of ISO/IEC 13818-1, Annex A: polynomial 0x04C11DB7, start all ones, highest bit first, not inverted.

    Over a section with its CRC_32 field it is 0.
    """
    mirrored = ~zlib.crc32(data.translate(_MIRROR)) & 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRROR), "big")


def build_section(section: ShortSection | LongSection) -> bytes:
    """The bytes of `section`, with CRC where it has one. Raises EncodeError: too long, or a field out of range."""
    long = isinstance(section, LongSection)
    size = SECTION_HEADER + len(section.payload) + (_LONG_OVERHEAD if long else 0)
    if size > SECTION_MAX:
        raise EncodeError(f"a section has at most {SECTION_MAX} bytes, not {size}")
    header: dict[str, object] = {
        "table_id": section.table_id,
        "private_indicator": section.private_indicator,
        "section_length": size - SECTION_HEADER,
    }
    try:
        if not isinstance(section, LongSection):
            return bytes(SHORT_SECTION.build({"header": header, "payload": section.payload}))
        header |= {
            "table_id_extension": section.table_id_extension,
            "version_number": section.version_number,
            "current_next_indicator": section.current_next_indicator,
            "section_number": section.section_number,
            "last_section_number": section.last_section_number,
        }
        body = bytes(LONG_SECTION.build({"header": header, "payload": section.payload, "crc_32": 0}))[:-4]
    except ConstructError as error:
        raise EncodeError("a field of the section header is out of range") from error
    return body + crc32(body).to_bytes(4, "big")


def section_size(head: bytes | bytearray) -> int:
    """The size in bytes, header included, of the section that begins with `head` (at least 3 bytes)."""
    return SECTION_HEADER + ((head[1] & 0x0F) << 8 | head[2])


def parse_section(raw: bytes) -> ShortSection | LongSection:
    """The one section that stands in `raw`, and nothing else. Raises DecodeError, also when the CRC is wrong."""
    if len(raw) < SECTION_HEADER:
        raise DecodeError(f"a section has at least {SECTION_HEADER} bytes, not {len(raw)}")
    size = section_size(raw)
    if size > SECTION_MAX:
        raise DecodeError(f"a section has at most {SECTION_MAX} bytes; section_length says {size}")
    if len(raw) != size:
        raise DecodeError(f"section_length says {size} bytes, but there are {len(raw)}")
    long = bool(raw[1] & 0x80)
    if long and size < SECTION_HEADER + _LONG_OVERHEAD:
        raise DecodeError(f"a section with section_syntax_indicator 1 has at least 12 bytes, not {size}")
    try:
        fields = (LONG_SECTION if long else SHORT_SECTION).parse(raw)
    except ConstructError as error:
        raise DecodeError("not a section") from error
    header = fields.header
    if not long:
        return ShortSection(header.table_id, fields.payload, header.private_indicator)
    if crc32(raw):
        raise DecodeError(f"the CRC of the section with table_id {header.table_id:#04x} is wrong")
    return LongSection(
        table_id=header.table_id,
        table_id_extension=header.table_id_extension,
        version_number=header.version_number,
        payload=fields.payload,
        current_next_indicator=header.current_next_indicator,
        section_number=header.section_number,
        last_section_number=header.last_section_number,
        private_indicator=header.private_indicator,
    )


class Damage(StrEnum):
    """Why the assembler threw something away."""

    DISCONTINUITY = "continuity counter jumped"
    DUPLICATE = "packet repeated"
    TRANSPORT_ERROR = "packet marked as damaged"
    SCRAMBLED = "packet scrambled"
    POINTER = "pointer_field beyond the packet"
    CUT_SHORT = "next section began before the end of this one"
    LENGTH = "section_length too large"
    NO_START = "bytes after the end of a section, without a new start"


class SectionAssembler:
    """Collects the sections of one PID out of its packets.

    Never raises, and never holds more than one section and one packet. What is damaged is dropped and counted in
    `damage`; collection goes on at the next packet that begins a section. No CRC is checked here, see parse_section.
    """

    def __init__(self, section_max: int = SECTION_MAX) -> None:
        self._section_max = section_max
        self._partial = bytearray()
        self._collecting = False
        self._last: TsPacket | None = None
        self.damage: Counter[Damage] = Counter()

    def push(self, packet: TsPacket) -> list[bytes]:
        """The sections that are complete with `packet`, in order. Packets: of one PID, in the order received."""
        if packet.transport_error:
            # 2.4.3.3: nothing in it can be relied on, not even the counter.
            self._drop(Damage.TRANSPORT_ERROR)
            return []
        if not packet.payload:
            # 2.4.3.3: the counter does not rise with packets that have no payload.
            return []
        last, self._last = self._last, packet
        if last is not None and not packet.discontinuity:
            if packet.continuity_counter == last.continuity_counter and packet.payload == last.payload:
                self.damage[Damage.DUPLICATE] += 1
                return []
            if packet.continuity_counter != (last.continuity_counter + 1) & 0x0F:
                self._drop(Damage.DISCONTINUITY)
        if packet.scrambling_control:
            self._drop(Damage.SCRAMBLED)
            return []
        if packet.payload_unit_start:
            return self._start(packet.payload)
        if not self._collecting:
            return []
        self._partial += packet.payload
        return self._take(may_begin=False)

    def _start(self, payload: bytes) -> list[bytes]:
        begin = 1 + payload[0]
        if begin >= len(payload):
            self._drop(Damage.POINTER)
            return []
        complete: list[bytes] = []
        if self._collecting:
            self._partial += payload[1:begin]
            complete = self._take(may_begin=False)
            if self._partial:
                self._drop(Damage.CUT_SHORT)
        self._partial = bytearray(payload[begin:])
        self._collecting = True
        return complete + self._take(may_begin=True)

    def _take(self, *, may_begin: bool) -> list[bytes]:
        """Cut whole sections off what has been collected; `may_begin`: a further one may begin behind the first."""
        complete: list[bytes] = []
        while self._partial:
            if self._partial[0] == STUFFING_BYTE:
                # table_id 0xFF is forbidden (table 2-31), so this is stuffing, and lasts to the end of the packet.
                self._stop()
            elif complete and not may_begin:
                self._drop(Damage.NO_START)
            elif len(self._partial) < SECTION_HEADER:
                break
            elif (size := section_size(self._partial)) > self._section_max:
                self._drop(Damage.LENGTH)
            elif len(self._partial) < size:
                break
            else:
                complete.append(bytes(self._partial[:size]))
                del self._partial[:size]
        if not self._partial:
            self._collecting = False
        return complete

    def _drop(self, why: Damage) -> None:
        self.damage[why] += 1
        self._stop()

    def _stop(self) -> None:
        self._partial.clear()
        self._collecting = False
