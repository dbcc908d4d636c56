"""Connect to the broker once, as the daemon would, and say what keeps it from working."""

import socket
import ssl
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cad.frame import tls
from config.settings import MqttSettings


@dataclass(frozen=True, slots=True)
class BrokerProblem:
    """Why the broker cannot be used, and what to do."""

    text: str
    advice: str


def probe(settings: MqttSettings, timeout_s: float) -> BrokerProblem | None:
    """Connect with MQTT 5, a client id of its own and no session, and leave again. None = it works."""
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=f"{settings.client_id}-check", protocol=MQTTProtocolVersion.MQTTv5
    )
    answers: list[Any] = []
    client.on_connect = lambda _client, _userdata, _flags, reason, _properties: answers.append(reason)
    client.connect_timeout = timeout_s
    try:
        if settings.tls is not None:
            context = tls.client_context(settings.tls)
            _shake_hands(settings, context, timeout_s)
            client.tls_set_context(context)
        if settings.username is not None:
            client.username_pw_set(settings.username, _password(settings))
        client.connect(settings.host, settings.port, keepalive=60)
        for _ in range(max(1, int(timeout_s / 0.1))):
            if answers or client.loop(0.1) != 0:
                break
    except tls.TlsFilesError as error:
        return BrokerProblem(str(error), "correct [mqtt.tls], or the files")
    except _PasswordError as error:
        return BrokerProblem(str(error), "correct mqtt.password_file, or the file")
    except OSError as error:
        return _of_connection(error)
    finally:
        client.disconnect()
        client.loop(0.01)
    if not answers:
        return BrokerProblem("no answer to CONNECT", "is this an MQTT 5 broker, and does its port expect TLS or not?")
    if answers[0].is_failure:
        return BrokerProblem(
            f"refused: {answers[0]}", "correct username, password or certificate, or the broker's own rules"
        )
    return None


def _shake_hands(settings: MqttSettings, context: ssl.SSLContext, timeout_s: float) -> None:
    """Try TLS by itself first: its errors say more than those of an MQTT connection that failed over them."""
    with socket.create_connection((settings.host, settings.port), timeout_s) as connection:
        try:
            context.wrap_socket(connection, server_hostname=settings.host).close()
        except (ConnectionResetError, TimeoutError):
            raise ssl.SSLError("the port hung up, or said nothing") from None


class _PasswordError(Exception):
    pass


def _password(settings: MqttSettings) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text().rstrip("\r\n")
    except OSError as error:
        raise _PasswordError(f"{settings.password_file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _PasswordError(f"{settings.password_file} is not UTF-8 text") from None


def _of_connection(error: OSError) -> BrokerProblem:
    match error:
        case ssl.SSLCertVerificationError():
            advice = "ca_file must hold the authority of the broker's certificate, and host the name in it"
            return BrokerProblem(f"the broker's certificate is not accepted: {error.verify_message}", advice)
        case ssl.SSLError():
            advice = "does this port expect TLS, and does the broker accept the daemon's certificate?"
            return BrokerProblem(f"TLS failed: {getattr(error, 'reason', None) or error.args[0]}", advice)
        case socket.gaierror():
            return BrokerProblem(f"{error.strerror}", "correct mqtt.host, or the name service")
        case TimeoutError():
            return BrokerProblem("no answer", "look at cabling, routes and firewalls on the way")
        case ConnectionRefusedError():
            return BrokerProblem("connection refused", "start the broker, or correct mqtt.port")
        case _:
            return BrokerProblem(error.strerror or str(error), "look at address and network")
