"""RTP around transport packets, as IPTV sends it: the header built and read.

    V=2 P X CC | M PT | sequence (16) | timestamp (32, 90 kHz) | SSRC (32) | CSRCs | extension | payload | padding

Source: RFC 3550, 5.1 (fixed header), 5.3.1 (extension); RFC 2250, 2 (MPEG-2 transport streams: PT 33, 90 kHz).
"""

import struct
from dataclasses import dataclass
from typing import Final

from protocol.errors import DecodeError, EncodeError

VERSION: Final = 2
# RFC 3551, table 5.
PAYLOAD_TYPE_MP2T: Final = 33
CLOCK_HZ: Final = 90_000

_HEADER: Final = struct.Struct(">BBHII")
_EXTENSION: Final = struct.Struct(">HH")
_PADDING, _EXTENDED, _CSRC_COUNT = 0x20, 0x10, 0x0F
_MARKER = 0x80


@dataclass(frozen=True, slots=True)
class RtpHeader:
    """What the header says. `marker`: the timestamp jumps here (RFC 2250, 2)."""

    sequence_number: int
    timestamp: int
    ssrc: int
    marker: bool = False
    payload_type: int = PAYLOAD_TYPE_MP2T


def build(header: RtpHeader, payload: bytes) -> bytes:
    """The datagram, without CSRCs, extension and padding. Raises EncodeError for a field out of range."""
    if not 0 <= header.payload_type < _MARKER:
        raise EncodeError(f"an RTP payload type has 7 bits, {header.payload_type} does not fit")
    second = (_MARKER if header.marker else 0) | header.payload_type
    try:
        head = _HEADER.pack(VERSION << 6, second, header.sequence_number, header.timestamp, header.ssrc)
    except struct.error as error:
        raise EncodeError(f"a number does not fit its field of the RTP header: {error}") from None
    return head + payload


def looks_like_rtp(datagram: bytes) -> bool:
    """Whether it can be RTP with transport packets in it; a transport packet itself begins with 0x47 and cannot."""
    return (
        len(datagram) >= _HEADER.size
        and datagram[0] >> 6 == VERSION
        and datagram[1] & ~_MARKER & 0xFF == PAYLOAD_TYPE_MP2T
    )


def parse(datagram: bytes) -> tuple[RtpHeader, bytes]:
    """Header and payload of a datagram, whatever stands between them. Raises DecodeError."""
    if len(datagram) < _HEADER.size:
        raise DecodeError(f"an RTP datagram has at least {_HEADER.size} bytes, not {len(datagram)}")
    first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if first >> 6 != VERSION:
        raise DecodeError(f"RTP version {first >> 6} is unknown; this is read as version {VERSION}")
    begin = _HEADER.size + 4 * (first & _CSRC_COUNT)
    if first & _EXTENDED:
        if len(datagram) < begin + _EXTENSION.size:
            raise DecodeError("the extension of the RTP header is cut short")
        begin += _EXTENSION.size + 4 * int(_EXTENSION.unpack_from(datagram, begin)[1])
    end = len(datagram)
    if first & _PADDING:
        # 5.1: the last byte counts the padding, itself included.
        if not datagram[-1]:
            raise DecodeError("RTP padding of 0 bytes")
        end -= datagram[-1]
    if begin > end:
        raise DecodeError("the RTP header announces more than the datagram holds")
    header = RtpHeader(sequence_number, timestamp, ssrc, bool(second & _MARKER), second & ~_MARKER)
    return header, datagram[begin:end]
