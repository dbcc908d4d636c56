"""One transaction's worth of messages: each is decided on alone, in order, and all rows are written at once (I7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from cad.ledger import audit, due, facts, rollout
from cad.ledger.decide.command import decide
from cad.ledger.decide.common import Context
from cad.ledger.look import history
from cad.ledger.model import (
    OPEN_STATES,
    AuditHead,
    CardChange,
    Grants,
    Intake,
    Order,
    OutboxMessage,
    Outcome,
    Refusal,
    Unreadable,
)
from cad.ledger.promise import NoPromise, Promise, Showing, showing_of
from cad.ledger.records import Answered, CardRow, Decision, Fact, FactRow, Rollout, SubscriptionRow
from cad.ledger.tables import rollouts, rows
from cad.ledger.working import WorkingSet
from protocol.portal import topics
from protocol.portal.codes import Code, retryable, text
from protocol.portal.events import REJECT_TYPE, REPLY_TYPE, invoice_type
from protocol.portal.replies import Reject, Reply, Status

log = structlog.get_logger(__name__)

_NO_PROMISE: Final = NoPromise()


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

    def run(self, connection: Connection, intakes: Sequence[Intake]) -> list[Outcome]:
        """Decide on all and write all; the caller commits."""
        self.connection = connection
        orders = [one for one in intakes if isinstance(one, Order)]
        closed: list[CardChange] = []
        if orders:
            self.state = rows.load(connection, orders, self.now)
            self.state.next_offer_id = self.counters.offer_id
            self.state.next_subscription_id = self.counters.subscription_id
            self.state.next_message_number = self.counters.message_number
            closed = due.catch_up(self)
        outcomes = [self._take(one) for one in intakes]
        if closed:
            outcomes[0] = replace(outcomes[0], closed=tuple(closed))
        self.counters.offer_id = self.state.next_offer_id
        self.counters.subscription_id = self.state.next_subscription_id
        self.counters.message_number = max(self.counters.message_number, self.state.next_message_number)
        self.flush(connection)
        return outcomes

    def _take(self, intake: Intake) -> Outcome:
        match intake:
            case Order():
                return self._order(intake)
            case Refusal():
                return self._refusal(intake)
            case Unreadable():
                return self._unreadable(intake)

    def _order(self, order: Order) -> Outcome:
        command = order.command
        before = self.state.answered.get((order.operator, command.id))
        if before is not None and before.digest != order.digest:
            decision = Decision(Code.ID_REUSED, text(Code.ID_REUSED))
            reply = self._reply(order, decision, touched=0)
            return self._answer(order, reply, reply.model_dump_json(), ())
        if before is not None and not before.again:
            reply = Reply.model_validate_json(before.answer).model_copy(update={"status": Status.DUPLICATE})
            return self._answer(order, reply, reply.model_dump_json(), ())
        decision = self._decide(order)
        changes, later = self._effects(order, decision)
        cards = len(changes) + later
        showing = self._showing(decision)
        reply = self._reply(order, decision, touched=cards, showing=showing)
        if later:
            rollout.promise(self, order.command.id, reply.on_air_by, reply.visible_by)
        answer = reply.model_dump_json()
        self._remember(order, answer, reply.retryable, before)
        outcome = self._answer(order, reply, answer, changes)
        self.publish_facts()
        return replace(outcome, messages=decision.message_row is not None, cards=cards, showing=showing)

    def _decide(self, order: Order) -> Decision:
        """Decide; whatever goes wrong unexpectedly concerns this one command only."""
        grant = self.grants.operators.get(order.operator)
        if grant is None:
            return Decision(Code.UNKNOWN_OPERATOR, text(Code.UNKNOWN_OPERATOR))
        if order.finding is not None:
            return Decision(order.finding.code, order.finding.detail or text(order.finding.code))
        try:
            return decide(order.command, self.state, Context(order.operator, grant, self.now))
        except Exception:
            log.exception("command failed", operator=order.operator, id=order.command.id)
            return Decision(Code.INTERNAL, text(Code.INTERNAL))

    def _effects(self, order: Order, decision: Decision) -> tuple[tuple[CardChange, ...], int]:
        """Take a decision's rows, and raise the revision of each card it touches (D2); say how many follow later."""
        writes = self.writes
        for card in decision.card_rows:
            (writes.cards if card.address in self.state.cards else writes.new_cards).add(card.address)
        if (offer := decision.offer_row) is not None:
            key = (offer.operator, offer.offer)
            (writes.offers if key in self.state.offers else writes.new_offers).add(key)
            self.events_changed |= offer.event
            self.state.add_event_keys(decision.event_keys)
            writes.event_keys += [(one.product_id, one.epoch, one.offer_id, one.until) for one in decision.event_keys]
        if (message := decision.message_row) is not None:
            name = (message.operator, message.message)
            (writes.messages if name in self.state.messages else writes.new_messages).add(name)
            self.state.add_message(message)
        told: list[Fact] = list(decision.card_facts)
        followed: list[SubscriptionRow] = []
        for row in decision.subscription_rows:
            key = (row.operator, row.subscription)
            (writes.subscriptions if key in self.state.subscriptions else writes.new_subscriptions).add(key)
            after, news = facts.follow(
                self.state.subscriptions.get(key),
                row,
                self.now,
                event=self.state.offers_by_id[row.offer_id].event,
                with_card=decision.with_card,
            )
            followed.append(after)
            told += news
        self.state.apply(decision.card_rows, decision.offer_row, followed)
        for fact in told:
            self.tell_fact(order.operator, fact, order.command.id)
        self.told += decision.replayed
        if decision.was is not None and offer is not None and self.connection is not None:
            changed = rollout.of_command(self, decision.was, offer, order.command.id)
            changes, later = rollout.begin(self, self.connection, [changed])
            return tuple(changes), later
        return tuple([self.change(address, order.command.id) for address in decision.touched]), 0

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

    def _showing(self, decision: Decision) -> Showing | None:
        """Return the message that a decision has sent anew."""
        if decision.message_row is None or not decision.shows or self.connection is None:
            return None
        writes = self.writes
        unwritten = len(writes.cards | writes.new_cards) + len(writes.subscriptions | writes.new_subscriptions)
        return showing_of(self.connection, decision.message_row, self.now, unwritten)

    def _reply(self, order: Order, decision: Decision, *, touched: int, showing: Showing | None = None) -> Reply:
        code = decision.code
        detail = decision.detail if decision.was is None else f"{touched} {decision.detail}"
        on_air_by = visible_by = None
        service = decision.subscription_row
        promises = self.promises.get(order.operator, _NO_PROMISE)
        if touched or showing is not None:
            promise = promises.of(touched) if showing is None else promises.of_message(showing)
            on_air_by = promise.on_air_by
            visible_by = promise.visible_by if decision.visible else None
            if visible_by is not None:
                visible_by = max(visible_by, decision.visible_from)
            detail = "; ".join(part for part in (detail, promise.detail) if part)
        return Reply(
            id=order.command.id,
            status=Status.COMMITTED if code is Code.OK else Status.REJECTED,
            code=code,
            detail=detail,
            retryable=retryable(code),
            card=decision.card,
            on_air_by=on_air_by,
            visible_by=visible_by,
            starts_at=None if service is None else service.starts_at,
            ends_at=None if service is None else service.ends_at,
            next_change_at=decision.next_change_at,
            resume_after=decision.resume_after,
        )

    def _remember(self, order: Order, answer: str, again: bool, before: Answered | None) -> None:
        """Keep the answer under the command's id; one that may change is decided anew when it is asked again."""
        if before is not None:
            self.writes.forgotten.append(before.seq)
        seq = self.counters.command_seq
        self.counters.command_seq = seq + 1
        self.writes.commands[seq] = (
            seq,
            order.operator,
            order.command.id,
            order.digest,
            answer,
            int(again),
            self.now,
        )
        self.state.answered[order.operator, order.command.id] = Answered(
            seq, order.operator, order.command.id, order.digest, answer, again
        )

    def _answer(self, order: Order, reply: Reply, answer: str, changes: tuple[CardChange, ...]) -> Outcome:
        versions = [[one.address, one.revision, one.change_seq] for one in changes]
        self._record(audit.command_record(self._next_record(), self.now, order, reply.status, reply.code, versions))
        if order.reply_topic is not None:
            self.publish(order.operator, REPLY_TYPE, order.reply_topic, answer, order.correlation)
        return Outcome(reply.code, reply, changes)

    def _refusal(self, refusal: Refusal) -> Outcome:
        reply = Reply(
            id=refusal.id,
            status=Status.REJECTED,
            code=refusal.code,
            detail=refusal.detail,
            errors=refusal.errors,
            retryable=retryable(refusal.code),
        )
        self._record(audit.refusal_record(self._next_record(), self.now, refusal))
        if refusal.reply_topic is not None:
            self.publish(
                refusal.operator, REPLY_TYPE, refusal.reply_topic, reply.model_dump_json(), refusal.correlation
            )
        return Outcome(refusal.code, reply)

    def _unreadable(self, message: Unreadable) -> Outcome:
        reject = Reject(
            hash=message.hash,
            size=message.size,
            code=message.code,
            reason=message.reason,
            resource=message.resource,
            verb=message.verb,
            id=message.id,
            received_at=int(self.now),
        )
        self._record(audit.refusal_record(self._next_record(), self.now, message))
        self.publish(message.operator, REJECT_TYPE, topics.rejects(message.operator), reject.model_dump_json())
        return Outcome(message.code, None)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Add an audit record of an act that is no command."""
        self._record(audit.note(self._next_record(), self.now, kind, facts))

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

    def _next_record(self) -> int:
        return self.counters.head.seq + 1

    def _record(self, record: str) -> None:
        head = self.counters.head
        mac = audit.seal(self.key, head.mac, record)
        self.counters.head = AuditHead(head.seq + 1, mac)
        self.writes.audit.append((head.seq + 1, record, mac))
