"""Transport packets, sections and tables as a receiver takes them apart, by plain slices (ISO/IEC 13818-1).

Never with the code under test: the headend's own `protocol.mpegts` is not used here.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PACKET_SIZE = 188
NULL_PID = 0x1FFF
EVEN, ODD = 2, 3
CA_DESCRIPTOR = 0x09
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def split(data: bytes) -> list[bytes]:
    """The packets of a file."""
    assert len(data) % PACKET_SIZE == 0, f"{len(data)} bytes are no whole number of packets"
    packets = [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]
    assert all(packet[0] == 0x47 for packet in packets), "a packet without its sync byte"
    return packets


def pid_of(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def scrambling(packet: bytes) -> int:
    """transport_scrambling_control: 0 clear, EVEN or ODD."""
    return packet[3] >> 6


def set_scrambling(packet: bytes, control: int) -> bytes:
    return packet[:3] + bytes([packet[3] & 0x3F | control << 6]) + packet[4:]


def starts_unit(packet: bytes) -> bool:
    """payload_unit_start_indicator."""
    return bool(packet[1] & 0x40)


def payload_at(packet: bytes) -> int:
    """Where the payload begins; PACKET_SIZE where there is none."""
    control = packet[3] >> 4 & 3
    if control == 1:
        return 4
    return min(PACKET_SIZE, 5 + packet[4]) if control == 3 else PACKET_SIZE


def begins_picture(packet: bytes) -> bool:
    """Whether a decoder can begin here: random_access_indicator, which is not scrambled."""
    return starts_unit(packet) and bool(packet[3] & 0x20) and packet[4] > 0 and bool(packet[5] & 0x40)


def clock_reference(packet: bytes) -> float | None:
    """The PCR in seconds, where the packet has one."""
    if not packet[3] & 0x20 or packet[4] < 7 or not packet[5] & 0x10:
        return None
    return (int.from_bytes(packet[6:10], "big") << 1 | packet[10] >> 7) / 90_000


def null_packet() -> bytes:
    return b"\x47\x1f\xff\x10".ljust(PACKET_SIZE, b"\xff")


def crc32(data: bytes) -> int:
    """CRC-32 of ISO/IEC 13818-1, Annex A."""
    value = ~zlib.crc32(data.translate(_MIRROR)) & 0xFFFFFFFF
    return int.from_bytes(value.to_bytes(4, "little").translate(_MIRROR), "big")


class SectionPackets:
    """Puts each section into packets of its own on one PID, and counts their continuity counter."""

    def __init__(self, pid: int, counter: int = 0) -> None:
        self.pid = pid
        self._counter = counter

    def __call__(self, section: bytes) -> list[bytes]:
        body = b"\0" + section
        packets = []
        for at in range(0, len(body), PACKET_SIZE - 4):
            head = bytes([0x47, (0x40 if at == 0 else 0) | self.pid >> 8, self.pid & 0xFF, 0x10 | self._counter])
            packets.append((head + body[at : at + PACKET_SIZE - 4]).ljust(PACKET_SIZE, b"\xff"))
            self._counter = (self._counter + 1) % 16
        return packets


class Sections:
    """Collects the sections of one PID. Damage is passed over: the next section begins anew."""

    def __init__(self) -> None:
        self._held = b""
        self._counter: int | None = None

    def push(self, packet: bytes) -> list[bytes]:
        payload = packet[payload_at(packet) :]
        if not payload or scrambling(packet):
            return []
        counter, expected = packet[3] & 15, self._counter
        self._counter = (counter + 1) % 16
        if expected is not None and counter != expected:
            self._held = b""
        found: list[bytes] = []
        if starts_unit(packet):
            pointer = payload[0]
            if self._held:
                found += self._take(self._held + payload[1 : 1 + pointer])[:1]
            self._held = b""
            payload = payload[1 + pointer :]
        elif not self._held:
            return []
        return found + self._take(self._held + payload)

    def _take(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        while len(data) >= 3 and data[0] != 0xFF:
            size = 3 + (int.from_bytes(data[1:3], "big") & 0xFFF)
            if len(data) < size:
                break
            found.append(data[:size])
            data = data[size:]
        self._held = data if data[:1] not in (b"", b"\xff") else b""
        return found


def table_body(section: bytes, table_id: int) -> bytes | None:
    """What stands between header and CRC of a table section that is this one, whole, current and undamaged."""
    if len(section) < 12 or section[0] != table_id or not section[5] & 1 or crc32(section):
        return None
    return section[8:-4]


def programs(section: bytes) -> dict[int, int]:
    """PAT: service_id → PID of its PMT."""
    body = table_body(section, 0x00) or b""
    turns = (int.from_bytes(body[at : at + 4], "big") for at in range(0, len(body) - 3, 4))
    return {turn >> 16: turn & 0x1FFF for turn in turns if turn >> 16}


def ca_pids(section: bytes) -> dict[int, int]:
    """CAT: CA_system_id → PID of its EMMs."""
    return _ca_descriptors(table_body(section, 0x01) or b"")


@dataclass(frozen=True)
class Service:
    """PMT: the components by PID with their stream_type, and CA_system_id → PID of the ECMs."""

    service_id: int
    pcr_pid: int
    components: dict[int, int]
    ecm_pids: dict[int, int]

    @property
    def video_pid(self) -> int:
        return next(pid for pid, kind in self.components.items() if kind in (0x01, 0x02, 0x1B, 0x24))


def service_of(section: bytes) -> Service | None:
    """What a PMT section says, None for anything else."""
    body = table_body(section, 0x02)
    if body is None:
        return None
    at = 4 + _length(body[2:4])
    ecm_pids = _ca_descriptors(body[4:at])
    components: dict[int, int] = {}
    while at + 5 <= len(body):
        components[_length(body[at + 1 : at + 3], 0x1FFF)] = body[at]
        at += 5 + _length(body[at + 3 : at + 5])
    return Service(int.from_bytes(section[3:5], "big"), _length(body[0:2], 0x1FFF), components, ecm_pids)


def ca_descriptor(ca_system_id: int, pid: int) -> bytes:
    return bytes([CA_DESCRIPTOR, 4]) + ca_system_id.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big")


def with_ca_descriptor(pmt: bytes, descriptor: bytes) -> bytes:
    """The same PMT in its next version, with one more descriptor for the whole service."""
    at = 12 + _length(pmt[10:12])
    info = (0xF000 | _length(pmt[10:12]) + len(descriptor)).to_bytes(2, "big")
    version = bytes([pmt[5] & 0xC1 | (pmt[5] + 2) & 0x3E])
    return _seal(pmt[:5] + version + pmt[6:10] + info + pmt[12:at] + descriptor + pmt[at:-4])


def cat_section(descriptor: bytes) -> bytes:
    return _seal(b"\x01\x00\x00\xff\xff\xc1\x00\x00" + descriptor)


def first_section(packets: Iterable[bytes], pid: int) -> bytes:
    """The first section on this PID."""
    sections = Sections()
    return next(one for packet in packets if pid_of(packet) == pid for one in sections.push(packet))


def _seal(draft: bytes) -> bytes:
    """A table section with its length and CRC put right."""
    body = draft[:1] + (0xB000 | len(draft) + 1).to_bytes(2, "big") + draft[3:]
    return body + crc32(body).to_bytes(4, "big")


def _length(two: bytes, mask: int = 0xFFF) -> int:
    return int.from_bytes(two, "big") & mask


def _ca_descriptors(data: bytes) -> dict[int, int]:
    found = {}
    for tag, value in _descriptors(data):
        if tag == CA_DESCRIPTOR and len(value) >= 4:
            found.setdefault(int.from_bytes(value[:2], "big"), _length(value[2:4], 0x1FFF))
    return found


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 2:
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
