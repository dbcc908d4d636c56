"""Sources: datagrams with and without RTP, gaps counted, recordings in their own time, pipes until they are closed."""

import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.errors import CadError, ListenError, NotFoundError
from cad.probe.sources import LiveFile, Piece, Recording, UdpSource, open_source
from protocol import rtp
from protocol.errors import DecodeError
from protocol.mpegts.packet import NULL_PACKET
from tests.support.probe_streams import recording


@contextlib.contextmanager
def listening(url: str = "udp://127.0.0.1:0", interface: str | None = None):  # type: ignore[no-untyped-def]
    source = open_source(url, interface)
    assert isinstance(source, UdpSource)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    host = url.split("//")[1].rpartition(":")[0] or "127.0.0.1"
    try:
        yield source, lambda data: sender.sendto(data, (host, source.port))
    finally:
        sender.close()
        source.close()


def take(source: UdpSource, count: int) -> list[Piece]:
    pieces = source.pieces()
    found: list[Piece] = []
    while len(found) < count:
        piece = next(pieces)
        if piece != Piece(b""):
            found.append(piece)
    return found


def wrap(number: int, payload: bytes) -> bytes:
    return rtp.build(rtp.RtpHeader(number & 0xFFFF, 0, 1), payload)


@pytest.mark.parametrize("url", ["udp://127.0.0.1:0", "udp://:0", "udp://239.255.79.1:0"])
def test_plain_datagrams(url: str) -> None:
    with listening(url, "lo" if "239" in url else None) as (source, send):
        send(NULL_PACKET * 7)
        send(NULL_PACKET)
        assert take(source, 2) == [Piece(NULL_PACKET * 7), Piece(NULL_PACKET)]
        assert source.live


def test_a_source_that_is_silent_lets_its_reader_look_up() -> None:
    with listening() as (source, _):
        assert next(source.pieces()) == Piece(b"")


@pytest.mark.parametrize("scheme", ["udp", "rtp"])
def test_rtp_is_unwrapped_and_what_is_missing_counted(scheme: str) -> None:
    with listening(f"{scheme}://127.0.0.1:0") as (source, send):
        for number in (65534, 65535, 0, 4, 3, 40_000, 40_001):
            send(wrap(number, NULL_PACKET))
        found = take(source, 7)
    assert [piece.data for piece in found] == [NULL_PACKET] * 7
    # Late by one, and a sender that starts anew, count as one each: how many are missing cannot be known.
    assert [piece.lost for piece in found] == [0, 0, 0, 3, 1, 1, 0]


def test_only_rtp_is_taken_where_rtp_is_asked_for() -> None:
    with listening("rtp://127.0.0.1:0") as (source, send):
        send(NULL_PACKET)
        send(wrap(1, NULL_PACKET[:100]))
        found = take(source, 1)
        send(wrap(2, NULL_PACKET))
        found += take(source, 1)
    assert found == [Piece(b"", lost=1), Piece(NULL_PACKET)]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_datagram_gives_a_piece(datagrams: list[bytes]) -> None:
    source = UdpSource("udp://127.0.0.1:0", None)
    with contextlib.closing(source):
        for datagram in datagrams:
            assert 0 <= source._unwrap(datagram).lost < 0x1000


def test_a_recording_without_clock_takes_the_rate_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    path.write_bytes(recording(2))
    with pytest.raises(DecodeError, match="give its rate by --rate-kbps"):
        open_source(str(path))
    source = open_source(str(path), rate_bps=1_000_000)
    assert isinstance(source, Recording)
    with contextlib.closing(source):
        pieces = list(source.pieces())
    assert b"".join(piece.data for piece in pieces) == path.read_bytes()
    times = [piece.at or 0.0 for piece in pieces]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(2, abs=0.01)


def test_a_pipe_lasts_until_it_is_closed() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file:
        source = LiveFile(file)
        os.write(writing, NULL_PACKET)
        pieces = source.pieces()
        assert next(pieces) == Piece(NULL_PACKET)
        assert next(pieces) == Piece(b"")
        os.close(writing)
        assert list(pieces) == []


@pytest.mark.parametrize(
    ("name", "interface", "error", "words"),
    [
        ("http://x:1", None, CadError, "is no source: write udp://GROUP:PORT"),
        ("udp://239.1.1.1", None, CadError, "is no source"),
        ("udp://239.1.1.1:99999", None, CadError, "is no source"),
        ("udp://[::1:5", None, CadError, "is no source"),
        ("udp://192.0.2.99:5000", None, ListenError, "cannot listen on 192.0.2.99:5000: "),
        ("udp://239.1.1.1:5000", "nowhere0", ListenError, "is the port free, and the interface right"),
        ("udp://name.invalid:5000", None, ListenError, "correct the address"),
        ("/nowhere/x.ts", None, NotFoundError, "there is no file /nowhere/x.ts"),
        ("/tmp", None, CadError, "cannot read /tmp: Is a directory"),
        ("x.ts", "lo", CadError, "--interface is for udp:// and rtp://"),
    ],
)
def test_what_cannot_be_listened_to(name: str, interface: str | None, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        open_source(name, interface)
