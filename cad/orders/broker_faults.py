"""What goes wrong on the way to the broker, in words, and what to do about it."""

from typing import Final

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from cad.errors import CadError


class BrokerDownError(CadError):
    """There is no connection, or no longer. `reason` says what happened, `advice` what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
        self.advice = advice


class PublishDeniedError(CadError):
    """The broker refuses to take a message on this topic."""


_ADVICE: Final = {
    "CERTIFICATE_VERIFY_FAILED": "mqtt.tls.ca_file must hold the authority that signed the broker's certificate, and"
    " mqtt.host must be a name in it",
    "alert unknown ca": "the broker does not know the authority of our certificate: correct mqtt.tls.cert_file",
    "alert certificate required": "the broker wants a certificate: write mqtt.tls.cert_file and key_file",
    "alert": "the broker does not accept our certificate: correct mqtt.tls.cert_file",
    "WRONG_VERSION_NUMBER": "the port does not speak TLS: correct mqtt.port, or leave [mqtt.tls] out",
    "SSL": "does this port expect TLS, and does the broker accept our certificate?",
    "Name or service not known": "correct mqtt.host, or the name service",
    "name resolution": "correct mqtt.host, or the name service",
    "refused": "start the broker, or correct mqtt.host and mqtt.port",
    "timed out": "look at cabling, routes and firewalls on the way to the broker",
    "closed the connection at once": "does this port expect TLS, and does the broker accept our certificate?",
}
"""Marks in the text of an error, the more telling ones first."""


def explain(error: Exception, last_words: str) -> BrokerDownError:
    """Say why there is no connection; `last_words` is the last error that the MQTT library wrote."""
    if isinstance(error, MqttConnectError):
        return BrokerDownError(
            f"the broker refuses us: {error.rc}",
            "correct username, password or certificate, or the broker's own rules",
        )
    text = "the broker does not answer: timed out" if isinstance(error, TimeoutError) else str(error)
    if isinstance(error, aiomqtt.MqttError) and last_words:
        text = f"{text} ({last_words})"
    advice = next((advice for mark, advice in _ADVICE.items() if mark in text), None)
    return BrokerDownError(
        f"no connection to the broker: {text}", advice or "look at the broker, its address and the network"
    )
