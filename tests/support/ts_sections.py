"""Sections out of TS packets, written from ISO/IEC 13818-1 (2.4.3.2, 2.4.4.2): never with the code under test."""

from collections.abc import Iterable

PACKET_BYTES = 188
STUFFING = 0xFF


def sections_of(datagrams: Iterable[bytes]) -> list[bytes]:
    """All whole sections, in order, of datagrams of whole packets of one PID, none of which was lost."""
    found: list[bytes] = []
    rest = b""
    started = False
    for datagram in datagrams:
        for offset in range(0, len(datagram), PACKET_BYTES):
            packet = datagram[offset : offset + PACKET_BYTES]
            if not packet[3] & 0x10:
                continue
            payload = packet[4:] if not packet[3] & 0x20 else packet[5 + packet[4] :]
            if packet[1] & 0x40:
                pointer = payload[0]
                if started:
                    rest = _take(rest + payload[1 : 1 + pointer], found)
                    assert not rest, "a section was begun and not ended"
                rest, started = payload[1 + pointer :], True
            elif started:
                rest += payload
            rest = _take(rest, found)
    return found


def _take(data: bytes, found: list[bytes]) -> bytes:
    """Move the whole sections at the beginning of `data` to `found`; return what is left, without stuffing."""
    while len(data) >= 3 and data[0] != STUFFING:
        size = 3 + (int.from_bytes(data[1:3], "big") & 0x0FFF)
        if len(data) < size:
            return data
        found.append(data[:size])
        data = data[size:]
    return b"" if data[:1] == bytes([STUFFING]) else data
