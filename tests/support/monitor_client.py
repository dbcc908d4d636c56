"""A receiver for tests that asks a card server by CS378X; made from the bytes, never with the code under test."""

import hashlib
import socket
import struct
import zlib
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_HEADER = struct.Struct(">BBHIHHIHH")


def spell(
    user: str, password: str, command: int, data: bytes, *, service_id: int = 0, ca: int = 0, request: int = 0
) -> bytes:
    """The bytes of one message."""
    header = _HEADER.pack(command, len(data), 0, zlib.crc32(data), service_id, ca, 0, request, 0xFFFF)
    clear = header + data
    clear += b"\xff" * (-len(clear) % 16)
    return _token(user) + _cipher(password).encryptor().update(clear)


def read(user: str, password: str, message: bytes) -> tuple[int, int, int, int, bytes]:
    """Command, service_id, CA_system_id, request and data of the one message that stands in the bytes."""
    assert message[:4] == _token(user)
    clear = _cipher(password).decryptor().update(message[4:])
    command, length, zero, crc, service_id, ca, _, request, _ = _HEADER.unpack(clear[:20])
    data = clear[20 : 20 + length]
    assert zero == 0
    assert crc == zlib.crc32(data)
    assert len(message) == 4 + -(-(20 + length) // 16) * 16
    return command, service_id, ca, request, data


class MonitorClient:
    """One connection to a card server on the loopback."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._user, self._password = user, password
        self._requests = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def hand_emm(self, section: bytes, ca: int) -> None:
        """Hand over an EMM; nothing is answered."""
        self._connection.sendall(spell(self._user, self._password, 0x06, section, ca=ca))

    def ask(self, section: bytes, ca: int, service_id: int = 7) -> tuple[int, bytes]:
        """Hand over an ECM; the command of the answer (1: opened, 0x44: not) and its data."""
        self._requests += 1
        self._connection.sendall(
            spell(self._user, self._password, 0x00, section, service_id=service_id, ca=ca, request=self._requests)
        )
        command, service, system, request, data = read(self._user, self._password, self.receive())
        assert (service, system, request) == (service_id, ca, self._requests)
        return command, data

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def receive(self) -> bytes:
        """One whole message; b"" when the server has hung up."""
        received = b""
        while len(received) < 36:
            try:
                part = self._connection.recv(36 - len(received))
            except ConnectionResetError:
                return b""
            if not part:
                return b""
            received += part
        length = _cipher(self._password).decryptor().update(received[4:20])[1]
        size = 4 + -(-(20 + length) // 16) * 16
        while len(received) < size:
            received += self._connection.recv(size - len(received))
        return received


def _token(user: str) -> bytes:
    return zlib.crc32(hashlib.md5(user.encode()).digest()).to_bytes(4, "big")


def _cipher(password: str) -> Cipher[modes.ECB]:
    return Cipher(algorithms.AES(hashlib.md5(password.encode()).digest()), modes.ECB())
