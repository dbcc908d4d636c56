"""RTP headers: the fields where RFC 3550 has them, everything before the payload skipped, nothing but our own error."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.rtp import PAYLOAD_TYPE_MP2T, RtpHeader, build, looks_like_rtp, parse

HEADER = RtpHeader(sequence_number=0x1234, timestamp=0x89ABCDEF, ssrc=0x01020304, marker=True)
# RFC 3550, 5.1, by hand: V=2; M=1, PT=33; the three numbers.
BYTES = bytes.fromhex("80 A1 1234 89ABCDEF 01020304")


def test_the_header_stands_as_the_rfc_has_it() -> None:
    assert build(HEADER, b"payload") == BYTES + b"payload"
    assert parse(BYTES + b"payload") == (HEADER, b"payload")
    assert looks_like_rtp(BYTES)
    assert not looks_like_rtp(b"\x47" + bytes(187))


headers = st.builds(
    RtpHeader,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.booleans(),
    st.integers(0, 127),
)


@given(headers, st.binary(max_size=50), st.integers(0, 15), st.integers(0, 5), st.integers(1, 9))
def test_what_stands_around_the_payload_is_left_out(
    header: RtpHeader, payload: bytes, sources: int, extension: int, padding: int
) -> None:
    plain = build(header, payload)
    assert parse(plain) == (header, payload)
    full = bytes([plain[0] | 0x30 | sources]) + plain[1:12] + bytes(4 * sources)
    full += b"\xbe\xde" + extension.to_bytes(2, "big") + bytes(4 * extension)
    full += payload + bytes(padding - 1) + bytes([padding])
    assert parse(full) == (header, payload)


@pytest.mark.parametrize(
    ("datagram", "words"),
    [
        (BYTES[:11], "at least 12 bytes"),
        (b"\x47" + BYTES[1:], "RTP version 1"),
        (b"\x82" + BYTES[1:] + bytes(7), "announces more"),
        (b"\x90" + BYTES[1:] + bytes(3), "extension of the RTP header is cut short"),
        (b"\x90" + BYTES[1:] + b"\0\0\0\2" + bytes(7), "announces more"),
        (b"\xa0" + BYTES[1:] + bytes(7), "padding of 0"),
        (b"\xa0" + BYTES[1:] + bytes(6) + b"\x08", "announces more"),
    ],
)
def test_what_is_cut_short_is_refused(datagram: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        parse(datagram)


@pytest.mark.parametrize(
    "header", [RtpHeader(0x10000, 0, 0), RtpHeader(0, 1 << 32, 0), RtpHeader(0, 0, -1), RtpHeader(0, 0, 0, False, 128)]
)
def test_numbers_that_do_not_fit_are_refused(header: RtpHeader) -> None:
    with pytest.raises(EncodeError, match="fit"):
        build(header, b"")


@given(st.binary(max_size=80))
def test_arbitrary_bytes_give_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        header, payload = parse(data)
        assert build(header, b"")[1:12] == data[1:12]
        assert payload in data
    assert not looks_like_rtp(data) or data[1] & 0x7F == PAYLOAD_TYPE_MP2T
