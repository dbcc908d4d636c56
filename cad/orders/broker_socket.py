"""What a connection to the broker is made with: certificates, password, a socket that closes, an ear for last words."""

import contextlib
import logging
import ssl
from typing import Any, Final

from cad.frame import tls
from cad.orders.broker_faults import BrokerDownError
from config.settings import MqttSettings

READ_SIZE: Final = 65_536
WRITE_SIZE: Final = 262_144


class BufferedSocket(ssl.SSLSocket):
    """Reads and writes a TLS record at a time; closes itself when the handshake fails, which paho leaves open.

    paho asks for a byte, a length and the rest of each packet, and hands over each packet by itself. Each of these
    calls gives the interpreter away, and the ledger's thread takes it.
    """

    _read_data = b""
    _read_to = 0
    _gathered: bytearray | None = None
    _unwritten = b""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, or close."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return what has been read already, else read what has come."""
        if self._read_to >= len(self._read_data):
            self._read_data, self._read_to = super().recv(READ_SIZE, flags), 0
        piece = self._read_data[self._read_to : self._read_to + buflen]
        self._read_to += len(piece)
        return piece

    def pending(self) -> int:
        """How many bytes can be read although the socket is not readable."""
        return len(self._read_data) - self._read_to + super().pending()

    def send(self, data: Any, flags: int = 0) -> int:
        """Write, or between `gather` and `flush` keep, as long as not too much is kept."""
        if self._gathered is None:
            return super().send(data, flags)
        if len(self._gathered) >= WRITE_SIZE:
            raise BlockingIOError
        self._gathered += data
        return len(data)

    def gather(self) -> None:
        """Keep what is sent from now on."""
        self._gathered = bytearray(self._unwritten)
        self._unwritten = b""

    def flush(self) -> bool:
        """Write what was kept; whether all of it could be written. Raises OSError when the connection is gone."""
        kept, self._gathered = bytes(self._gathered or b""), None
        at = 0
        try:
            while at < len(kept):
                at += super().send(memoryview(kept)[at:])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            pass
        self._unwritten = kept[at:]
        return not self._unwritten

    def close(self) -> None:
        """Close, with what was kept on its way as far as the network takes it at once."""
        if self._gathered:
            with contextlib.suppress(OSError, ValueError):
                self.flush()
        super().close()


class LastWords:
    """Keeps the last error that paho wrote, which it tells nobody otherwise."""

    def __init__(self) -> None:
        self.text = ""

    def log(self, level: int, text: str, *arguments: object) -> None:
        """Keep the text of an error."""
        if level >= logging.ERROR:
            self.text = text % arguments


def read_files(settings: MqttSettings) -> tuple[ssl.SSLContext | None, str | None]:
    """Read certificates and password; in a thread, for a file may come from afar."""
    context = None if settings.tls is None else tls.client_context(settings.tls)
    if context is not None:
        context.sslsocket_class = BufferedSocket
    return context, _password(settings)


def _password(settings: MqttSettings) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise BrokerDownError(
            f"mqtt.password_file {settings.password_file} cannot be read: {error.strerror}",
            "give the file to the daemon's user, or correct the settings",
        ) from None
    except UnicodeDecodeError:
        raise BrokerDownError(f"mqtt.password_file {settings.password_file} is not UTF-8", "write it anew") from None
