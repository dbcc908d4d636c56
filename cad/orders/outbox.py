"""Publishes what the ledger has to say: replies and events, each at least once; a row goes when the broker has it."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final

import structlog

from cad.frame.clock import Clock
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import OutboxMessage
from cad.orders.broker import BrokerConnection
from cad.orders.broker_faults import BrokerDownError, PublishDeniedError
from cad.orders.mqtt_properties import PublishProperties
from cad.orders.portal_link import PortalLink
from protocol.portal import events, topics

log = structlog.get_logger(__name__)

HELD_MAX: Final = 5_000
"""Messages held in memory; those beyond are fetched from the ledger when their turn comes."""
FETCH: Final = 1_000
MARK_AFTER_S: Final = 1.0
DRAIN_STEP_S: Final = 0.02
STRIKES_MAX: Final = 3
PARK_S: Final = 300.0


class Outbox:
    """Publishes over the present connection of the link, in the order of the commits. `run` as a task.

    A message that the broker denies, or at which it hangs up again and again, is set aside for PARK_S with all others
    on its topic, so that it holds up nobody; it stays in the ledger. `set_aside` counts how often that happened.
    """

    def __init__(self, link: PortalLink, ledger: Ledger, clock: Clock, metrics: Metrics) -> None:
        self.set_aside = 0
        self._link = link
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._ready: deque[OutboxMessage] = deque()
        self._sent: dict[int, OutboxMessage] = {}
        self._unsent: list[OutboxMessage] = []
        self._strikes: dict[int, int] = {}
        self._parked: list[tuple[float, OutboxMessage]] = []
        self._shunned: dict[str, float] = {}
        self._held_to = 0
        self._newest = 0
        self._behind = True
        self._window = 1
        self._marked_at = clock.monotonic()
        self._stirred = asyncio.Event()
        ledger.on_messages = self.offer

    @property
    def waiting(self) -> int:
        """Messages held here that the broker has not taken yet."""
        return len(self._ready) + len(self._sent) + len(self._parked)

    def offer(self, messages: Sequence[OutboxMessage]) -> None:
        """Take what a commit put into the outbox; in order of seq."""
        new = [message for message in messages if message.seq > self._held_to]
        if not new:
            return
        self._newest = max(self._newest, new[-1].seq)
        if self._behind or len(self._ready) + len(new) > HELD_MAX:
            self._behind = True
        else:
            self._hold(new)
        self._stirred.set()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            connection = await self._link.connection()
            try:
                await self._serve(connection)
            except BrokerDownError:
                await asyncio.sleep(0)  # let the futures of what was under way report
                self._rewind()
            except LedgerUnavailable:
                await self._ledger.wait_usable()

    async def drain(self) -> None:
        """Wait until all is published, as long as there is a connection; for the orderly end."""
        while self._link.connected and (self._ready or self._sent or self._behind):
            await self._clock.sleep(DRAIN_STEP_S)
        with contextlib.suppress(LedgerUnavailable):
            await self._ledger.mark_published()

    async def _serve(self, connection: BrokerConnection) -> None:
        while connection.ended is None:
            self._stirred.clear()
            self._unpark()
            if self._behind and len(self._ready) < FETCH:
                await self._fetch()
            while self._ready and len(self._sent) < min(self._window, connection.send_window):
                self._send(connection, self._ready.popleft())
            self._metrics.outbox_depth.set(self.waiting)
            await self._mark()
            if self._behind and len(self._ready) < FETCH:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MARK_AFTER_S):
                    await self._stirred.wait()
        raise connection.ended

    async def _fetch(self) -> None:
        found = await self._ledger.pending(self._held_to, FETCH)
        self._hold([message for message in found if message.seq > self._held_to])
        # What was committed meanwhile is told by `offer`, before or after this; `_newest` shows which.
        self._behind = len(found) == FETCH or self._newest > self._held_to

    def _hold(self, messages: Sequence[OutboxMessage]) -> None:
        self._ready.extend(messages)
        if messages:
            self._held_to = messages[-1].seq
            self._newest = max(self._newest, self._held_to)

    def _send(self, connection: BrokerConnection, message: OutboxMessage) -> None:
        if (again_at := self._shunned.get(message.topic)) is not None:
            if len(self._parked) < HELD_MAX:  # more of them stay in the ledger until the next start
                self._parked.append((again_at, message))
            return
        self._sent[message.seq] = message
        future = connection.publish(message.topic, message.payload, _properties(message))
        future.add_done_callback(lambda done: self._answered(message, done.exception()))

    def _answered(self, message: OutboxMessage, error: BaseException | None) -> None:
        self._sent.pop(message.seq, None)
        if error is None:
            self._ledger.published((message.seq,))
            self._strikes.pop(message.seq, None)
            self._window = min(self._window * 2, HELD_MAX)
        elif isinstance(error, PublishDeniedError):
            self._park(message, str(error))
        else:
            self._unsent.append(message)
        self._stirred.set()

    def _rewind(self) -> None:
        """Take up again what was under way when the connection ended; one at a time, in case it is what ended it."""
        unsent, self._unsent = sorted(self._unsent, key=lambda message: message.seq), []
        if len(unsent) == 1:
            strikes = self._strikes[unsent[0].seq] = self._strikes.get(unsent[0].seq, 0) + 1
            if strikes >= STRIKES_MAX:
                self._park(unsent.pop(), "the broker hung up each time it was sent")
        self._ready.extendleft(reversed(unsent))
        self._window = 1

    def _park(self, message: OutboxMessage, reason: str) -> None:
        self.set_aside += 1
        self._metrics.set_aside.inc()
        self._strikes.pop(message.seq, None)
        again_at = self._clock.monotonic() + PARK_S
        self._parked.append((again_at, message))
        self._shunned[message.topic] = again_at
        log.error(
            "the broker does not take a message; it is tried again later. Correct the broker's access list so that the"
            " daemon may publish there",
            topic=message.topic,
            reason=reason,
            again_in_s=PARK_S,
        )

    def _unpark(self) -> None:
        now = self._clock.monotonic()
        if not any(again_at <= now for again_at in self._shunned.values()):
            return
        self._shunned = {topic: again_at for topic, again_at in self._shunned.items() if again_at > now}
        due = sorted((message for again_at, message in self._parked if again_at <= now), key=lambda one: one.seq)
        self._parked = [(again_at, message) for again_at, message in self._parked if again_at > now]
        self._ready.extend(due)

    async def _mark(self) -> None:
        """Have published rows forgotten when no commit came along to take them with it."""
        now = self._clock.monotonic()
        if not self._ledger.unmarked:
            self._marked_at = now
        elif now - self._marked_at >= MARK_AFTER_S:
            await self._ledger.mark_published()
            self._marked_at = now


def _properties(message: OutboxMessage) -> PublishProperties:
    source = f"{topics.ROOT}/{message.operator}"
    attributes = events.attributes(message.type, source, message.event_id, message.at)
    return PublishProperties(events.CONTENT_TYPE, attributes, message.correlation)
