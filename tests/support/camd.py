"""A card server for tests: takes the EMMs that a receiver (tsdecrypt) hands over by the CS378X protocol.

The protocol, as tsdecrypt and OSCam speak it over TCP: four bytes that name the user, then whole blocks of AES-128-ECB
under md5(password). In clear: command, length of the data, two bytes, CRC-32 of the data, service_id, CA_system_id,
provider, four bytes, and the data from byte 20 on.
"""

import hashlib
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

USER, PASSWORD = "tester", "secret of the tests"
_EMM = 0x06
_HEAD = 20
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Handed:
    """One EMM as it came, with the CA_system_id the receiver took it for."""

    ca_system_id: int
    section: bytes


class CamdServer:
    """Listens on a free port of the loopback while the `with` block lasts.

    `emms` grows as they come; `errors` tells all that was not as the protocol says.
    """

    def __init__(self) -> None:
        self.emms: list[Handed] = []
        self.errors: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cipher = Cipher(algorithms.AES(hashlib.md5(PASSWORD.encode()).digest()), modes.ECB())
        self._token = zlib.crc32(hashlib.md5(USER.encode()).digest()).to_bytes(4, "big")
        self._thread = threading.Thread(target=self._serve, name="camd", daemon=True)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(30)
                try:
                    while token := stream.read(4):
                        if token != self._token:
                            self.errors.append("wrong user")
                            break
                        self._take(stream.read)
                except OSError as error:
                    self.errors.append(f"connection: {error}")

    def _take(self, read: Callable[[int], bytes]) -> None:
        decryptor = self._cipher.decryptor()
        clear = decryptor.update(read(2 * _BLOCK))
        length = clear[1] if clear else 0
        while len(clear) < _HEAD + length and (block := read(_BLOCK)):
            clear += decryptor.update(block)
        if len(clear) < _HEAD + length or not clear:
            self.errors.append("the connection ended in the middle of a message")
            return
        data = clear[_HEAD : _HEAD + length]
        if clear[0] != _EMM:
            self.errors.append(f"command {clear[0]:#04x} is not that of an EMM")
        elif int.from_bytes(clear[4:8], "big") != zlib.crc32(data):
            self.errors.append("CRC of the handed EMM is wrong")
        else:
            self.emms.append(Handed(int.from_bytes(clear[10:12], "big"), data))
