"""The settings as the daemon sees them: names, units, defaults, limits of every single value.

What spans several tables (references, overlaps) is checked by `config.crosscheck`; `config.load` does both.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from config.ecmg import EcmgSettings
from config.fields import (
    U16,
    AbsolutePath,
    Aid,
    CardAddress,
    FileName,
    Host,
    ListenAddress,
    Port,
    ProductId,
    Slug,
    SocketPath,
    Table,
    Text,
    TimeZoneName,
)
from config.fields import listen_address as listen_address
from config.outlets import MultiplexSettings, Outlet, StreamSettings
from config.regions import BlackoutSettings, RegionSettings, blacked_out
from config.technicians import TechniciansSettings

PRODUCTS_PER_SERVICE_MAX: Final = 11  # wrapped session keys that an ECM of 256 bytes can hold
PRODUCTS_IN_PACKET_MAX: Final = 7  # as many as let an ECM with two words of 8 bytes stay in one TS packet


class NodeSettings(Table):
    """[node] This machine."""

    name: Slug = "headend-1"
    state_dir: AbsolutePath = Path("/var/lib/cad")
    socket: SocketPath = Path("/run/cad/cad.sock")
    http_listen: ListenAddress = "127.0.0.1:9464"


class LogSettings(Table):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class MqttTlsSettings(Table):
    """[mqtt.tls] Present = the connection is encrypted and the broker's name is checked."""

    ca_file: AbsolutePath
    cert_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: write both or neither")
        return self


class MqttSettings(Table):
    """[mqtt] The broker. `client_id` and `port` are filled in when the file does not name them."""

    tls: MqttTlsSettings | None = None
    host: Host
    port: Port = Field(default_factory=lambda data: 8883 if data.get("tls") else 1883)
    client_id: Annotated[str, Field(min_length=1, max_length=128)] = "cad-headend-1"
    username: Text | None = None
    password_file: AbsolutePath | None = None
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    session_expiry_s: Annotated[int, Field(ge=3600, le=0xFFFF_FFFF)] = 604_800
    linger_ms: Annotated[int, Field(ge=0, le=1000)] = 5
    batch_max: Annotated[int, Field(ge=1, le=10_000)] = 500

    @model_validator(mode="after")
    def _password_needs_user(self) -> Self:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file has no effect without username")
        return self


class KeysSettings(Table):
    """[keys] What holds the master key, a sealed file or a PKCS#11 token, and where its passphrase or PIN comes from.

    `module` is the library of the token's vendor, `token` the token's label.
    """

    kind: Literal["file", "pkcs11"] = "file"
    file: AbsolutePath = Path("/var/lib/cad/master.key")
    module: AbsolutePath | None = None
    token: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    key_label: Text = "cad master key"
    passphrase_file: AbsolutePath | None = None
    credential: FileName | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.passphrase_file is None) == (self.credential is None):
            raise ValueError(
                "say where the passphrase or PIN comes from: either passphrase_file, or credential"
                " (the name in LoadCredentialEncrypted= of the unit)"
            )
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.kind == "file" and self.model_fields_set & {"module", "token", "key_label"}:
            raise ValueError('module, token and key_label go with kind = "pkcs11"')
        if self.kind == "pkcs11" and (self.module is None or self.token is None):
            raise ValueError('kind = "pkcs11" needs module (the library of the token) and token (its label)')
        if self.kind == "pkcs11" and "file" in self.model_fields_set:
            raise ValueError('file goes with kind = "file"')
        return self


class CaSettings(Table):
    """[ca] What receivers and cards know this system by. `ca_system_id` has no default on purpose (D7)."""

    ca_system_id: Annotated[int, Field(ge=1, le=0xFFFF)]
    card_aid: Aid = bytes.fromhex("F0434144454D4D01")


class CalendarSettings(Table):
    """[calendar] Renewal periods of rights, and epochs of product keys."""

    period_days: Annotated[int, Field(ge=1, le=31)] = 5
    epoch_periods: Annotated[int, Field(ge=2, le=120)] = 6
    overlap_periods: Annotated[int, Field(ge=1, le=119)] = 1

    @model_validator(mode="after")
    def _overlap_is_shorter(self) -> Self:
        if self.overlap_periods >= self.epoch_periods:
            raise ValueError("overlap_periods must be less than epoch_periods")
        return self


class CarouselSettings(Table):
    """[carousel] How often an EMM is sent. `new_share` is the most of the rate that never-sent changes may take.

    `message_share` is the most that messages on the screen may take.
    """

    first_transmission_s: Annotated[float, Field(gt=0, le=3600)] = 10
    first_hour_repeat_s: Annotated[float, Field(gt=0, le=3600)] = 60
    cycle_s: Annotated[float, Field(gt=0, le=604_800)] = 1800
    min_repeat_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    new_share: Annotated[float, Field(ge=0.05, le=0.95)] = 0.8
    message_share: Annotated[float, Field(ge=0.005, le=0.5)] = 0.05

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_repeat_s <= self.first_hour_repeat_s <= self.cycle_s:
            raise ValueError("min_repeat_s <= first_hour_repeat_s <= cycle_s must hold")
        return self


class ServiceSettings(Table):
    """[[networks.services]] A channel as DVB knows it."""

    id: Slug
    name: Text
    original_network_id: U16
    transport_stream_id: U16
    service_id: Annotated[int, Field(ge=1, le=0xFFFF)]


class ProductSettings(Table):
    """[[networks.products]] What one key opens. `product_id` goes on the air: never give it to another product."""

    id: Slug
    product_id: ProductId
    services: Annotated[tuple[Slug, ...], Field(strict=False, min_length=1)]


class NetworkSettings(Table):
    """[[networks]] One cable or IPTV distribution. `event_products`: first and last product_id of those for events."""

    id: Slug
    multiplexes: Annotated[tuple[MultiplexSettings, ...], Field(strict=False)] = ()
    streams: Annotated[tuple[StreamSettings, ...], Field(strict=False)] = ()
    services: Annotated[tuple[ServiceSettings, ...], Field(strict=False)] = ()
    products: Annotated[tuple[ProductSettings, ...], Field(strict=False)] = ()
    regions: Annotated[tuple[RegionSettings, ...], Field(strict=False)] = ()
    blackouts: Annotated[tuple[BlackoutSettings, ...], Field(strict=False)] = ()
    event_products: Annotated[tuple[ProductId, ProductId], Field(strict=False)] | None = None
    events_at_once: Annotated[int, Field(ge=1, le=10)] = 2

    @model_validator(mode="after")
    def _pool_ordered(self) -> Self:
        if self.event_products is not None and self.event_products[0] > self.event_products[1]:
            raise ValueError("event_products: write the lower number first")
        return self

    @property
    def event_numbers(self) -> range:
        """The numbers for the products of events; empty where there is none."""
        first, last = self.event_products or (1, 0)
        return range(first, last + 1)

    def blacked_out(self, service: str, now: float) -> dict[int, int]:
        """Return in which regions a service is blacked out now, and until when (Unix seconds); 0: cards without one."""
        return blacked_out(service, now, self.regions, self.blackouts)

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        """Every way of this network's EMMs to its cards; their ids are unique over all networks."""
        return self.multiplexes + self.streams


class CardRange(Table):
    """Cards that belong to an operator: addresses, both ends included; in the file printed card numbers."""

    first: CardAddress
    last: CardAddress

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first > self.last:
            raise ValueError("first must not be greater than last")
        return self


class OperatorSettings(Table):
    """[[operators]] A tenant: the products it may sell, and the cards that are its own.

    `events_on`: the services on which it may sell events. `weight`: its part of the bandwidth, beside the weights of
    the others, while several have something to send.
    """

    id: Slug
    network: Slug
    products: Annotated[tuple[Slug, ...], Field(strict=False)] = ()
    events_on: Annotated[tuple[Slug, ...], Field(strict=False)] = ()
    card_ranges: Annotated[tuple[CardRange, ...], Field(strict=False)] = ()
    time_zone: TimeZoneName = "Europe/Helsinki"
    weight: Annotated[float, Field(ge=0.01, le=100)] = 1.0


class Settings(Table):
    """The whole file."""

    node: NodeSettings = NodeSettings()
    log: LogSettings = LogSettings()
    mqtt: MqttSettings
    keys: KeysSettings
    ca: CaSettings
    calendar: CalendarSettings = CalendarSettings()
    carousel: CarouselSettings = CarouselSettings()
    ecmg: EcmgSettings | None = None
    technicians: TechniciansSettings | None = None
    networks: Annotated[tuple[NetworkSettings, ...], Field(strict=False, min_length=1)]
    operators: Annotated[tuple[OperatorSettings, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: object) -> object:
        """Give the defaults that lie in another table: the MQTT client id and the ids of SimulCrypt."""
        if not isinstance(raw, dict):
            return raw
        raw = dict(raw)
        if isinstance(mqtt := raw.get("mqtt"), dict):
            node = raw.get("node")
            name = node.get("name", "headend-1") if isinstance(node, dict) else "headend-1"
            raw["mqtt"] = {"client_id": f"cad-{name}"} | mqtt
        ca = raw.get("ca")
        system = ca.get("ca_system_id") if isinstance(ca, dict) else None
        client_id = system << 16 if isinstance(system, int) and 0 < system <= 0xFFFF else 0
        if isinstance(ecmg := raw.get("ecmg"), dict):
            raw["ecmg"] = {"super_cas_id": client_id} | ecmg
        if isinstance(networks := raw.get("networks"), list | tuple):
            raw["networks"] = [_with_client_ids(network, client_id) for network in networks]
        return raw


def _with_client_ids(network: object, client_id: int) -> object:
    if not (isinstance(network, dict) and isinstance(multiplexes := network.get("multiplexes"), list | tuple)):
        return network
    filled = [{"client_id": client_id} | one if isinstance(one, dict) else one for one in multiplexes]
    return network | {"multiplexes": filled}
