"""The card's side of vpcd's protocol, against a socket that speaks the reader's side byte by byte."""

import socket
import threading

import pytest

from cards.errors import VpcdError
from cards.vpcd import VirtualSlot
from tests.support.waiting import wait_until


class Card:
    atr = b"\x3b\x00"

    def __init__(self):
        self.resets = 0
        self.heard: list[bytes] = []

    def reset(self):
        self.resets += 1

    def process(self, command):
        self.heard.append(command)
        return command[::-1]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "the card broke off"
        data += part
    return data


def accept(listener) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(10)
    return connection


@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_messages_are_answered_however_they_are_cut(listener, piece):
    card = Card()
    long = bytes(range(256)) * 2
    sent = b"\x00\x01\x01" + b"\x00\x01\x04" + b"\x00\x04abcd" + b"\x00\x01\x02" + b"\x02\x00" + long + b"\x00\x01\x00"
    with VirtualSlot(card, port=listener.getsockname()[1]), accept(listener) as reader:
        for start in range(0, len(sent), piece):
            reader.sendall(sent[start : start + piece])
        assert read(reader, 4) == b"\x00\x02" + card.atr
        assert read(reader, 6) == b"\x00\x04dcba"
        assert read(reader, 514) == b"\x02\x00" + long[::-1]
        wait_until(lambda: card.resets == 4, what="power on, reset and off")  # and one for the insertion
    assert card.heard == [b"abcd", long]


def test_pulling_the_card_ends_the_connection_also_from_within_a_command(listener):
    card = Card()
    slot = VirtualSlot(card, port=listener.getsockname()[1])
    card.process = lambda command: (slot.pull(), b"too late")[1]
    slot.insert()
    with accept(listener) as reader:
        reader.sendall(b"\x00\x02ab")
        assert reader.recv(10) == b""
    assert slot.wait(10)
    assert not slot.inserted
    slot.remove()


def test_without_keep_the_card_stays_out_when_the_reader_goes(listener):
    slot = VirtualSlot(Card(), port=listener.getsockname()[1])
    slot.insert()
    accept(listener).close()
    assert slot.wait(10)
    slot.remove()


def test_with_keep_the_card_goes_in_again_when_the_reader_is_back(listener):
    port = listener.getsockname()[1]
    card = Card()
    with VirtualSlot(card, port=port, keep=True) as slot:
        accept(listener).close()
        with accept(listener) as reader:
            reader.sendall(b"\x00\x01\x04")
            assert read(reader, 4) == b"\x00\x02" + card.atr
            assert slot.inserted
    assert not slot.inserted


def test_where_nobody_listens_the_card_does_not_go_in_and_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(VpcdError, match=f"port {port}") as caught:
        VirtualSlot(Card(), port=port).insert()
    assert "vsmartcard-vpcd" in caught.value.advice


def test_a_card_goes_in_once(listener):
    with VirtualSlot(Card(), port=listener.getsockname()[1]) as slot, pytest.raises(VpcdError, match="already"):
        slot.insert()


def test_a_card_that_breaks_is_told_when_it_is_taken_out(listener):
    card = Card()
    card.process = lambda command: 1 // 0
    slot = VirtualSlot(card, port=listener.getsockname()[1])
    slot.insert()
    with accept(listener) as reader:
        reader.sendall(b"\x00\x02ab")
        assert reader.recv(10) == b""
    with pytest.raises(ZeroDivisionError):
        slot.remove()
    assert not any(thread.name.startswith("vpcd") for thread in threading.enumerate())


def test_a_message_that_breaks_off_is_the_end(listener):
    card = Card()
    slot = VirtualSlot(card, port=listener.getsockname()[1])
    slot.insert()
    with accept(listener) as reader:
        reader.sendall(b"\x00\x10abc")
    assert slot.wait(10)
    assert card.heard == []
    slot.remove()
