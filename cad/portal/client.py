"""The portal's client: a command is on disk before it leaves, and goes out until its answer has come.

settings = PortalSettings(operator="kaisa", outbox=Path("/var/lib/portal/outbox.db"), host="broker.example", …)
async with PortalClient(settings) as portal:
    answer = await portal.order(SubscriptionPut(subscription="s-1", rev=1, card=card, offer="sport"))
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, Self

import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cad.errors import CadError
from cad.frame.clock import Clock, SystemClock
from cad.frame.supervisor import Supervisor
from cad.orders.broker import BrokerConnection, Received
from cad.portal.departures import Departures
from cad.portal.errors import UnknownCommandError
from cad.portal.messages import (
    Answer,
    Fact,
    HeadendState,
    event_id,
    read_answer,
    read_reject,
    read_state,
    refusal,
)
from cad.portal.outbox import Entry, Outbox
from cad.portal.resync import Differences, Snapshot, Snapshots
from cad.portal.settings import PortalSettings
from protocol.portal import topics
from protocol.portal.commands.parsing import AnyCommand
from protocol.portal.commands.snapshot import AnyItem, Chosen
from protocol.portal.events import CONTENT_TYPE, SPEC_VERSION

log = structlog.get_logger("cad.portal")

BACK_OFF_FIRST_S: Final = 0.2
BACK_OFF_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 10.0
TAKE_MAX: Final = 500
FORGET_EVERY_S: Final = 3600.0
_system_random: Final = secrets.SystemRandom()


class PortalClient:
    """One client of one operator's portal. Use as an async context; leave it and come back as often as you like.

    `connected` and `last_error` say how things are; nothing has to be done about a broker that is away.
    """

    def __init__(self, settings: PortalSettings, clock: Clock | None = None) -> None:
        self.last_error: str | None = None
        self.headends: dict[str, HeadendState] = {}
        self._settings = settings
        self._mqtt = settings.mqtt()
        self._replies = topics.reply(settings.operator, settings.client)
        self._rejects = topics.rejects(settings.operator)
        self._clock = clock or SystemClock()
        self._supervisor = Supervisor(self._clock, _system_random.random)
        self._outbox = Outbox(settings.outbox, settings.operator, settings.client)
        self._departures = Departures(settings.repeat_after_s, settings.repeat_max_s, settings.window)
        self._connection: BrokerConnection | None = None
        self._stirred = asyncio.Event()
        self._new_fact = asyncio.Event()
        self._answered: dict[str, asyncio.Event] = {}
        self._snapshots = Snapshots(self)

    async def __aenter__(self) -> Self:
        await self._outbox.__aenter__()
        for entry in await self._outbox.open_commands():
            self._departures.add(entry)
        self._supervisor.start("portal connection", self._connect)
        self._supervisor.start("portal commands", self._publish)
        self._supervisor.start("portal outbox", self._forget)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._supervisor.stop_all()
        await self._outbox.__aexit__()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker now."""
        return self._connection is not None and self._connection.ended is None

    @property
    def waiting(self) -> int:
        """How many commands have no answer yet."""
        return len(self._departures)

    async def send(self, command: AnyCommand) -> str:
        """Put a command into the outbox and return its id; when this returns it is on disk, and will be answered.

        A command without an id gets one. With an id of your own you may send it again after a crash without thinking:
        what is there already is not put twice. One whose answer was `retryable` goes out once more.
        Raises IdReusedError, CommandRefusedError, OutboxError.
        """
        return (await self.send_all([command]))[0]

    async def send_all(self, commands: Iterable[AnyCommand]) -> list[str]:
        """Put many commands into the outbox in one go, all or none, and return their ids."""
        named = [one if one.id else one.model_copy(update={"id": str(uuid.uuid4())}) for one in commands]
        entries = await self._outbox.put(named, self._clock.now())
        for entry in entries:
            if entry.answer is None:
                self._departures.add(entry)
        self._stirred.set()
        return [entry.id for entry in entries]

    async def answer(self, command_id: str) -> Answer:
        """Wait for the answer to a command; also one that was sent before a restart. Raises UnknownCommandError.

        However long it takes: put `asyncio.timeout` around it. The command goes on being sent.
        """
        while True:
            told = self._answered.setdefault(command_id, asyncio.Event())
            try:
                entry = await self._outbox.get(command_id)
            except UnknownCommandError:
                self._answered.pop(command_id, None)
                raise
            if entry.answer is not None:
                self._answered.pop(command_id, None)
                return entry.answer
            await told.wait()

    async def order(self, command: AnyCommand) -> Answer:
        """Send a command and wait for its answer."""
        return await self.answer(await self.send(command))

    async def commands(self) -> list[Entry]:
        """Return all commands that are kept, in the order in which they were sent, with their answers."""
        return await self._outbox.everything()

    async def facts(self) -> AsyncIterator[Fact]:
        """Give the events one by one, each once, in the order in which they came; for one reader.

        An event counts as taken when the next one is asked for: after a crash in the midst of the work it comes again.
        """
        while True:
            self._new_fact.clear()
            fact = await self._outbox.next_fact()
            if fact is None:
                await self._new_fact.wait()
                continue
            yield fact
            await self._outbox.take_fact(fact.seq)

    async def hear_again(self) -> None:
        """Forget which events were taken: what the headend publishes again comes once more. For `invoice replay`."""
        await self._outbox.forget_facts()

    async def snapshot(self, fields: Chosen | None = None, ended_after: int | None = None) -> Snapshot:
        """Have the headend gather all that we have there as of one moment. Changes nothing. Raises SnapshotError.

        `fields`: only these kinds of items and these fields of each; None: all. Subscriptions that ended at
        `ended_after` (Unix seconds; None: now) or before are left out.
        """
        return await self._snapshots.request(fields, ended_after)

    def items(self, snapshot: Snapshot, after: str = "", before: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Give the items of a snapshot as JSON, in the order of their keys, from key to key. Raises SnapshotError."""
        return self._snapshots.items(snapshot, after, before)

    async def differences(self, view: Iterable[AnyItem]) -> Differences:
        """Compare what we believe to have with what the headend has; only what differs is sent. Raises SnapshotError.

        A field that any of the items names is compared in all items of its kind; one that does not name it says null.
        """
        return await self._snapshots.differences(view)

    def serves(self, version: str) -> bool | None:
        """Return whether every node of the headend takes messages of this schema version; None: no node is known."""
        online = [state for state in self.headends.values() if state.online]
        return all(state.serves(version) for state in online) if online else None

    # --- the connection

    async def _connect(self) -> None:
        pause_s = BACK_OFF_FIRST_S
        while True:
            began = self._clock.monotonic()
            try:
                await self._converse()
            except CadError as error:
                self.last_error = str(error)
                if self._connection is not None and self._clock.monotonic() - began > HEALTHY_AFTER_S:
                    pause_s = BACK_OFF_FIRST_S
            finally:
                connection, self._connection = self._connection, None
                if connection is not None:
                    await connection.close()
            log.warning("not connected to the broker", reason=self.last_error, pause_s=round(pause_s, 2))
            await self._clock.sleep(pause_s * (0.5 + 0.5 * _system_random.random()))
            pause_s = min(BACK_OFF_MAX_S, pause_s * 2)

    async def _converse(self) -> None:
        """Connect and listen until the connection ends. Raises CadError, which says why."""
        connection = await self._open()
        # What was under way may be lost: all of it goes out again.
        self._departures.rewind()
        self._connection = connection
        self.last_error = None
        self._stirred.set()
        while True:
            batch = await connection.take(TAKE_MAX, 0)
            await self._take(batch)
            connection.ack(batch)

    async def _open(self) -> BrokerConnection:
        """Connect and subscribe. When cancelled meanwhile, wait and leave politely: half made it cannot be undone."""
        connecting = self._supervisor.spawn("portal connecting", self._greet())
        try:
            made = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            made = await connecting
            if isinstance(made, BrokerConnection):
                await made.close()
            raise
        if isinstance(made, CadError):
            raise made
        return made

    async def _greet(self) -> BrokerConnection | CadError:
        """Return a connection with all subscriptions, or why there is none. Not to be cancelled."""
        connection = BrokerConnection(self._mqtt)
        try:
            await connection.open()
        except CadError as error:
            return error
        try:
            await connection.subscribe(self._replies)
            await connection.subscribe(f"{self._replies}/+")
            await connection.subscribe(f"{topics.ROOT}/{self._settings.operator}/evt/+/+")
            await connection.subscribe(self._rejects)
            await connection.subscribe(f"{topics.ROOT}/_node/+/state", retained=True)
        except CadError as error:
            await connection.close()
            return error
        return connection

    async def _take(self, batch: Sequence[Received]) -> None:
        """Store what came, all in one transaction; then tell who waits for it."""
        answers: dict[int, Answer] = {}
        facts: list[tuple[str, str, bytes]] = []
        for received in batch:
            if received.topic == self._replies:
                self._hear_answer(received.payload, answers)
            elif received.topic.startswith(f"{self._replies}/"):
                self._snapshots.hear(received.topic.rpartition("/")[2], received.payload)
            elif received.topic == self._rejects:
                self._hear_reject(received.payload, answers)
            elif received.topic.startswith(f"{topics.ROOT}/_node/"):
                self._hear_state(received)
            else:
                facts.append((event_id(received), received.topic, received.payload))
        if answers or facts:
            new_facts = await self._outbox.settle(list(answers.items()), facts, self._clock.now())
            for seq, answer in answers.items():
                self._departures.settle(seq)
                if (told := self._answered.pop(answer.id, None)) is not None:
                    told.set()
            if new_facts:
                self._new_fact.set()
            self._stirred.set()

    def _hear_answer(self, payload: bytes, answers: dict[int, Answer]) -> None:
        answer = read_answer(payload)
        if answer is None:
            log.warning("something on our reply topic is no reply")
        elif (entry := self._departures.by_id(answer.id)) is not None:
            answers.setdefault(entry.seq, answer)

    def _hear_reject(self, payload: bytes, answers: dict[int, Answer]) -> None:
        """A command that could not even be answered: nothing will come of sending it again."""
        reject = read_reject(payload)
        if reject is not None and (entry := self._departures.by_digest(reject.hash)) is not None:
            answers.setdefault(entry.seq, refusal(entry.id, reject))

    def _hear_state(self, received: Received) -> None:
        state = read_state(received.payload)
        if state is not None:
            self.headends[received.topic.split("/")[3]] = state

    # --- the commands

    async def _publish(self) -> None:
        while True:
            self._stirred.clear()
            connection = self._connection
            pause_s = self._settings.repeat_max_s
            if connection is not None and connection.ended is None:
                now = self._clock.monotonic()
                for entry in self._departures.due(now):
                    self._send(connection, entry)
                pause_s = min(pause_s, self._departures.next_at(now) - now)
            await self._clock.wait(self._stirred, pause_s)

    def _send(self, connection: BrokerConnection, entry: Entry) -> None:
        done = connection.publish(
            entry.topic(self._settings.operator), entry.payload, command_properties(entry, self._replies)
        )
        done.add_done_callback(self._sent)

    def _sent(self, done: asyncio.Future[None]) -> None:
        """A PUBACK is no answer; but what the broker denies is worth telling."""
        error = done.exception()
        if error is not None:
            self.last_error = str(error)

    async def _forget(self) -> None:
        while True:
            await self._outbox.forget(self._clock.now() - self._settings.keep_s)
            await self._clock.sleep(FORGET_EVERY_S)


def command_properties(entry: Entry, reply_topic: str) -> Properties:
    """Return the MQTT 5 properties that a command goes out with."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.PayloadFormatIndicator = 1
    properties.ContentType = CONTENT_TYPE
    properties.ResponseTopic = reply_topic
    properties.CorrelationData = entry.id.encode()
    properties.UserProperty = [("id", entry.id), ("specversion", SPEC_VERSION)]
    return properties
