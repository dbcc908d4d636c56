"""What a connection to the broker is made with: certificates, password, a socket that closes, an ear for last words."""

import logging
import ssl

from cad.frame import tls
from cad.orders.broker_faults import BrokerDownError
from config.settings import MqttSettings


class TidySocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, or close."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


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
        context.sslsocket_class = TidySocket
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
