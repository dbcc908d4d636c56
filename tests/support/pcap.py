"""Captures written by hand: one TCP connection, or UDP datagrams, on loopback as a pcap file, for tshark."""

import socket
import struct
from collections.abc import Iterable
from pathlib import Path

SEGMENT_MAX = 1400
CLIENT_PORT = 40_000
FIN_ACK, SYN, SYN_ACK, ACK, PUSH_ACK = 0x11, 0x02, 0x12, 0x10, 0x18
# https://www.tcpdump.org/linktypes.html: 101 = raw IP.
LINKTYPE_RAW = 101


def write_tcp(path: Path, conversation: Iterable[tuple[float, str, bytes]], server_port: int) -> None:
    """Write (Unix time, "up" = client to server | "down", bytes) as one TCP connection to `server_port`."""
    recorded = list(conversation)
    start = recorded[0][0] if recorded else 0.0
    sequence = {"up": 1000, "down": 5000}
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, LINKTYPE_RAW))

        def segment(at: float, way: str, flags: int, data: bytes = b"") -> None:
            other = "down" if way == "up" else "up"
            packet = ipv4(tcp(way, sequence[way], sequence[other], flags, server_port, data))
            file.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(packet), len(packet)) + packet)
            sequence[way] += len(data) + (1 if flags & 3 else 0)

        segment(start, "up", SYN)
        segment(start, "down", SYN_ACK)
        segment(start, "up", ACK)
        for at, way, data in recorded:
            for offset in range(0, len(data), SEGMENT_MAX):
                segment(at, way, PUSH_ACK, data[offset : offset + SEGMENT_MAX])
        segment(recorded[-1][0] if recorded else start, "up", FIN_ACK)


def write_udp(path: Path, datagrams: Iterable[tuple[float, bytes]], port: int) -> None:
    """Write (Unix time, payload) as UDP datagrams to `port` (RFC 768; no checksum)."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0x40000, LINKTYPE_RAW))
        for at, data in datagrams:
            packet = ipv4(struct.pack(">HHHH", CLIENT_PORT, port, 8 + len(data), 0) + data, socket.IPPROTO_UDP)
            file.write(struct.pack("<IIII", int(at), int(at % 1 * 1e6), len(packet), len(packet)) + packet)


def tcp(way: str, sequence: int, acknowledged: int, flags: int, server_port: int, data: bytes) -> bytes:
    """One TCP segment with its checksum (RFC 9293, 3.1)."""
    ports = (CLIENT_PORT, server_port) if way == "up" else (server_port, CLIENT_PORT)
    acknowledgement = 0 if flags == SYN else acknowledged
    head = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledgement, 5 << 4, flags, 0xFFFF, 0, 0)
    pseudo = LOOPBACK * 2 + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(head) + len(data))
    return head[:16] + struct.pack(">H", checksum(pseudo + head + data)) + head[18:] + data


def ipv4(payload: bytes, protocol: int = socket.IPPROTO_TCP) -> bytes:
    """One IPv4 packet from loopback to loopback (RFC 791, 3.1)."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + LOOPBACK * 2
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


LOOPBACK = bytes([127, 0, 0, 1])
