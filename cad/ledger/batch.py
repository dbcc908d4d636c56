"""What one transaction changes: rows are gathered here, numbered and sealed, and written at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from cad.ledger import audit, facts
from cad.ledger.look import history
from cad.ledger.model import (
    OPEN_STATES,
    AuditHead,
    CardChange,
    Grants,
    OutboxMessage,
)
from cad.ledger.promise import Promise
from cad.ledger.records import CardRow, Fact, FactRow, Rollout, SubscriptionRow
from cad.ledger.tables import rollouts, rows
from cad.ledger.working import WorkingSet
from protocol.portal import topics
from protocol.portal.events import invoice_type


@dataclass(slots=True)
class Counters:
    """Where the numbered rows go on, where the audit chain ends, and which changed offers cards have yet to follow."""

    command_seq: int
    change_seq: int
    outbox_seq: int
    offer_id: int
    subscription_id: int
    message_number: int
    head: AuditHead
    revision_floor: int = 0
    facts: dict[str, int] = field(default_factory=dict)
    rollouts: tuple[Rollout, ...] = ()

    def copy(self) -> "Counters":
        """Return counters that go on from here on their own."""
        return replace(self, facts=dict(self.facts))


@dataclass(slots=True)
class Batch:
    """Gathers the rows of one transaction. `counters` are its own copy, which counts once it is committed.

    `roll_at_once`: cards that follow a changed offer in one transaction. `written`: rows that are in the file already.
    """

    key: bytes = field(repr=False)
    ledger_id: str
    counters: Counters
    grants: Grants
    now: float
    promises: Mapping[str, Promise]
    state: WorkingSet = field(default_factory=WorkingSet)
    writes: rows.Writes = field(default_factory=rows.Writes)
    messages: list[OutboxMessage] = field(default_factory=list)
    told: list[FactRow] = field(default_factory=list)
    connection: Connection | None = None
    events_changed: bool = False
    roll_at_once: int = 250
    written: list[rows.Writes] = field(default_factory=list)
    _kept: tuple[Rollout, ...] = ()

    def __post_init__(self) -> None:
        self._kept = self.counters.rollouts

    def flush(self, connection: Connection) -> None:
        """Write what was gathered; the caller commits."""
        self.writes.flush(connection, self.state)
        self.written.append(self.writes)
        self.writes = rows.Writes()
        if self.counters.rollouts != self._kept:
            self._kept = self.counters.rollouts
            rollouts.keep(connection, self._kept)

    def put_subscription(self, row: SubscriptionRow, told: Sequence[Fact], command_id: str) -> None:
        """Put a subscription that is there already in its new form, and tell its facts."""
        self.state.add_subscription(row)
        self.writes.subscriptions.add((row.operator, row.subscription))
        for fact in told:
            self.tell_fact(row.operator, fact, command_id)

    def change(self, address: int, command_id: str) -> CardChange:
        """Give one card of the working set a new version; its content may have changed."""
        seq = self.counters.change_seq
        self.counters.change_seq = seq + 1
        row = self.state.bump(address, seq, self.now, self.counters.revision_floor)
        self.writes.cards.add(address)
        done_at = None if self.grants.multiplexes(row.operator) else self.now
        self.writes.changes.append((seq, address, row.operator, row.revision, command_id, self.now, done_at))
        told = self.tell(row, seq, self.now, command_id)
        self.writes.history.append(history.row(row, seq, self.now, command_id, told.rights, self.state))
        return told

    def tell_fact(self, operator: str, fact: Fact, command_id: str) -> None:
        """Number a fact for the invoice, keep it, and put it into the outbox."""
        if self.connection is None:
            raise AssertionError("facts are told within a transaction")
        numbers = self.counters.facts
        if operator not in numbers:
            numbers[operator] = rows.last_fact(self.connection, operator)
        numbers[operator] += 1
        offer = self.state.offers_by_id[fact.service.offer_id] if fact.service is not None else None
        spelt = facts.spell(
            fact,
            numbers[operator],
            offer=None if offer is None else offer.offer,
            price=None if offer is None else offer.agreed().price,
            subscriber=self.state.cards[fact.address].subscriber,
            command=command_id,
        )
        row = FactRow(operator, spelt.number, fact.address, fact.name, spelt.model_dump_json(), self.now)
        self.writes.facts.append((row.operator, row.number, row.address, row.fact, row.payload, row.made_at))
        self.told.append(row)

    def publish_facts(self) -> None:
        """Publish what was told, each under an event id that stays its own when it is published again."""
        told, self.told = self.told, []
        for row in told:
            self.publish(
                row.operator,
                invoice_type(row.fact),
                topics.event(row.operator, "invoice", row.fact),
                row.payload,
                event_id=f"{self.ledger_id}-{row.operator}-{row.number}-{int(row.made_at * 1000)}",
            )

    def tell(self, row: CardRow, change_seq: int, at: float, command_id: str) -> CardChange:
        """Return a card of the working set as the rest of the daemon is told of it."""
        return CardChange(
            address=row.address,
            operator=row.operator,
            suspended=row.state not in OPEN_STATES,
            revision=row.revision,
            key_version=row.key_version,
            rights=self.state.rights(row.address, self.grants.products(row.operator), self.now, self.counters.rollouts),
            change_seq=change_seq,
            committed_at=at,
            command_id=command_id,
            traits=row.traits,
        )

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Add an audit record of an act that is no command."""
        self.record(audit.note(self.next_record(), self.now, kind, facts))

    def publish(
        self,
        operator: str,
        event_type: str,
        topic: str,
        payload: str,
        correlation: bytes | None = None,
        event_id: str | None = None,
    ) -> None:
        """Put something into the outbox; its event id is made up unless it has one of its own."""
        seq = self.counters.outbox_seq
        self.counters.outbox_seq = seq + 1
        message = OutboxMessage(
            seq,
            operator,
            event_type,
            topic,
            payload.encode(),
            correlation,
            self.now,
            event_id or f"{self.ledger_id}-{seq}",
        )
        self.messages.append(message)
        self.writes.outbox.append(
            (seq, operator, event_type, topic, message.payload, correlation, self.now, message.event_id)
        )

    def next_record(self) -> int:
        return self.counters.head.seq + 1

    def record(self, record: str) -> None:
        head = self.counters.head
        mac = audit.seal(self.key, head.mac, record)
        self.counters.head = AuditHead(head.seq + 1, mac)
        self.writes.audit.append((head.seq + 1, record, mac))
