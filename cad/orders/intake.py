"""From the broker into the ledger: read messages, commit them in groups, acknowledge after the commit, never before."""

import asyncio
import hashlib
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Final

import structlog

from cad.frame.clock import Clock
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import Intake as Message
from cad.ledger.model import Order, Outcome, Refusal, Unreadable
from cad.orders.broker import BrokerConnection, Received
from cad.orders.broker_faults import BrokerDownError
from cad.orders.portal_link import PortalLink
from protocol.portal import topics
from protocol.portal.codes import Code
from protocol.portal.commands import parsing
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.snapshot import SnapshotCommand
from protocol.portal.errors import InvalidError, TopicError, UnreadableError
from protocol.portal.topics import CommandTopic

log = structlog.get_logger(__name__)

CORRELATION_MAX: Final = 1024
READ_AT_ONCE: Final = 50
"""Messages read between two looks at the rest of the event loop."""


class Intake:
    """Takes orders as long as it runs. `follow(outcomes)` is told of each commit, on the event loop.

    `aside(order)` takes the commands that only ask (`snapshot`): nothing is lost with them, so they are acknowledged
    with the others.

    When the ledger is unavailable nothing is acknowledged and nothing more is taken; what was taken is committed as
    soon as it is available again.
    """

    def __init__(
        self,
        link: PortalLink,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        follow: Callable[[Sequence[Outcome]], None],
        operators: Container[str],
        batch_max: int,
        linger_ms: int,
        aside: Callable[[Order], None],
    ) -> None:
        self.operators = operators
        self._link = link
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._follow = follow
        self._aside = aside
        self._batch_max = batch_max
        self._linger_s = linger_ms / 1000
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Take, commit, acknowledge; until `stop`."""
        while not self._stopping:
            connection = await self._link.connection()
            try:
                batch = await connection.take(self._batch_max, self._linger_s)
            except BrokerDownError:
                continue
            self._idle.clear()
            try:
                await self._take(connection, batch)
            finally:
                self._idle.set()

    async def stop(self) -> None:
        """Take nothing more; return when what was taken is committed and acknowledged."""
        self._stopping = True
        self._link.interrupt()
        await self._idle.wait()

    async def _take(self, connection: BrokerConnection, batch: Sequence[Received]) -> None:
        self._metrics.unacked.set(connection.unacked)
        messages: list[Message] = []
        for place, received in enumerate(batch):
            if place % READ_AT_ONCE == READ_AT_ONCE - 1:
                await asyncio.sleep(0)
            message = read(received, self.operators)
            if message is None:
                log.warning("message on a topic of no possible operator", topic=received.topic[:100])
            elif isinstance(message, Order) and isinstance(message.command, SnapshotCommand):
                self._aside(message)
            else:
                messages.append(message)
        for part in apart(messages):
            outcomes = await self._commit(part)
            self._follow(outcomes)
            for message, outcome in zip(part, outcomes, strict=True):
                self._count(message, outcome)
        connection.ack(batch)
        self._metrics.unacked.set(connection.unacked)

    async def _commit(self, messages: Sequence[Message]) -> list[Outcome]:
        """Commit, however long it takes until the ledger can."""
        while True:
            began = self._clock.monotonic()
            try:
                outcomes = await self._ledger.commit(messages)
            except LedgerUnavailable as fault:
                self._metrics.ledger_failures.inc()
                log.warning("orders wait for the ledger", messages=len(messages), reason=str(fault))
                await self._ledger.wait_usable()
            else:
                self._metrics.commit_seconds.observe(self._clock.monotonic() - began)
                self._metrics.commit_batch.observe(len(messages))
                return outcomes

    def _count(self, message: Message, outcome: Outcome) -> None:
        if isinstance(message, Unreadable):
            self._metrics.count_unreadable(message.operator)
        else:
            self._metrics.count_command(message.operator, outcome.code)


def apart(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Part a batch, in order, so that what may change very many cards is committed by itself.

    Its commit may be long; what is promised to others of the same moment is reckoned without it.
    """
    part: list[Message] = []
    for message in messages:
        if not isinstance(message, Order) or not isinstance(message.command, OfferPut):
            part.append(message)
            continue
        if part:
            yield part
        yield [message]
        part = []
    if part:
        yield part


def read(received: Received, operators: Container[str]) -> Message | None:
    """Turn a message of the broker into what the ledger takes; None when not even its operator can be read."""
    try:
        topic = topics.parse_command(received.topic)
    except TopicError:
        return None
    try:
        return _read(received, topic, operators)
    except UnreadableError as error:
        return _unreadable(received, topic, error.code, error.detail)


def _read(received: Received, topic: CommandTopic, operators: Container[str]) -> Message:
    if topic.operator not in operators:
        raise UnreadableError(Code.UNKNOWN_OPERATOR, "this operator is not in the headend's settings")
    if received.correlation is not None and len(received.correlation) > CORRELATION_MAX:
        raise UnreadableError(Code.TOO_LARGE, f"correlation data has at most {CORRELATION_MAX} bytes")
    try:
        command = parsing.parse(topic.resource, topic.verb, received.payload, _id_property(received))
    except InvalidError as error:
        return _refusal(received, topic, error)
    body = command.body()
    reply_topic = _reply_topic(received, topic, command.reply_to)
    if reply_topic is None and isinstance(command, SnapshotCommand):
        raise UnreadableError(Code.BAD_REPLY_TOPIC, "say where the snapshot is to go: response topic or `reply_to`")
    return Order(
        operator=topic.operator,
        command=command,
        body=body,
        digest=parsing.digest(command, body),
        reply_topic=reply_topic,
        correlation=received.correlation,
    )


def _refusal(received: Received, topic: CommandTopic, error: InvalidError) -> Message:
    """Answer what breaks its schema; where no answer is wanted, tell it on `rej`, so that somebody hears of it."""
    reply_topic = _reply_topic(received, topic, error.reply_to)
    if reply_topic is None:
        found = "; ".join(f"{one.field}: {one.text}" for one in error.errors)
        return _unreadable(received, topic, error.code, f"{error.detail}: {found}"[:500], error.id)
    return Refusal(
        operator=topic.operator,
        resource=topic.resource,
        verb=topic.verb,
        id=error.id,
        code=error.code,
        detail=error.detail,
        errors=error.errors,
        reply_topic=reply_topic,
        correlation=received.correlation,
    )


def _reply_topic(received: Received, topic: CommandTopic, client: str | None) -> str | None:
    """Return where the reply goes: the response topic, which must be the sender's own, else the client it names."""
    try:
        if received.response_topic is not None:
            return topics.check_reply(received.response_topic, topic.operator)
        return None if client is None else topics.reply(topic.operator, client)
    except TopicError as error:
        raise UnreadableError(Code.BAD_REPLY_TOPIC, str(error)) from None


def _id_property(received: Received) -> str | None:
    found = [value for name, value in received.user_properties if name == "id"]
    if len(set(found)) > 1:
        raise UnreadableError(Code.BAD_ID, "there are several user properties `id`, with different values")
    return found[0] if found else None


def _unreadable(
    received: Received, topic: CommandTopic, code: Code, reason: str, command_id: str | None = None
) -> Unreadable:
    return Unreadable(
        operator=topic.operator,
        code=code,
        reason=reason,
        hash=hashlib.sha256(received.payload).hexdigest(),
        size=len(received.payload),
        resource=topic.resource,
        verb=topic.verb,
        id=command_id,
    )
