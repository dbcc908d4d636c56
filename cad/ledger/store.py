"""The ledger as it is in its one thread: what stands in memory beside the file, and every change of the file.

Blocking; `cad.ledger.ledger.Ledger` is the asynchronous shell around it.
"""

import json
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, func, insert, select

from cad.ledger import audit, due, rollout
from cad.ledger.acts import airing, upkeep
from cad.ledger.batch import Batch, Counters
from cad.ledger.errors import AuditBroken, LedgerRefused, LedgerUnavailable
from cad.ledger.look import history, reading
from cad.ledger.look.copying import Watch
from cad.ledger.model import (
    AuditHead,
    CardChange,
    FirstAir,
    Grants,
    Intake,
    LedgerOptions,
    OutboxMessage,
    Outcome,
    RolledOut,
)
from cad.ledger.promise import Promise
from cad.ledger.records import Rollout
from cad.ledger.tables import rollouts, rows, schema
from cad.ledger.tables.database import Database
from cad.ledger.taking import Taking, as_internal

log = structlog.get_logger(__name__)

FILE_NAME: Final = "ledger.db"
ANCHOR_SUFFIX: Final = ".audit-head"
ANCHOR_EVERY_S: Final = 1.0
HISTORY_SINCE: Final = "history_since"
OUTBOX_MARGIN: Final = 1_000_000_000
"""More than one life of the daemon puts into the outbox while its clock stands still."""

T = TypeVar("T")


class Store:
    """Opens, changes and reads the ledger. One thread only.

    `outgoing` gathers what commits put into the outbox; any thread may take from it. `warnings` says what is suspect.
    `events_changed` is set when the events may be others than before; who has looked at them clears it.
    `watches` are told what each commit changes; any thread may put others in their place.
    """

    def __init__(self, path: Path, key: bytes, options: LedgerOptions) -> None:
        self.database = Database(path)
        self.grants = Grants()
        self.options = options
        self.warnings: list[str] = []
        self.highest_time = 0.0
        self.events_changed = False
        self._anchor_path = path.with_name(path.name + ANCHOR_SUFFIX)
        self._key = key
        self.outgoing: deque[OutboxMessage] = deque()
        self.watches: tuple[Watch, ...] = ()
        self._ledger_id = ""
        self._counters = Counters(1, 1, 1, 1, 1, 1, audit.START)
        self._reported_change = 0
        self._anchored, self._anchored_at = audit.START, 0.0

    @property
    def head(self) -> AuditHead:
        """The end of the audit chain."""
        return self._counters.head

    def open(self, grants: Grants, now: float, time_after: Callable[[float], float] | None = None) -> None:
        """Open or begin the ledger, look for signs of an older copy put back, and follow the grants.

        `time_after` tells the time anew, given the latest one that the ledger has seen: a wrong clock gets no record.

        Raises LedgerUnavailable or LedgerRefused.
        """
        self.database.open()
        self._begin(now)
        with self.database.transaction() as connection:
            self._load_counters(connection, now)
        if time_after is not None:
            now = time_after(self.highest_time)
        self._check_anchor(now)
        self._begin_history(grants, now)
        self.apply_grants(grants, now)
        self.write_anchor()

    def recover(self, now: float) -> list[CardChange]:
        """Go on after a fault that was mended; return changes that turn out to be stored although their call failed.

        Raises LedgerUnavailable while the fault lasts.
        """
        self.database.reopen()
        for watch in self.watches:
            watch.broken = True
        with self.database.transaction() as connection:
            self._load_counters(connection, now)
            found = upkeep.changes_from(self._batch(now), connection, self._reported_change)
            waiting = reading.pending(connection, 0, rows.KEYS_MAX)
        self._reported_change = self._counters.change_seq
        self.events_changed = True
        log.warning("ledger is usable again", found_committed=len(found))
        self.outgoing.extend(waiting)
        return found

    def close(self) -> None:
        """Write the anchor and close the file."""
        if self.database.fault is None:
            self.write_anchor()
        self.database.close()

    def commit(
        self, intakes: Sequence[Intake], now: float, promises: Mapping[str, Promise], published: Sequence[int] = ()
    ) -> list[Outcome]:
        """Take messages in order, in one transaction; one outcome each. When this returns, all is on the disk.

        `published`: outbox rows to forget in the same transaction.

        Raises LedgerUnavailable; then `recover` tells what became of it, and the same call may be made again.
        """
        try:
            outcomes = self._transact(now, lambda batch, held: _run(batch, held, intakes, published), promises)
        except LedgerUnavailable:
            raise
        except Exception:
            log.exception("batch failed; its messages are taken one by one", messages=len(intakes))
            outcomes = [self._alone(one, now, promises) for one in intakes]
        self._reported_change = self._counters.change_seq
        return outcomes

    def due(self, now: float) -> tuple[list[CardChange], bool]:
        """Do what has come by the clock; return the cards that closed, and whether there may be more to do.

        Raises LedgerUnavailable.
        """
        found = self._transact(now, due.run)
        self._reported_change = self._counters.change_seq
        return found

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        """The changed offers that cards still have to follow."""
        return self._counters.rollouts

    def roll_out(self, now: float) -> RolledOut:
        """Let the next cards follow a changed offer. Raises LedgerUnavailable."""
        found = self._transact(now, rollout.run)
        self._reported_change = self._counters.change_seq
        return found

    def first_air(self, items: Sequence[FirstAir], now: float) -> None:
        """Record first transmissions, with their events, in one transaction. Raises LedgerUnavailable."""
        self._transact(now, lambda batch, connection: airing.record(connection, batch, items))

    def apply_grants(self, grants: Grants, now: float) -> tuple[list[CardChange], int]:
        """Follow the settings: cards that gain or lose a product by them get a new version.

        Returns the first of those cards, and how many follow by `roll_out`.
        """
        spelt, stored, self.grants = upkeep.spell_grants(grants), self.meta_get("grants"), grants
        changes: tuple[list[CardChange], int] = [], 0
        if stored != spelt:
            changes = self._transact(now, lambda batch, held: upkeep.regrant(batch, held, stored, spelt))
        self._reported_change = self._counters.change_seq
        with self.database.transaction() as connection:
            airing.settle(connection, grants, self._time(now))
        return changes

    def after_restore(self, reason: str, now: float) -> None:
        """Say that a backup was put back: every card's revision jumps by the margin, beyond what it may have seen."""
        self._jump("restored", {"reason": reason, "had": self.head.seq}, now)

    def freeze(self, now: float) -> tuple[object, int, int]:
        """Note that a backup is taken, and let the file stand still for it (`Database.freeze`)."""
        self.note("backup", {"after": self.head.seq}, now)
        return self.database.freeze()

    def note(self, kind: str, facts: Mapping[str, Any], now: float) -> None:
        """Put an act that is no command into the audit chain."""
        self._transact(now, lambda batch, connection: upkeep.note(batch, connection, kind, facts))

    def perform(self, act: Callable[[Batch, Connection], T], now: float) -> T:
        """Run an act that is no command in one transaction. Raises LedgerUnavailable, and what the act raises."""
        return self._transact(now, act)

    def mark_published(self, seqs: Iterable[int]) -> None:
        """Forget outbox rows that the broker has taken."""
        with self.database.transaction() as connection:
            rows.UNPUBLISH.run(connection, [(seq,) for seq in seqs])

    def meta_get(self, key: str) -> str | None:
        """Return a value kept by name."""
        with self.database.transaction() as connection:
            return upkeep.get_meta(connection, key)

    def meta_set(self, key: str, value: str) -> None:
        """Keep a value by name, in place of an older one."""
        with self.database.transaction() as connection:
            upkeep.put_meta(connection, key, value)

    def witness_time(self, now: float) -> None:
        """Note that it has been this late, so that a clock that falls back is noticed after a restart."""
        self.highest_time = self._time(now)
        self.meta_set("highest_time", repr(self.highest_time))
        self.database.thaw_overgrown()

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query in a transaction of its own. Raises LedgerUnavailable."""
        with self.database.transaction() as connection:
            return query(connection)

    @property
    def anchor_due(self) -> bool:
        """Whether the end of the audit chain should be noted outside again."""
        return self._anchored != self.head and self.highest_time >= self._anchored_at + ANCHOR_EVERY_S

    def write_anchor(self) -> None:
        """Note the end of the chain outside. What is noted is on the disk already, so the note never runs ahead."""
        self._anchored_at = self.highest_time
        if self._anchored == self.head:
            return
        try:
            audit.write_anchor(self._anchor_path, self.head)
            self._anchored = self.head
        except OSError as error:
            log.warning("audit head cannot be noted", path=str(self._anchor_path), reason=error.strerror)

    def begin_check(self, head: AuditHead | None) -> audit.ChainCheck:
        """Return a check of the audit chain against a head; the one noted beside the file unless another is given."""
        if head is None:
            try:
                head = audit.read_anchor(self._anchor_path)
            except (OSError, ValueError) as error:
                raise AuditBroken(0, f"the head noted in {self._anchor_path} cannot be read: {error}") from None
        return audit.ChainCheck(self._key, expected=head)

    # --- inside

    def _time(self, now: float) -> float:
        return max(now, self.highest_time)

    def _batch(self, now: float, promises: Mapping[str, Promise] | None = None) -> Batch:
        return Batch(
            self._key,
            self._ledger_id,
            self._counters.copy(),
            self.grants,
            self._time(now),
            promises or {},
            roll_at_once=self.options.roll_at_once,
        )

    def _transact(
        self, now: float, job: Callable[[Batch, Connection], T], promises: Mapping[str, Promise] | None = None
    ) -> T:
        """Run a job in one transaction; what it numbered counts only when the transaction is on the disk."""
        batch = self._batch(now, promises)
        with self.database.transaction() as connection:
            result = job(batch, connection)
        for watch in self.watches:
            for writes in (*batch.written, batch.writes):
                watch.note(writes, batch.state)
        self._counters = batch.counters
        self.highest_time = batch.now
        self.outgoing.extend(batch.messages)
        self.events_changed |= batch.events_changed
        return result

    def _alone(self, intake: Intake, now: float, promises: Mapping[str, Promise]) -> Outcome:
        """Commit one message by itself, and when even that fails reject it, so that it holds up nobody (I7)."""
        try:
            return self._transact(now, lambda batch, connection: Taking(batch).run(connection, [intake]), promises)[0]
        except LedgerUnavailable:
            raise
        except Exception:
            log.exception("message failed", operator=intake.operator)
            refused = as_internal(intake)
            return self._transact(now, lambda batch, connection: Taking(batch).run(connection, [refused]), promises)[0]

    def _begin(self, now: float) -> None:
        check = audit.key_check(self._key)
        with self.database.transaction() as connection:
            found = {row.key: row.value for row in connection.execute(select(schema.meta))}
            if "ledger_id" not in found:
                found |= {"ledger_id": secrets.token_hex(8), "audit_key_check": check}
                fresh = [{"key": key, "value": found[key]} for key in ("ledger_id", "audit_key_check")]
                connection.execute(insert(schema.meta), fresh)
                upkeep.note(self._batch(now), connection, "begun", {"ledger": found["ledger_id"]})
        if found["audit_key_check"] != check:
            self.database.close()
            raise LedgerRefused(
                "the ledger was begun under another master key: every EMM would be sealed with keys that the cards"
                " do not have; put the right key file in place, or name another state_dir"
            )
        self._ledger_id = found["ledger_id"]
        self.highest_time = float(found.get("highest_time", 0))

    def _begin_history(self, grants: Grants, now: float) -> None:
        """Note once what cards open when a history begins to be kept."""
        with self.database.transaction() as connection:
            if upkeep.get_meta(connection, HISTORY_SINCE) is None:
                known = history.begin(connection, grants, self._time(now))
                upkeep.put_meta(connection, HISTORY_SINCE, repr(self._time(now) if known else 0.0))

    def _load_counters(self, connection: Connection, now: float) -> None:
        last = connection.execute(select(schema.audit).order_by(schema.audit.c.seq.desc()).limit(1)).one()
        self.highest_time = max(self.highest_time, float(json.loads(last.record)["at"]))

        def following(column: Any) -> int:
            return int(connection.execute(select(func.coalesce(func.max(column), 0))).scalar_one()) + 1

        waiting = rollouts.held(connection)
        self._counters = Counters(
            command_seq=following(schema.commands.c.seq),
            change_seq=max((following(schema.changes.c.seq), *(one.since_seq for one in waiting))),
            outbox_seq=self._first_outbox_seq(connection, following(schema.outbox.c.seq), now),
            offer_id=following(schema.offers.c.id),
            subscription_id=following(schema.subscriptions.c.id),
            # After a restore there are numbers that cards may have taken, and that no row has.
            message_number=max(
                following(schema.messages.c.number), int(upkeep.get_meta(connection, "message_number") or 0)
            ),
            head=AuditHead(last.seq, bytes(last.mac)),
            revision_floor=int(upkeep.get_meta(connection, "revision_floor") or 0),
            rollouts=waiting,
        )

    def _first_outbox_seq(self, connection: Connection, after_rows: int, now: float) -> int:
        """Return the number to go on with: those of published rows, which are gone, are never given again.

        Time sees to that, and a margin where time stands still because the machine's clock was set back.
        """
        floor = int(upkeep.get_meta(connection, "outbox_floor") or 0)
        first = max(after_rows, int(self._time(now) * 1e6), floor)
        upkeep.put_meta(connection, "outbox_floor", str(first + OUTBOX_MARGIN))
        return first

    def _check_anchor(self, now: float) -> None:
        """Compare the end of the audit chain with what was noted outside, and jump ahead when there was more (D2)."""
        try:
            anchor = audit.read_anchor(self._anchor_path)
        except (OSError, ValueError) as error:
            self._warn(f"{self._anchor_path} cannot be read ({error}); run: cad audit verify")
            return
        if anchor is None or anchor.seq == 0:
            return
        if anchor.seq > self.head.seq:
            had = self.head.seq
            facts = {"had": had, "anchor_seq": anchor.seq, "anchor_mac": anchor.mac.hex()}
            self._jump(audit.ROLLBACK, facts, now)
            self._warn(
                f"the ledger ended at audit record {had}, but had reached {anchor.seq}: an older copy was put back, or"
                " its end was cut off. Versions have jumped ahead; orders taken in between are lost here: let the"
                " portals send them again"
            )
            return
        found = self.read(lambda connection: reading.audit_rows(connection, anchor.seq - 1, 1))
        if not found or bytes(found[0][2]) != anchor.mac:
            self._warn(f"audit record {anchor.seq} is not the one noted outside; run: cad audit verify")

    def _jump(self, kind: str, facts: Mapping[str, Any], now: float) -> None:
        margin = self.options.restore_margin
        self._transact(now, lambda batch, connection: upkeep.jump(batch, connection, kind, facts, margin))
        self.write_anchor()

    def _warn(self, warning: str) -> None:
        self.warnings.append(warning)
        log.error("ledger is suspect", warning=warning)


def _run(batch: Batch, connection: Connection, intakes: Sequence[Intake], published: Sequence[int]) -> list[Outcome]:
    rows.UNPUBLISH.run(connection, [(seq,) for seq in published])
    return Taking(batch).run(connection, intakes)
