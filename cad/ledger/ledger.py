"""The ledger for the event loop: every call runs in the ledger's own thread, one after the other."""

import asyncio
import json
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection

from cad.air.roster import CardBlock, RightBlock
from cad.errors import BackupError
from cad.frame.clock import Clock
from cad.ledger.acts import upkeep
from cad.ledger.batch import Batch
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.look import copying, history, reading
from cad.ledger.look.views import CardView
from cad.ledger.model import (
    AuditHead,
    CardChange,
    EventWindow,
    FirstAir,
    Grants,
    Intake,
    LedgerOptions,
    OpenChange,
    OutboxMessage,
    Outcome,
    RolledOut,
)
from cad.ledger.promise import NoPromise, Promise
from cad.ledger.records import Rollout
from cad.ledger.store import Store
from cad.ledger.tables import messages
from cad.ledger.tables.messages import OnAirMessage

BACKUP_STEP: Final = 1 << 20
CHANGES_STEP: Final = 5_000
RECOVER_FIRST_S: Final = 0.5
RECOVER_MAX_S: Final = 30.0

T = TypeVar("T")
Promiser = Callable[[str, float], Promise]


class Ledger:
    """The only truth (D12). All calls raise LedgerUnavailable while the disk fails; then `recover` must succeed first.

    `promise(operator, now)` is asked on the event loop, once a commit for each operator in it. `on_messages` is called
    on the event loop with what a commit put into the outbox, just before the commit returns; `on_events` in the same
    way when `events` may be others than before.
    """

    def __init__(self, store: Store, executor: ThreadPoolExecutor, clock: Clock, promise: Promiser) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock
        self.promise = promise
        self.on_messages: Callable[[Sequence[OutboxMessage]], None] = lambda messages: None
        self.on_events: Callable[[], None] = lambda: None
        self._published: list[int] = []
        self._usable = asyncio.Event()
        self._usable.set()
        self._faulty = asyncio.Event()
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        audit_key: bytes,
        grants: Grants,
        clock: Clock,
        promise: Promiser = lambda operator, now: NoPromise(),
        options: LedgerOptions | None = None,
        time_after: Callable[[float], float] | None = None,
    ) -> Self:
        """Open the file, or begin one. `time_after`: as for `Store.open`.

        Raises LedgerUnavailable, or LedgerRefused when the file is not for this program or this key.
        """
        loop = asyncio.get_running_loop()
        store = Store(path, audit_key, options or LedgerOptions())
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        try:
            await loop.run_in_executor(executor, store.open, grants, clock.now(), time_after)
        except BaseException:
            executor.shutdown()
            raise
        return cls(store, executor, clock, promise)

    async def close(self) -> None:
        """Wait for what is under way, and close the file. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        await self._run(self._store.close)
        self._executor.shutdown()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is suspect about the file, in words."""
        return tuple(self._store.warnings)

    @property
    def highest_time(self) -> float:
        """The latest time that the ledger has seen (Unix seconds), also before a restart."""
        return self._store.highest_time

    @property
    def fault(self) -> str | None:
        """Why nothing can be stored at present, and what to do; None when all is well."""
        fault = self._store.database.fault
        return None if fault is None else str(fault)

    async def commit(self, intakes: Sequence[Intake]) -> list[Outcome]:
        """Take messages in one transaction; one outcome each, in order. When this returns, all is on the disk (I1)."""
        now = self._clock.now()
        promises = {operator: self.promise(operator, now) for operator in {one.operator for one in intakes}}
        published, self._published = self._published, []
        try:
            return await self._run(self._store.commit, intakes, now, promises, published)
        except BaseException:
            self._published += published
            raise

    async def due(self) -> tuple[list[CardChange], bool]:
        """Do what has come by the clock alone; return the cards that closed, and whether there may be more to do."""
        return await self._run(self._store.due, self._clock.now())

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """The changed offers that cards still have to follow."""
        return self._store.rollouts

    async def roll_out(self) -> RolledOut:
        """Let the next cards follow a changed offer."""
        return await self._run(self._store.roll_out, self._clock.now())

    async def recover(self) -> list[CardChange]:
        """Try to go on after a fault; return changes that turn out to be stored although their commit failed."""
        changes = await self._run(self._store.recover, self._clock.now())
        self._faulty.clear()
        self._usable.set()
        return changes

    async def wait_usable(self) -> None:
        """Wait until nothing is known that keeps the ledger from storing."""
        await self._usable.wait()

    async def keep(
        self, apply: Callable[[Sequence[CardChange]], None], tell: Callable[[str | None], None] = lambda fault: None
    ) -> None:
        """Mend for ever: after each fault try to recover, with growing pauses. Run it as a task.

        `apply` is given changes that turn out to be stored although their commit failed; `tell` the fault, or None.
        """
        pause_s, mended_at = RECOVER_FIRST_S, -math.inf
        tell(self.fault)
        while True:
            await self._faulty.wait()
            tell(self.fault)
            if self._clock.monotonic() - mended_at > RECOVER_MAX_S:
                pause_s = RECOVER_FIRST_S
            await self._clock.sleep(pause_s)
            pause_s = min(RECOVER_MAX_S, pause_s * 2)
            try:
                apply(await self.recover())
            except LedgerUnavailable:
                continue
            mended_at = self._clock.monotonic()
            tell(None)

    async def first_air(self, items: Sequence[FirstAir]) -> None:
        """Record first transmissions and put an `on-air` event for each into the outbox."""
        await self._run(self._store.first_air, items, self._clock.now())

    async def apply_grants(self, grants: Grants) -> tuple[list[CardChange], int]:
        """Follow changed settings; return the first cards whose content changes by them, and how many follow later."""
        return await self._run(self._store.apply_grants, grants, self._clock.now())

    async def after_restore(self, reason: str) -> None:
        """Say that a backup was put back: versions jump ahead. Call before anything is sent."""
        await self._run(self._store.after_restore, reason, self._clock.now())

    async def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Put an act that is no command into the audit chain. No secrets, no names of people."""
        await self._run(self._store.note, kind, facts, self._clock.now())

    async def perform(self, act: Callable[[Batch, Connection], T]) -> T:
        """Run an act that is no command (`cad.ledger.acts.stock`) in one transaction; what it raises undoes it all."""
        return await self._run(self._store.perform, act, self._clock.now())

    async def guard_period(self, period: int, calendar: Mapping[str, int]) -> None:
        """Note the period that goes on the air. Raises VersionWouldFall for one below what cards have seen (I3)."""
        await self._run(self._store.read, lambda held: upkeep.guard_period(held, period, calendar))

    async def witness_time(self) -> None:
        """Note the present time; call now and then, so that a clock that falls back is noticed after a restart."""
        await self._run(self._store.witness_time, self._clock.now())

    async def meta_get(self, key: str) -> str | None:
        """Return a value kept by name."""
        return await self._run(self._store.meta_get, key)

    async def meta_set(self, key: str, value: str) -> None:
        """Keep a value by name."""
        await self._run(self._store.meta_set, key, value)

    async def pending(self, after: int, limit: int) -> list[OutboxMessage]:
        """Return what waits in the outbox above a seq, in order."""
        return await self._run(self._store.read, lambda held: reading.pending(held, after, limit))

    def published(self, seqs: Iterable[int]) -> None:
        """Say that the broker has taken outbox rows: they are forgotten with the next commit, or `mark_published`."""
        self._published += seqs

    @property
    def unmarked(self) -> int:
        """How many published rows still stand in the outbox."""
        return len(self._published)

    async def mark_published(self, seqs: Iterable[int] = ()) -> None:
        """Forget outbox rows that the broker has taken, now."""
        published, self._published = [*self._published, *seqs], []
        try:
            await self._run(self._store.mark_published, published)
        except BaseException:
            self._published += published
            raise

    async def card_view(self, address: int) -> CardView | None:
        """Return all that is known of one card; None when it was never assigned."""
        grants, now = self._store.grants, self._clock.now()
        return await self._run(self._store.read, lambda held: reading.card_view(held, address, grants, now))

    async def events(self) -> list[EventWindow]:
        """Return all events that are not over, of all networks."""
        grants, now = self._store.grants, self._clock.now()
        return await self._run(self._store.read, lambda held: reading.event_windows(held, grants, now))

    async def find_cards(self, operator: str, subscriber: str) -> list[int]:
        """Return the cards of one subscriber."""
        return await self._run(self._store.read, lambda held: reading.find_cards(held, operator, subscriber))

    async def cards_of(self, operator: str) -> list[int]:
        """Return the addresses of all cards of one operator, rising."""
        found: list[int] = []
        while len(
            block := await self._run(
                self._store.read,
                lambda held, after=found[-1] if found else -1: reading.card_block(held, [operator], after).addresses,
            )
        ):
            found += block.tolist()
        return found

    def copy(self, operator: str) -> AsyncGenerator[copying.Copied, None]:
        """Yield all rows of an operator in blocks; together, with the last one, as of one moment, which it names.

        A row that comes again takes the place of the earlier one. Raises CopyBroken: begin anew.
        """
        return copying.copy(self._store, lambda job: self._run(self._store.read, job), operator, self._clock.now)

    async def load_cards(self, network: str) -> AsyncIterator[CardBlock]:
        """Yield all cards of a network in blocks, rising by address."""
        operators, after = self._operators(network), -1
        while operators:
            block = await self._run(self._store.read, lambda held, at=after: reading.card_block(held, operators, at))
            if not len(block.addresses):
                return
            after = int(block.addresses[-1])
            yield block

    async def load_rights(self, network: str) -> AsyncIterator[RightBlock]:
        """Yield the rights that EMMs say now, of all cards of a network in blocks, in no order."""
        operators, grants, now = self._operators(network), self._store.grants, self._clock.now()
        if not operators:
            return
        products = await self._run(self._store.read, lambda held: reading.Products(held, grants))
        last = await self._run(self._store.read, reading.last_subscription)
        for after in range(0, last, reading.BLOCK):
            upto = after + reading.BLOCK
            block = await self._run(
                self._store.read,
                lambda held, a=after, b=upto: reading.right_block(held, operators, a, b, products, now),
            )
            if len(block.addresses):
                yield block

    async def open_changes(self, since: float) -> AsyncIterator[OpenChange]:
        """Yield each card's newest change that is younger than `since` or not yet sent on every multiplex."""
        after: int | None = 0
        while after is not None:
            found, after = await self._run(
                self._store.read, lambda held, at=after: reading.open_changes(held, since, at, CHANGES_STEP)
            )
            for change in found:
                yield change

    async def messages(self, operators: Sequence[str]) -> list[OnAirMessage]:
        """Return the messages that operators have on the air, or ordered for later."""
        now = self._clock.now()
        return await self._run(self._store.read, lambda held: messages.active(held, operators, now))

    async def message_cards(self, message: OnAirMessage) -> list[tuple[int, int]]:
        """Return (address, key version) of the cards that a message is for at present, rising; not for `everyone`."""
        if message.cards is not None:
            return await self._run(self._store.read, lambda held: messages.named(held, message))
        now, after, blocks = self._clock.now(), -1, list[list[tuple[int, int, int]]]()
        while block := await self._run(
            self._store.read, lambda held, at=after: messages.next_cards(held, message, now, at, CHANGES_STEP)
        ):
            after = block[-1][0]
            blocks.append(block)
        return await asyncio.to_thread(messages.cards_of, blocks)

    async def prune(self) -> None:
        """Forget what is older than the options say, in small steps between other work."""
        options, now = self._store.options, self._clock.now()
        while await self._run(self._store.read, lambda held: upkeep.prune_commands(held, now - options.keep_ids_s)):
            pass
        after: int | None = 0
        while after is not None:
            after = await self._run(
                self._store.read,
                lambda held, at=after: upkeep.prune_changes(held, now - options.keep_changes_s, at),
            )
        forget, place = now - options.keep_history_s, history.FIRST
        while place is not None:
            place = await self._run(self._store.read, lambda held, at=place: history.prune(held, forget, at))

    async def backup(self) -> AsyncGenerator[bytes, None]:
        """Yield the ledger of this moment as one file, piece by piece, while orders go on being taken.

        Raises LedgerUnavailable; BackupError, also at the end, when the file did not stand still meanwhile.
        """
        now = self._clock.now()
        token, descriptor, size = await self._run(self._store.freeze, now)
        try:
            for offset in range(0, size, BACKUP_STEP):
                piece = await asyncio.to_thread(os.pread, descriptor, BACKUP_STEP, offset)
                if not self._store.database.is_frozen(token) or len(piece) != min(BACKUP_STEP, size - offset):
                    raise BackupError("the ledger did not stand still for the backup; take it again")
                yield piece
        finally:
            if not self._closed:
                self._executor.submit(self._store.database.thaw, token)

    async def audit_head(self) -> AuditHead:
        """Return the end of the audit chain, to be kept elsewhere."""
        return await self._run(lambda: self._store.head)

    async def audit_verify(self, head: AuditHead | None = None, *, accept_rollbacks: bool = False) -> AuditHead:
        """Check the whole chain, against a head kept elsewhere or the one noted beside the file; return its end.

        Raises AuditBroken at the first record that was removed, changed or reordered, when the end was cut off, and,
        unless accepted, when the chain itself tells that records had been lost before a start of the daemon.
        """
        check = await self._run(self._store.begin_check, head)
        while rows := await self._run(self._store.read, partial(reading.audit_rows, after=check.head.seq)):
            check.take(rows)
            await asyncio.sleep(0)
        return check.finish(accept_rollbacks=accept_rollbacks)

    async def audit_export(self, after: int = 0) -> AsyncIterator[tuple[dict[str, Any], str]]:
        """Yield each record above a seq as a mapping with its MAC in hexadecimal, in order. Does not verify."""
        while rows := await self._run(self._store.read, partial(reading.audit_rows, after=after)):
            after = rows[-1][0]
            for _, record, mac in rows:
                yield json.loads(record), bytes(mac).hex()

    def _operators(self, network: str) -> list[str]:
        return [name for name, grant in self._store.grants.operators.items() if grant.network == network]

    async def _run(self, job: Callable[..., T], *arguments: Any) -> T:
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._executor, job, *arguments)
        except LedgerUnavailable:
            self._usable.clear()
            self._faulty.set()
            raise
        if self._store.anchor_due and not self._closed:
            self._executor.submit(self._store.write_anchor)  # keeps nobody waiting
        outgoing = self._store.outgoing
        if messages := [outgoing.popleft() for _ in range(len(outgoing))]:
            self.on_messages(messages)
        if self._store.events_changed:
            self._store.events_changed = False
            self.on_events()
        return result
