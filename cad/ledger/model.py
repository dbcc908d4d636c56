"""What goes into the ledger and what comes out of it. Times are Unix seconds; cards are addresses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self
from zoneinfo import ZoneInfo

from config.settings import NetworkSettings, OperatorSettings, Settings
from emm.calendar import Calendar
from emm.plan import Right
from emm.traits import NO_TRAITS, Traits
from protocol.portal.codes import Code
from protocol.portal.commands.parsing import AnyCommand
from protocol.portal.errors import FieldError
from protocol.portal.replies import Reply

if TYPE_CHECKING:
    from cad.ledger.promise import Showing

STOCK: Final = "stock"
ASSIGNED: Final = "assigned"
ACTIVE: Final = "active"
SUSPENDED: Final = "suspended"
LOST: Final = "lost"
STOLEN: Final = "stolen"
DEFECTIVE: Final = "defective"
REPLACED: Final = "replaced"
RETURNED: Final = "returned"
BLACKLISTED: Final = "blacklisted"
STATES: Final = frozenset(
    {STOCK, ASSIGNED, ACTIVE, SUSPENDED, LOST, STOLEN, DEFECTIVE, REPLACED, RETURNED, BLACKLISTED}
)
OPEN_STATES: Final = frozenset({ASSIGNED, ACTIVE})
"""States of a card that may open what its subscriptions allow; in all others its EMM holds nothing."""
DAY_S: Final = 86_400
HEADEND: Final = ""
"""The command id of changes that no command made."""


@dataclass(frozen=True, slots=True)
class EventGrant:
    """Where an operator may sell events, and with which numbers.

    `sellers`: all operators of the network, who share the numbers and the room in the ECMs of its services.
    """

    services: frozenset[str]
    numbers: range
    at_once: int
    calendar: Calendar
    sellers: frozenset[str]


@dataclass(frozen=True, slots=True)
class EventWindow:
    """An event as the ECMs of its service know it: its product is in them from `starts_at` until before `ends_at`."""

    network: str
    operator: str
    offer: str
    service: str
    product_id: int
    starts_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class OperatorGrant:
    """What the headend lets one operator do: product slug → product_id, address ranges (both ends included).

    `services`: of the products, slug → service_id.
    """

    network: str
    products: Mapping[str, int]
    ranges: tuple[tuple[int, int], ...]
    multiplexes: tuple[str, ...]
    time_zone: str = "UTC"
    events: EventGrant | None = None
    services: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, int] = field(default_factory=dict)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone that its months are counted in."""
        return ZoneInfo(self.time_zone)

    def covers(self, address: int) -> bool:
        """Return whether a card lies in the operator's ranges."""
        return any(first <= address <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Grants:
    """The operators of the settings, as far as the ledger needs to know them."""

    operators: Mapping[str, OperatorGrant] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Gather the grants from checked settings."""
        networks = {network.id: network for network in settings.networks}
        operators: dict[str, OperatorGrant] = {}
        for operator in settings.operators:
            network = networks[operator.network]
            product_ids = {product.id: product.product_id for product in network.products}
            sold = {slug for one in network.products if one.id in operator.products for slug in one.services}
            events = _event_grant(settings, operator, network)
            if events is not None:
                sold |= events.services
            operators[operator.id] = OperatorGrant(
                network=network.id,
                products={slug: product_ids[slug] for slug in operator.products},
                ranges=tuple((one.first, one.last) for one in operator.card_ranges),
                multiplexes=tuple(outlet.id for outlet in network.outlets),
                time_zone=operator.time_zone,
                events=events,
                services={one.id: one.service_id for one in network.services if one.id in sold},
                regions={region.id: region.number for region in network.regions},
            )
        return cls(operators)

    def products(self, operator: str) -> Mapping[str, int]:
        """Return what the operator may sell; nothing when it is not in the settings."""
        grant = self.operators.get(operator)
        return grant.products if grant is not None else {}

    def zone(self, operator: str) -> ZoneInfo:
        """Return the time zone that the operator's months are counted in."""
        grant = self.operators.get(operator)
        return grant.zone if grant is not None else ZoneInfo("UTC")

    def multiplexes(self, operator: str) -> tuple[str, ...]:
        """Return the multiplexes of the operator's network."""
        grant = self.operators.get(operator)
        return grant.multiplexes if grant is not None else ()


def _event_grant(settings: Settings, operator: OperatorSettings, network: NetworkSettings) -> EventGrant | None:
    if not operator.events_on:
        return None
    calendar = settings.calendar
    return EventGrant(
        services=frozenset(operator.events_on),
        numbers=network.event_numbers,
        at_once=network.events_at_once,
        calendar=Calendar(calendar.period_days, calendar.epoch_periods, calendar.overlap_periods),
        sellers=frozenset(one.id for one in settings.operators if one.network == network.id),
    )


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a command that only asks and is served outside of the ledger."""

    code: Code
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A command that was read: `body` and `digest` as `protocol.portal.commands.parsing` makes them.

    `finding`: it was served already, and only its answer is to be kept and recorded.
    `by` says which person gave it, where it did not come from a portal.
    """

    operator: str
    command: AnyCommand
    body: bytes
    digest: bytes
    reply_topic: str | None = None
    correlation: bytes | None = None
    finding: Finding | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message against its schema, but with an id: answered `rejected`, and its id may be used again."""

    operator: str
    resource: str
    verb: str
    id: str
    code: Code
    detail: str
    errors: tuple[FieldError, ...] = ()
    reply_topic: str | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that cannot be answered; told on `rej`. `hash` is the SHA-256 of its payload in hexadecimal."""

    operator: str
    code: Code
    reason: str
    hash: str
    size: int
    resource: str = ""
    verb: str = ""
    id: str | None = None


Intake = Order | Refusal | Unreadable


@dataclass(frozen=True, slots=True)
class CardChange:
    """A card after a change: the whole truth of it, under its new revision. Rights are without regard to suspension."""

    address: int
    operator: str
    suspended: bool
    revision: int
    key_version: int
    rights: tuple[Right, ...]
    change_seq: int
    committed_at: float
    command_id: str
    traits: Traits = NO_TRAITS


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Something to publish, at least once. `event_id` stays the same when it is published again."""

    seq: int
    operator: str
    type: str
    topic: str
    payload: bytes
    correlation: bytes | None
    at: float
    event_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message of a batch: its answer, and the cards whose content may have changed.

    `closed`: cards that changed just before it, by the clock or by what their offers became, not by the message.
    `cards`: how many cards it concerns, also those that follow later.
    `messages`: what is to be shown on the screen may have changed; `showing` is what is to be sent anew.
    """

    code: Code
    reply: Reply | None
    card_changes: tuple[CardChange, ...] = ()
    closed: tuple[CardChange, ...] = ()
    messages: bool = False
    cards: int = 0
    showing: "Showing | None" = None

    @property
    def card_change(self) -> CardChange | None:
        """The change of the one card that the command was about, if any."""
        return self.card_changes[0] if self.card_changes else None


@dataclass(frozen=True, slots=True)
class RolledOut:
    """Cards that have followed a changed offer, and what the answer to its command promised (Unix seconds)."""

    changes: tuple[CardChange, ...] = ()
    on_air_by: int | None = None
    visible_by: int | None = None


class FirstAir(Protocol):
    """A change that went on the air on one multiplex for the first time."""

    @property
    def change_seq(self) -> int: ...
    @property
    def multiplex(self) -> str: ...
    @property
    def at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class OpenChange:
    """The newest change of a card: recent, or not yet sent on every multiplex. `aired`: multiplex → time."""

    address: int
    operator: str
    change_seq: int
    at: float
    aired: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of the audit chain. Kept elsewhere, it proves later that nothing before it was removed or changed."""

    seq: int
    mac: bytes

    def spell(self) -> str:
        """Return the head as text: `seq:mac` in hexadecimal."""
        return f"{self.seq}:{self.mac.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `spell` wrote. Raises ValueError."""
        seq, _, mac = text.strip().partition(":")
        if not (seq.isascii() and seq.isdigit() and len(seq) < 19) or len(mac) != 64:
            raise ValueError("an audit head looks like 1234:64 hexadecimal digits")
        return cls(int(seq), bytes.fromhex(mac))


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """How long the ledger remembers, and by how much versions jump when a backup has been put back.

    `roll_at_once`: cards that follow a changed offer in one transaction.
    """

    keep_ids_s: int = 31 * DAY_S
    keep_changes_s: int = 400 * DAY_S
    keep_history_s: int = 731 * DAY_S
    restore_margin: int = 10_000
    roll_at_once: int = 250

    def __post_init__(self) -> None:
        if self.keep_ids_s < 30 * DAY_S:
            raise ValueError("command ids are kept 30 days at least")
