"""The socket to the broker: a record at a time, in order, and never more kept than is said."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cad.orders.broker_socket import WRITE_SIZE, BufferedSocket
from tests.support.broker import HOST, Authority


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[BufferedSocket, ssl.SSLSocket]]:
    """Our end, not blocking, and the broker's."""
    authority = Authority(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*authority.issue("broker"))
    client = authority.context("headend")
    client.sslsocket_class = BufferedSocket
    here, there = socket.socketpair()
    far: list[ssl.SSLSocket] = []
    shaking = threading.Thread(target=lambda: far.append(server.wrap_socket(there, server_side=True)))
    shaking.start()
    near = client.wrap_socket(here, server_hostname=HOST)
    shaking.join()
    near.setblocking(False)
    assert isinstance(near, BufferedSocket)
    with near, far[0]:
        yield near, far[0]


def test_what_is_asked_for_in_pieces_is_read_once(ends: tuple[BufferedSocket, ssl.SSLSocket]) -> None:
    near, far = ends
    far.sendall(b"one packet")
    far.sendall(b"another")
    found = b""
    while len(found) < 17:
        with contextlib.suppress(ssl.SSLWantReadError):
            found += near.recv(1)
            assert near.pending() >= (9 - (len(found) - 1) if len(found) <= 10 else 0)
    assert found == b"one packetanother"
    assert near.pending() == 0
    with pytest.raises(ssl.SSLWantReadError):
        near.recv(1)


def test_what_the_network_does_not_take_at_once_follows_in_order(ends: tuple[BufferedSocket, ssl.SSLSocket]) -> None:
    near, far = ends
    sent, number, whole = b"", 0, True
    while whole:  # until the far end's buffers are full
        near.gather()
        for _ in range(50):
            packet = number.to_bytes(4, "big") * 64
            assert near.send(packet) == len(packet)
            sent, number = sent + packet, number + 1
        whole = near.flush()
    heard = bytearray()

    def listen() -> None:
        while len(heard) < len(sent):
            heard.extend(far.recv(65_536))

    listening = threading.Thread(target=listen)
    listening.start()
    while not whole:
        near.gather()
        whole = near.flush()
    listening.join(30)
    assert bytes(heard) == sent


def test_no_more_is_kept_than_is_said(ends: tuple[BufferedSocket, ssl.SSLSocket]) -> None:
    near, far = ends
    near.gather()
    for _ in range(-(-WRITE_SIZE // 10_000)):
        assert near.send(bytes(10_000)) == 10_000
    with pytest.raises(BlockingIOError):
        near.send(b"more")
    far.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        far.recv(1)


def test_closing_lets_the_last_words_out(ends: tuple[BufferedSocket, ssl.SSLSocket]) -> None:
    near, far = ends
    near.gather()
    near.send(b"goodbye")
    near.close()
    assert far.recv(100) == b"goodbye"
