"""Messages of one transaction: each is decided on alone, in order, and answered; all rows are written at once (I7)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy import Connection

from cad.ledger import audit, due, facts, rollout
from cad.ledger.batch import Batch
from cad.ledger.decide.command import decide
from cad.ledger.decide.common import Context
from cad.ledger.model import (
    CardChange,
    Intake,
    Order,
    Outcome,
    Refusal,
    Unreadable,
)
from cad.ledger.promise import NoPromise, Showing, showing_of
from cad.ledger.records import Answered, Decision, Fact, SubscriptionRow
from cad.ledger.tables import rows
from protocol.portal import topics
from protocol.portal.codes import Code, retryable, text
from protocol.portal.events import REJECT_TYPE, REPLY_TYPE
from protocol.portal.replies import Reject, Reply, Status

log = structlog.get_logger(__name__)

_NO_PROMISE: Final = NoPromise()


@dataclass(frozen=True, slots=True)
class Taking:
    """Takes messages into a batch."""

    batch: Batch

    def run(self, connection: Connection, intakes: Sequence[Intake]) -> list[Outcome]:
        """Decide on all and write all; the caller commits."""
        batch, counters = self.batch, self.batch.counters
        batch.connection = connection
        orders = [one for one in intakes if isinstance(one, Order)]
        closed: list[CardChange] = []
        if orders:
            batch.state = rows.load(connection, orders, batch.now)
            batch.state.next_offer_id = counters.offer_id
            batch.state.next_subscription_id = counters.subscription_id
            batch.state.next_message_number = counters.message_number
            closed = due.catch_up(batch)
        outcomes = [self._take(one) for one in intakes]
        if closed:
            outcomes[0] = replace(outcomes[0], closed=tuple(closed))
        counters.offer_id = batch.state.next_offer_id
        counters.subscription_id = batch.state.next_subscription_id
        counters.message_number = max(counters.message_number, batch.state.next_message_number)
        batch.flush(connection)
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
        before = self.batch.state.answered.get((order.operator, command.id))
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
            rollout.promise(self.batch, order.command.id, reply.on_air_by, reply.visible_by)
        answer = reply.model_dump_json()
        self._remember(order, answer, reply.retryable, before)
        outcome = self._answer(order, reply, answer, changes)
        self.batch.publish_facts()
        return replace(outcome, messages=decision.message_row is not None, cards=cards, showing=showing)

    def _decide(self, order: Order) -> Decision:
        """Decide; whatever goes wrong unexpectedly concerns this one command only."""
        grant = self.batch.grants.operators.get(order.operator)
        if grant is None:
            return Decision(Code.UNKNOWN_OPERATOR, text(Code.UNKNOWN_OPERATOR))
        if order.finding is not None:
            return Decision(order.finding.code, order.finding.detail or text(order.finding.code))
        try:
            return decide(order.command, self.batch.state, Context(order.operator, grant, self.batch.now))
        except Exception:
            log.exception("command failed", operator=order.operator, id=order.command.id)
            return Decision(Code.INTERNAL, text(Code.INTERNAL))

    def _effects(self, order: Order, decision: Decision) -> tuple[tuple[CardChange, ...], int]:
        """Take a decision's rows, and raise the revision of each card it touches (D2); say how many follow later."""
        writes = self.batch.writes
        for card in decision.card_rows:
            (writes.cards if card.address in self.batch.state.cards else writes.new_cards).add(card.address)
        if (offer := decision.offer_row) is not None:
            key = (offer.operator, offer.offer)
            (writes.offers if key in self.batch.state.offers else writes.new_offers).add(key)
            self.batch.events_changed |= offer.event
            self.batch.state.add_event_keys(decision.event_keys)
            writes.event_keys += [(one.product_id, one.epoch, one.offer_id, one.until) for one in decision.event_keys]
        if (message := decision.message_row) is not None:
            name = (message.operator, message.message)
            (writes.messages if name in self.batch.state.messages else writes.new_messages).add(name)
            self.batch.state.add_message(message)
        told: list[Fact] = list(decision.card_facts)
        followed: list[SubscriptionRow] = []
        for row in decision.subscription_rows:
            key = (row.operator, row.subscription)
            (writes.subscriptions if key in self.batch.state.subscriptions else writes.new_subscriptions).add(key)
            after, news = facts.follow(
                self.batch.state.subscriptions.get(key),
                row,
                self.batch.now,
                event=self.batch.state.offers_by_id[row.offer_id].event,
                with_card=decision.with_card,
            )
            followed.append(after)
            told += news
        self.batch.state.apply(decision.card_rows, decision.offer_row, followed)
        for fact in told:
            self.batch.tell_fact(order.operator, fact, order.command.id)
        self.batch.told += decision.replayed
        if decision.was is not None and offer is not None and self.batch.connection is not None:
            changed = rollout.of_command(self.batch, decision.was, offer, order.command.id)
            changes, later = rollout.begin(self.batch, self.batch.connection, [changed])
            return tuple(changes), later
        return tuple([self.batch.change(address, order.command.id) for address in decision.touched]), 0

    def _showing(self, decision: Decision) -> Showing | None:
        """Return the message that a decision has sent anew."""
        if decision.message_row is None or not decision.shows or self.batch.connection is None:
            return None
        writes = self.batch.writes
        unwritten = len(writes.cards | writes.new_cards) + len(writes.subscriptions | writes.new_subscriptions)
        return showing_of(self.batch.connection, decision.message_row, self.batch.now, unwritten)

    def _reply(self, order: Order, decision: Decision, *, touched: int, showing: Showing | None = None) -> Reply:
        code = decision.code
        detail = decision.detail if decision.was is None else f"{touched} {decision.detail}"
        on_air_by = visible_by = None
        service = decision.subscription_row
        promises = self.batch.promises.get(order.operator, _NO_PROMISE)
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
            self.batch.writes.forgotten.append(before.seq)
        seq = self.batch.counters.command_seq
        self.batch.counters.command_seq = seq + 1
        self.batch.writes.commands[seq] = (
            seq,
            order.operator,
            order.command.id,
            order.digest,
            answer,
            int(again),
            self.batch.now,
        )
        self.batch.state.answered[order.operator, order.command.id] = Answered(
            seq, order.operator, order.command.id, order.digest, answer, again
        )

    def _answer(self, order: Order, reply: Reply, answer: str, changes: tuple[CardChange, ...]) -> Outcome:
        versions = [[one.address, one.revision, one.change_seq] for one in changes]
        self.batch.record(
            audit.command_record(self.batch.next_record(), self.batch.now, order, reply.status, reply.code, versions)
        )
        if order.reply_topic is not None:
            self.batch.publish(order.operator, REPLY_TYPE, order.reply_topic, answer, order.correlation)
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
        self.batch.record(audit.refusal_record(self.batch.next_record(), self.batch.now, refusal))
        if refusal.reply_topic is not None:
            self.batch.publish(
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
            received_at=int(self.batch.now),
        )
        self.batch.record(audit.refusal_record(self.batch.next_record(), self.batch.now, message))
        self.batch.publish(message.operator, REJECT_TYPE, topics.rejects(message.operator), reject.model_dump_json())
        return Outcome(message.code, None)


def as_internal(intake: Intake) -> Refusal | Unreadable:
    """Return what is stored in place of a message that cannot be stored itself."""
    if isinstance(intake, Order):
        command = intake.command
        return Refusal(
            intake.operator,
            command.resource,
            command.verb,
            command.id,
            Code.INTERNAL,
            text(Code.INTERNAL),
            reply_topic=intake.reply_topic,
            correlation=intake.correlation,
        )
    if isinstance(intake, Refusal):
        return replace(intake, code=Code.INTERNAL, detail=text(Code.INTERNAL), errors=())
    return replace(intake, code=Code.INTERNAL, reason=text(Code.INTERNAL), resource="", verb="", id=None)
