"""Puts a software card into the virtual reader of a real pcscd: the card's side of vpcd's protocol (vsmartcard).

The card is the TCP client. Every message is a length (u16, big-endian) and so many bytes; one byte is a control
(0 power off, 1 power on, 2 reset, 4 answer to reset) and anything longer is a command APDU.
Only APDUs and 4 are answered.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Protocol, Self

from cards.errors import VpcdError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 35963
"""The first virtual reader of Debian's package; the second listens on the next port."""

_OFF: Final = 0
_ON: Final = 1
_RESET: Final = 2
_ATR: Final = 4
_LENGTH: Final = 2
_CONNECT_S: Final = 5.0
_RETRY_S: Final = 0.5


class CardOs(Protocol):
    """What a card does in a reader; `cards.software_card.SoftwareCard` is one."""

    @property
    def atr(self) -> bytes: ...

    def reset(self) -> None:
        """Power on, off or reset: forget everything volatile."""
        ...

    def process(self, command: bytes) -> bytes:
        """Answer one command APDU with a response APDU; never raises for what is in it."""
        ...


class VirtualSlot:
    """A slot of vpcd, into which a card can be put. Each insertion runs on a thread of its own.

    `keep`: when vpcd goes away (pcscd restarted), the card waits and goes in again by itself.
    """

    def __init__(self, card: CardOs, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, keep: bool = False) -> None:
        self._card = card
        self._address = (host, port)
        self._keep = keep
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._out = threading.Event()
        self._failure: BaseException | None = None

    @property
    def inserted(self) -> bool:
        """Whether the card is connected to the virtual reader."""
        with self._lock:
            return self._socket is not None

    def insert(self) -> None:
        """Put the card in. Raises VpcdError when no vpcd listens there, or the card is in already."""
        if self._thread is not None:
            raise VpcdError("the card is in the virtual reader already", "take it out first")
        self._out.clear()
        self._failure = None
        self._connect()
        self._thread = threading.Thread(target=self._run, name=f"vpcd {self._address[1]}", daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Take the card out at this instant, also in the middle of a command; may be called by the card itself."""
        self._out.set()
        with self._lock:
            if self._socket is not None:
                _shut(self._socket)

    def remove(self) -> None:
        """Take the card out and wait until its thread has ended. Raises what the card raised, if it did."""
        self.pull()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the card is out, at most `timeout_s`; whether it is."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def __enter__(self) -> Self:
        self.insert()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _connect(self) -> None:
        host, port = self._address
        try:
            connection = socket.create_connection(self._address, _CONNECT_S)
        except OSError as error:
            raise VpcdError(f"no virtual reader listens on {host} port {port}: {error.strerror or error}") from error
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._socket = connection
            if self._out.is_set():  # pulled while it was going in
                _shut(connection)

    def _run(self) -> None:
        try:
            while True:
                self._serve()
                while not self._out.is_set() and self._keep and not self._try_again():
                    self._out.wait(_RETRY_S)
                if self._out.is_set() or not self._keep:
                    return
        except BaseException as error:  # raised by the card: kept for `remove`
            self._failure = error

    def _try_again(self) -> bool:
        try:
            self._connect()
        except VpcdError:
            return False
        return True

    def _serve(self) -> None:
        """Answer until the connection ends, from either side."""
        connection = self._socket
        if connection is None:
            return
        try:
            self._card.reset()
            while (message := _receive(connection)) is not None:
                answer = self._answer(message)
                if answer is not None:
                    connection.sendall(len(answer).to_bytes(_LENGTH, "big") + answer)
        except OSError:
            pass  # the reader's side broke off: the card is out
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _answer(self, message: bytes) -> bytes | None:
        if len(message) != 1:
            return self._card.process(message)
        if message[0] == _ATR:
            return self._card.atr
        if message[0] in (_OFF, _ON, _RESET):
            self._card.reset()
        return None


def _receive(connection: socket.socket) -> bytes | None:
    header = _receive_exactly(connection, _LENGTH)
    return None if header is None else _receive_exactly(connection, int.from_bytes(header, "big"))


def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    """`size` bytes, or None when the connection ends before."""
    parts: list[bytes] = []
    while size:
        # vpcd writes length and payload apart; without an immediate ACK its second write waits for ours (Nagle and the
        # delayed ACK), 40 ms each time. The kernel forgets the option, hence before and after every recv.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        part = connection.recv(size)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side was faster
        connection.shutdown(socket.SHUT_RDWR)
