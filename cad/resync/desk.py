"""Serves the snapshot commands of portals: takes snapshots, sends pages, compares. Changes nothing.

They go by the ledger only when they have been served, for the record and the reply. A command that got lost on the way,
by a restart for instance, has no reply, and its portal sends it again.
"""

import asyncio
import shutil
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from cad.errors import CadError
from cad.frame.clock import Clock, spell
from cad.frame.metrics import Metrics
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import Finding, Order, Outcome
from cad.orders.broker_faults import BrokerDownError, PublishDeniedError
from cad.orders.mqtt_properties import PublishProperties
from cad.orders.portal_link import PortalLink
from cad.resync.answers import compared, pages, taken_message
from cad.resync.taking import Taken, take
from protocol.portal import events, topics
from protocol.portal.codes import Code
from protocol.portal.commands.snapshot import SnapshotCompare, SnapshotRead, SnapshotRequest, answer_type

log = structlog.get_logger(__name__)

KEPT_S: Final = 3600.0
KEPT_MAX: Final = 2
"""Snapshots kept for one operator."""
WAITING_MAX: Final = 500
EXPIRE_EVERY_S: Final = 30.0
EXPORT_LINES: Final = 1_000


@dataclass(slots=True)
class _Kept:
    taken: Taken
    digest: bytes
    until: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Lane:
    """Commands that wait, one operator after the other."""

    def __init__(self) -> None:
        self.stirred = asyncio.Event()
        self._waiting: dict[str, deque[Order]] = {}

    def put(self, order: Order) -> bool:
        """Take a command in, unless too many of this operator wait."""
        queue = self._waiting.setdefault(order.operator, deque())
        if len(queue) >= WAITING_MAX:
            return False
        queue.append(order)
        self.stirred.set()
        return True

    def next(self) -> Order | None:
        """Return the next command, of the operator that waits longest."""
        for operator, queue in list(self._waiting.items()):
            del self._waiting[operator]
            if queue:
                order = queue.popleft()
                self._waiting[operator] = queue
                return order
        self.stirred.clear()
        return None


class SnapshotDesk:
    """Run `take_snapshots` and `answer` as tasks. Files lie in `folder`, which is emptied at the start."""

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        link: PortalLink,
        clock: Clock,
        metrics: Metrics,
        follow: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._link = link
        self._clock = clock
        self._metrics = metrics
        self._follow = follow
        self._requests = _Lane()
        self._questions = _Lane()
        self._under_way: set[tuple[str, str]] = set()
        self._kept: dict[tuple[str, str], _Kept] = {}

    def open(self) -> None:
        """Begin with an empty folder: what another run left there can be taken again."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)

    def take_in(self, order: Order) -> None:
        """Take a command; one that is here already, or one too many, is dropped: no reply, so it comes again."""
        name = (order.operator, order.command.id)
        if name in self._under_way:
            return
        lane = self._requests if isinstance(order.command, SnapshotRequest) else self._questions
        if lane.put(order):
            self._under_way.add(name)
        else:
            log.warning("too many snapshot commands wait; one was dropped", operator=order.operator)

    async def take_snapshots(self) -> None:
        """Take what was requested, one after the other, for ever; let go of what is too old."""
        while True:
            if not await self._next(self._requests):
                await self._clock.wait(self._requests.stirred, EXPIRE_EVERY_S)
            await self._expire()

    async def answer(self) -> None:
        """Send pages and differences for ever."""
        while True:
            if not await self._next(self._questions):
                await self._questions.stirred.wait()

    async def close(self) -> None:
        """Let go of all snapshots."""
        for kept in self._kept.values():
            kept.taken.spool.remove()
        self._kept.clear()

    async def export(self, operator: str) -> AsyncIterator[bytes]:
        """Yield an operator's items, one line each, all as of one moment."""
        path = self._folder / f"export-{uuid.uuid4().hex}"
        taken = await take(self._ledger, operator, path, ended_after=int(self._clock.now()))
        try:
            after = ""
            while lines := await asyncio.to_thread(taken.spool.lines, after, None, EXPORT_LINES):
                after = lines[-1][0]
                yield "".join(line for _, line in lines).encode()
        finally:
            taken.spool.remove()

    async def _next(self, lane: _Lane) -> bool:
        order = lane.next()
        if order is None:
            return False
        try:
            finding = await self._serve(order)
            await self._commit(replace(order, finding=finding))
        finally:
            self._under_way.discard((order.operator, order.command.id))
        return True

    async def _serve(self, order: Order) -> Finding:
        """Do what is asked; whatever goes wrong concerns this one command only (I7)."""
        try:
            match order.command:
                case SnapshotRequest():
                    return await self._request(order, order.command)
                case SnapshotRead() | SnapshotCompare():
                    return await self._question(order, order.command)
                case _:
                    raise AssertionError("only snapshot commands come here")
        except PublishDeniedError as error:
            log.error("the broker does not take what a snapshot sends; correct its access list", reason=str(error))
            return Finding(Code.INTERNAL)
        except CadError as error:
            log.warning("a snapshot command failed", operator=order.operator, reason=str(error))
            return Finding(Code.BUSY)
        except Exception:
            log.exception("a snapshot command failed", operator=order.operator, id=order.command.id)
            return Finding(Code.INTERNAL)

    async def _request(self, order: Order, command: SnapshotRequest) -> Finding:
        name = (order.operator, command.id)
        kept = self._kept.get(name)
        if kept is None:
            ended_after = int(self._clock.now()) if command.ended_after is None else command.ended_after
            path = self._folder / uuid.uuid4().hex
            taken = await take(self._ledger, order.operator, path, fields=command.fields, ended_after=ended_after)
            kept = self._kept[name] = _Kept(taken, order.digest, self._clock.monotonic() + KEPT_S)
            await self._expire()
        elif kept.digest != order.digest:
            return Finding(Code.OK)  # the ledger will say that the id was used for another content
        await self._publish(order, "taken", 1, taken_message(command.id, kept.taken))
        count = sum(kept.taken.digests.items.values())
        return Finding(Code.OK, f"{count} items as of {spell(kept.taken.as_of)}")

    async def _question(self, order: Order, command: SnapshotRead | SnapshotCompare) -> Finding:
        kept = self._kept.get((order.operator, command.snapshot))
        if kept is None:
            return Finding(Code.UNKNOWN_SNAPSHOT)
        async with kept.lock:
            if isinstance(command, SnapshotCompare):
                await self._publish(order, "differences", 1, await asyncio.to_thread(compared, command, kept.taken))
                return Finding(Code.OK, "compared; nothing was changed")
            after: str | None = command.after
            for number in range(1, command.pages + 1):
                made, after = await asyncio.to_thread(pages, command, kept.taken.spool, number, after or "")
                await self._publish(order, "page", number, made)
                if after is None:
                    break
        return Finding(Code.OK, f"{number} pages were sent" + ("" if after is None else "; there are more"))

    async def _publish(self, order: Order, name: str, number: int, payload: str) -> None:
        """Publish to the client that asked, and wait for the broker: what it does not take at once costs no memory."""
        attributes = events.attributes(
            answer_type(name),
            f"{topics.ROOT}/{order.operator}",
            f"{order.command.id}/{name}/{number}",
            self._clock.now(),
        )
        properties = PublishProperties(events.CONTENT_TYPE, attributes, order.correlation)
        while True:
            connection = await self._link.connection()
            try:
                await connection.publish(f"{order.reply_topic}/{name}", payload.encode(), properties)
            except BrokerDownError:
                continue
            return

    async def _commit(self, order: Order) -> None:
        while True:
            try:
                outcomes = await self._ledger.commit([order])
            except LedgerUnavailable:
                await self._ledger.wait_usable()
                continue
            self._follow(outcomes)
            self._metrics.count_command(order.operator, outcomes[0].code)
            return

    async def _expire(self) -> None:
        now = self._clock.monotonic()
        old = {name for name, kept in self._kept.items() if kept.until <= now}
        for operator in {operator for operator, _ in self._kept}:
            mine = [name for name in self._kept if name[0] == operator]
            old.update(mine[:-KEPT_MAX])
        for name in old:
            kept = self._kept.pop(name)
            async with kept.lock:
                kept.taken.spool.remove()
