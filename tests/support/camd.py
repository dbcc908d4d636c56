"""A card server for tests: takes the EMMs that a receiver (tsdecrypt) hands over by the CS378X protocol.

The protocol, as tsdecrypt and OSCam speak it over TCP: four bytes that name the user, then whole blocks of AES-128-ECB
under md5(password). In clear: command, length of the data, two bytes, CRC-32 of the data, service_id, CA_system_id,
provider, four bytes, and the data from byte 20 on.
"""

import hashlib
import os
import socket
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.mpegts.packet import NULL_PACKET

USER, PASSWORD = "tester", "secret of the tests"
EMM_TABLES = (0x82, 0x84, 0x88)
FILLING = 700  # packets: it reads several at a time
QUIET_S = 5.0
AT_ONCE, PACE_S = 188 * 20, 0.005
"""It drops what comes faster than it can look at: packets and a pause, 6 Mbit/s."""
_EMM = 0x06
_HEAD = 20
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Handed:
    """One EMM as it came, with the CA_system_id the receiver took it for."""

    ca_system_id: int
    section: bytes


def hand_over(stream: bytes, camd: "CamdServer", ca_system_id: int, enough: int, **options: object) -> str:
    """Have tsdecrypt take the EMMs out of a stream and hand them to `camd`; return what it says.

    At the end of a file it leaves at once and forgets what it has not handed over yet. So it reads a pipe, which stays
    open until `enough` have come; where fewer come, until none has come for some seconds.
    """
    given: dict[str, object] = {
        "output": "/dev/null",
        "ca-system": "CONAX",
        "caid": f"{ca_system_id:#06x}",
        "camd-proto": "CS378X",
        "camd-server": f"127.0.0.1:{camd.port}",
        "camd-user": USER,
        "camd-pass": PASSWORD,
    }
    command = ["tsdecrypt", "--emm", "--emm-only"]
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "stream"
        os.mkfifo(pipe)
        for name, value in (given | {"input": f"file://{pipe}"} | options).items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with running, pipe.open("wb") as out:
            whole = stream + NULL_PACKET * FILLING
            for start in range(0, len(whole), AT_ONCE):
                out.write(whole[start : start + AT_ONCE])
                out.flush()
                time.sleep(PACE_S)
            _wait_for_last(camd, enough)
            out.close()
            _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    return said


def _wait_for_last(camd: "CamdServer", enough: int) -> None:
    deadline = time.monotonic() + QUIET_S
    before = 0
    while (count := len(camd.handed())) < enough and time.monotonic() < deadline:
        if count > before:
            before, deadline = count, time.monotonic() + QUIET_S
        time.sleep(0.02)


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

    def handed(self) -> list[Handed]:
        """The EMMs; it also hands over sections of PAT and CAT that came before it knew the EMM PID."""
        return [one for one in self.emms if not one.section or one.section[0] in EMM_TABLES]

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
