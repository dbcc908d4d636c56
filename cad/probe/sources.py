"""Where the probe's bytes come from: a file, standard input or another live device, UDP, RTP."""

import contextlib
import ipaddress
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from cad.errors import CadError, ListenError, NotFoundError
from cad.probe.timing import PacketTimes, first_rate
from cad.ts_out.sender import interface_v4
from protocol import rtp
from protocol.errors import DecodeError
from protocol.mpegts.packet import PACKET_SIZE, PacketSync

RECEIVE_BUFFER_BYTES: Final = 8 << 20
DATAGRAM_MAX: Final = 65_536
READ_BYTES: Final = 1 << 20
HEAD_BYTES: Final = 64 << 20
POLL_S: Final = 0.2
PACKETS_AT_ONCE: Final = 7


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the stream. `at`: their time in a recording; None = now. `lost`: datagrams missing before them."""

    data: bytes
    at: float | None = None
    lost: int = 0


class Source(Protocol):
    """Gives pieces until the end; a live one gives empty pieces while nothing comes, so that its reader can look up."""

    live: bool

    def pieces(self) -> Iterator[Piece]:
        """Yield what comes."""
        ...

    def close(self) -> None:
        """Be done."""
        ...


def open_source(name: str, interface: str | None = None, rate_bps: float | None = None) -> Source:
    """Open `udp://HOST:PORT`, `rtp://HOST:PORT`, a file, or "-". Raises CadError, ProtocolError, OSError.

    HOST: a multicast group to join, or an address of this machine, or nothing for all of them. `rate_bps`: the rate of
    a recording that has no clock of its own.
    """
    if "://" in name:
        return UdpSource(name, interface)
    if interface is not None:
        raise CadError("--interface is for udp:// and rtp://")
    file = sys.stdin.buffer if name == "-" else _open(Path(name))
    if name != "-" and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        try:
            return Recording(file, rate_bps)
        except BaseException:
            file.close()
            raise
    return LiveFile(file)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}; a network source looks like udp://239.1.1.1:5000") from None
    except OSError as error:
        raise CadError(f"cannot read {path}: {error.strerror}") from None


class Recording:
    """A file: time passes as its clock references say, or at a constant rate."""

    live = False

    def __init__(self, file: BinaryIO, rate_bps: float | None) -> None:
        self._file = file
        pid = None
        if rate_bps is None:
            found = first_rate(self._packets(HEAD_BYTES))
            file.seek(0)
            if found is None and not file.read(1):
                raise DecodeError("the file is empty")
            if found is None:
                raise DecodeError(
                    "this is no transport stream, or one without clock references (PCR): give its rate by --rate-kbps"
                )
            pid, rate_bps = found
        self._times = PacketTimes(rate_bps, pid)

    def pieces(self) -> Iterator[Piece]:
        """Yield every packet of the file, a few at a time."""
        gathered: list[bytes] = []
        at = 0.0
        for raw in self._packets(None):
            at = self._times.at(raw)
            gathered.append(raw)
            if len(gathered) == PACKETS_AT_ONCE:
                yield Piece(b"".join(gathered), at)
                gathered.clear()
        if gathered:
            yield Piece(b"".join(gathered), at)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _packets(self, bytes_max: int | None) -> Iterator[bytes]:
        sync = PacketSync()
        read = 0
        while (bytes_max is None or read < bytes_max) and (chunk := self._file.read(READ_BYTES)):
            read += len(chunk)
            yield from sync.feed(chunk)
        yield from sync.finish()


class LiveFile:
    """A pipe or a device: its bytes come in their own time."""

    live = True

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def pieces(self) -> Iterator[Piece]:
        """Yield bytes as they come, until the other side closes."""
        number = self._file.fileno()
        while True:
            ready, _, _ = select.select([number], [], [], POLL_S)
            if not ready:
                yield Piece(b"")
                continue
            data = os.read(number, READ_BYTES)
            if not data:
                return
            yield Piece(data)

    def close(self) -> None:
        """Close it, unless it is standard input."""
        if self._file is not sys.stdin.buffer:
            self._file.close()


class UdpSource:
    """Datagrams of transport packets, with or without RTP around them."""

    live = True

    def __init__(self, url: str, interface: str | None) -> None:
        scheme, host, port = _split(url)
        self._rtp_only = scheme == "rtp"
        self._sequence: int | None = None
        self._socket = _listen(host, port, interface)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._socket.getsockname()[1])

    def pieces(self) -> Iterator[Piece]:
        """Yield what comes, for ever."""
        while True:
            try:
                datagram = self._socket.recv(DATAGRAM_MAX)
            except TimeoutError:
                yield Piece(b"")
                continue
            yield self._unwrap(datagram)

    def close(self) -> None:
        """Leave the group, close the socket."""
        self._socket.close()

    def _unwrap(self, datagram: bytes) -> Piece:
        if not self._rtp_only and not rtp.looks_like_rtp(datagram):
            return Piece(datagram)
        try:
            header, payload = rtp.parse(datagram)
        except DecodeError:
            return Piece(b"", lost=1)
        expected, self._sequence = self._sequence, (header.sequence_number + 1) & 0xFFFF
        missing = 0 if expected is None else (header.sequence_number - expected) & 0xFFFF
        # A number far off is a sender that has started anew, or a datagram that came late: not thousands lost.
        return Piece(payload if len(payload) % PACKET_SIZE == 0 else b"", lost=missing if missing < 0x1000 else 1)


def _split(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        scheme, host, port = "", "", None
    if scheme not in ("udp", "rtp") or port is None:
        raise CadError(f"{url} is no source: write udp://GROUP:PORT, rtp://GROUP:PORT, a file, or -")
    return scheme, host, port


def _listen(host: str, port: int, interface: str | None) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host or "0.0.0.0",  # noqa: S104 - the probe only listens; no host means every address
            port,
            type=socket.SOCK_DGRAM,
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror}; correct the address") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind(address)
        group = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if group.is_multicast:
            _join(listener, group, interface)
        listener.settimeout(POLL_S)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; is the port free, and the interface right?"
        ) from None
    return listener


def _join(listener: socket.socket, group: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: str | None) -> None:
    if isinstance(group, ipaddress.IPv4Address):
        member = interface_v4(interface or "0.0.0.0", str(group))  # noqa: S104 - by the route
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    else:
        index = socket.if_nametoindex(interface) if interface else 0
        member = group.packed + index.to_bytes(4, sys.byteorder)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
