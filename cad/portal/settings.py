"""What a portal's client must know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config.settings import MqttSettings, MqttTlsSettings

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalSettings:
    """Where the broker is and who we are.

    `operator` is the id in the headend's settings, `client` a name of your own choice for this one client: both stand
    in topics. `outbox` is a file of this client alone. Without `ca_file` nothing is encrypted.
    An unanswered command is sent again after `repeat_after_s`, then ever more rarely, up to every `repeat_max_s`.
    Answers, and the ids of facts, are kept for `keep_s`.
    """

    operator: str
    outbox: Path
    host: str
    port: int | None = None
    client: str = "portal"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    keepalive_s: int = 30
    repeat_after_s: float = 10.0
    repeat_max_s: float = 300.0
    window: int = 200
    keep_s: float = 30 * DAY_S

    def mqtt(self) -> MqttSettings:
        """Return how to connect. Raises pydantic's ValidationError for what cannot be."""
        tls = None
        if self.ca_file is not None:
            tls = MqttTlsSettings(
                ca_file=self.ca_file.absolute(), cert_file=_absolute(self.cert_file), key_file=_absolute(self.key_file)
            )
        return MqttSettings(
            host=self.host,
            port=self.port or (1883 if tls is None else 8883),
            client_id=f"cad-portal-{self.operator}-{self.client}",
            tls=tls,
            username=self.username,
            password_file=_absolute(self.password_file),
            keepalive_s=self.keepalive_s,
        )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
