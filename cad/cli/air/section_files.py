"""Sections out of a file that a person has: a recorded transport stream, bare sections, or hexadecimal text."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO, Final

from protocol.errors import DecodeError, ProtocolError
from protocol.mpegts.packet import CAT_PID, PACKET_SIZE, SYNC_BYTE, PacketSync, packet_pid, parse_packet
from protocol.mpegts.psi import CaDescriptor, parse_cat
from protocol.mpegts.section import SECTION_HEADER, SectionAssembler, section_size

CHUNK: Final = 1 << 20
PLAIN_BYTES_MAX: Final = 64 << 20
_COMMENT: Final = re.compile(rb"#[^\r\n]*")
_NOT_TEXT: Final = re.compile(rb"[^\t\r\n -~]")


class Form(StrEnum):
    """How sections lie in a file."""

    TRANSPORT_STREAM = "transport stream"
    SECTIONS = "sections"
    HEX = "hexadecimal"


@dataclass
class SectionFile:
    """A file whose sections are wanted. `pids`: where to look in a transport stream; none: where its CAT says.

    After `sections` has been read to its end, `damage` counts what was lost on the way to whole sections.
    """

    file: BinaryIO
    form: Form
    pids: tuple[int, ...] = ()
    damage: Counter[str] = field(default_factory=Counter)

    def sections(self) -> Iterator[bytes]:
        """Yield every whole section, in the order of the file. Raises ProtocolError for a file cut short."""
        if self.form is Form.TRANSPORT_STREAM:
            yield from self._out_of_packets()
        else:
            data = self.file.read(PLAIN_BYTES_MAX + 1)
            if len(data) > PLAIN_BYTES_MAX:
                raise DecodeError(f"the file is larger than {PLAIN_BYTES_MAX >> 20} MiB; cut it into pieces")
            yield from _split(_from_hex(data) if self.form is Form.HEX else data)

    def _out_of_packets(self) -> Iterator[bytes]:
        assemblers = {pid: SectionAssembler() for pid in self.pids}
        for raw in _packets(self.file, self._skipped):
            assembler = assemblers.get(packet_pid(raw))
            if assembler is None:
                continue
            try:
                packet = parse_packet(raw)
            except ProtocolError:
                self.damage["packet that cannot be read"] += 1
                continue
            yield from assembler.push(packet)
        for assembler in assemblers.values():
            self.damage.update({str(why): count for why, count in assembler.damage.items()})

    def _skipped(self, count: int) -> None:
        if count:
            self.damage["bytes between packets"] += count


def open_sections(file: BinaryIO, pids: Iterable[int] = ()) -> SectionFile:
    """Find out what lies in a seekable file. Raises ProtocolError when there is nothing to read."""
    head = file.read(2 * PACKET_SIZE + 1)
    file.seek(0)
    if not head:
        raise DecodeError("the file is empty")
    wanted = tuple(dict.fromkeys(pids))
    if all(byte == SYNC_BYTE for byte in head[::PACKET_SIZE]):
        return SectionFile(file, Form.TRANSPORT_STREAM, wanted or _emm_pids(file))
    if wanted:
        raise DecodeError("--pid is for transport streams, and this file is none")
    return SectionFile(file, Form.SECTIONS if _NOT_TEXT.search(head) else Form.HEX)


def _emm_pids(file: BinaryIO) -> tuple[int, ...]:
    """Return the PIDs in the first CAT of a transport stream, and go back to its start."""
    assembler = SectionAssembler()
    for raw in _packets(file, lambda _: None):
        if packet_pid(raw) != CAT_PID:
            continue
        try:
            tables = [parse_cat(section) for section in assembler.push(parse_packet(raw))]
        except ProtocolError:
            continue
        found = [each.ca_pid for table in tables for each in table.descriptors if isinstance(each, CaDescriptor)]
        if found:
            file.seek(0)
            return tuple(dict.fromkeys(found))
    raise DecodeError("no CAT in this transport stream names an EMM PID; say which with --pid")


def _packets(file: BinaryIO, skipped: Callable[[int], None]) -> Iterator[bytes]:
    sync = PacketSync()
    while chunk := file.read(CHUNK):
        yield from sync.feed(chunk)
    yield from sync.finish()
    skipped(sync.skipped)


def _from_hex(data: bytes) -> bytes:
    try:
        return bytes.fromhex(_COMMENT.sub(b"", data).decode("ascii"))
    except ValueError:
        raise DecodeError(
            "the file is neither a transport stream, nor sections, nor their hexadecimal text (comments after #)"
        ) from None


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        rest = len(data) - at
        size = section_size(data[at : at + SECTION_HEADER]) if rest >= SECTION_HEADER else SECTION_HEADER
        if rest < size:
            raise DecodeError(f"the section at byte {at} is cut short: {rest} of {size} bytes")
        yield data[at : at + size]
        at += size
