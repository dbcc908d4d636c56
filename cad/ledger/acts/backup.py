"""Backups of the ledger as files: what is in one, whether it is whole, and how one is put back. Blocking."""

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cad.errors import BackupError
from cad.ledger import audit
from cad.ledger.model import AuditHead, Grants, LedgerOptions
from cad.ledger.store import ANCHOR_SUFFIX, FILE_NAME, Store
from cad.ledger.tables.engine import APPLICATION_ID

STEP: Final = 1 << 20
ROWS: Final = 2_000
DRAFT_SUFFIX: Final = ".restoring"
SUM_SUFFIX: Final = ".sha256"


@dataclass(frozen=True, slots=True)
class Copy:
    """What a backup file says of itself. `taken_at`: Unix seconds of its newest audit record."""

    path: Path
    size: int
    head: AuditHead
    taken_at: float
    cards: int
    subscriptions: int
    meta: dict[str, str]


def look(path: Path) -> Copy:
    """Check that a file is a whole copy of a ledger, page by page, and say what is in it. Raises BackupError."""
    try:
        with _opened(path) as held:
            if held.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise BackupError(f"{path} is not a backup of a ledger; name the file that cad backup wrote")
            if (found := held.execute("PRAGMA integrity_check(3)").fetchall()) != [("ok",)]:
                raise BackupError(f"{path} is damaged: {found[0][0]}; take another backup")
            seq, record, mac = held.execute("SELECT seq, record, mac FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
            (taken_at,) = held.execute("SELECT json_extract(?, '$.at')", (record,)).fetchone()
            counts = [held.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _COUNTED]  # noqa: S608
            meta = dict(held.execute("SELECT key, value FROM meta"))
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from None
    except (sqlite3.Error, TypeError) as error:
        raise BackupError(f"{path} is not a whole backup of a ledger ({error}); name another") from None
    return Copy(path, path.stat().st_size, AuditHead(seq, bytes(mac)), float(taken_at), counts[0], counts[1], meta)


def verify(copy: Copy, key: bytes, head: AuditHead | None = None) -> None:
    """Verify the whole audit chain in a copy, against a head kept elsewhere where there is one.

    Raises AuditBroken, or BackupError for a ledger that was begun under another master key.
    """
    if copy.meta.get("audit_key_check") != audit.key_check(key):
        raise BackupError(
            f"{copy.path} was taken under another master key: put the key of that time in place first ([keys])"
        )
    check = audit.ChainCheck(key, expected=head)
    with _opened(copy.path) as held:
        rows = held.execute("SELECT seq, record, mac FROM audit ORDER BY seq")
        while found := rows.fetchmany(ROWS):
            check.take(found)
    check.finish(accept_rollbacks=True)


def sum_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal. Raises OSError."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(STEP):
            total.update(piece)
    return total.hexdigest()


def check_sum(path: Path) -> bool:
    """Compare a file with the sum beside it; return whether there is one. Raises BackupError."""
    try:
        noted = path.with_name(path.name + SUM_SUFFIX).read_text(encoding="ascii").split()[:1]
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise BackupError(f"{path}{SUM_SUFFIX} cannot be read: {error}") from None
    if noted != [sum_of(path)]:
        raise BackupError(f"{path} is not what {path.name}{SUM_SUFFIX} was made of: it was damaged or changed")
    return True


def put_back(
    copy: Copy,
    state_dir: Path,
    key: bytes,
    grants: Grants,
    time_after: Callable[[float], float],
    options: LedgerOptions | None = None,
) -> Path | None:
    """Put a copy in place of the ledger; return where the ledger went that was there, None when there was none.

    Nothing changes before the last step, which is one rename: killed or out of disk, the old ledger stays. Versions
    jump beyond what cards may have seen (I3). `time_after` tells the time (Unix seconds), given the latest one that
    was seen. The caller holds the state directory. Raises BackupError, LedgerError.
    """
    target = state_dir / FILE_NAME
    draft = target.with_name(FILE_NAME + DRAFT_SUFFIX)
    _discard(draft)
    try:
        seen = _settle(target)
        _copy(copy.path, draft)
        now = time_after(max(copy.taken_at, seen.time))
        store = Store(draft, key, options or LedgerOptions())
        store.open(grants, now)
        store.after_restore(_reason(copy, seen), now)
        _carry(store, seen)
        store.close()
        if (left := draft.with_name(draft.name + "-wal")).exists():
            raise BackupError(f"{left} is still there; try again")
        aside = _aside(target, now)
        _give_to_owner(state_dir, draft, *([aside] if aside is not None else []))
        draft.replace(target)
    except OSError as error:
        raise BackupError(f"the backup cannot be put back: {error.strerror}; nothing was changed") from None
    finally:
        head = audit.read_anchor(draft.with_name(draft.name + ANCHOR_SUFFIX)) if not draft.exists() else None
        _discard(draft)
    if head is not None:
        anchor = target.with_name(FILE_NAME + ANCHOR_SUFFIX)
        audit.write_anchor(anchor, head)
        _give_to_owner(state_dir, anchor)
    _flush(state_dir)
    return aside


_COUNTED: Final = ("cards", "subscriptions")


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far the replaced ledger had come, as far as it can be read."""

    period: int = 0
    time: float = 0.0
    head: str = "unknown"


def _settle(target: Path) -> _Seen:
    """Bring the log of the ledger in place into its file, so that no log is left to be taken for the new one's."""
    log_path = target.with_name(target.name + "-wal")
    if not target.exists():
        log_path.unlink(missing_ok=True)
        return _Seen()
    anchor = None
    with contextlib.suppress(OSError, ValueError):
        anchor = audit.read_anchor(target.with_name(FILE_NAME + ANCHOR_SUFFIX))
    seen = _Seen(head="unknown" if anchor is None else anchor.spell())
    try:
        with contextlib.closing(sqlite3.connect(target)) as held:
            held.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            meta = dict(held.execute("SELECT key, value FROM meta"))
            seen = _Seen(int(meta.get("period", 0)), float(meta.get("highest_time", 0)), seen.head)
    except (sqlite3.Error, ValueError):
        # Too damaged to be read, which may be why it is replaced: kept beside it, log and all.
        if log_path.exists():
            log_path.replace(target.with_name(f"{target.name}.damaged-wal"))
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    return seen


def _copy(source: Path, draft: Path) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as stream, os.fdopen(descriptor, "wb") as out:
        shutil.copyfileobj(stream, out, STEP)
        out.flush()
        os.fsync(out.fileno())


def _carry(store: Store, seen: _Seen) -> None:
    """Keep what the replaced ledger knew of time: the period that cards have seen never falls (I3)."""
    if seen.period > int(store.meta_get("period") or 0):
        store.meta_set("period", str(seen.period))
    store.witness_time(seen.time)


def _reason(copy: Copy, seen: _Seen) -> str:
    return f"backup with audit head {copy.head.spell()} put back in place of a ledger with head {seen.head}"


def _aside(target: Path, now: float) -> Path | None:
    """Give the ledger in place a second name, under which it stays."""
    if not target.exists():
        return None
    aside = target.with_name(f"{target.name}.replaced-{int(now)}")
    aside.unlink(missing_ok=True)
    os.link(target, aside)
    return aside


def _discard(draft: Path) -> None:
    for suffix in ("", "-wal", "-shm", ANCHOR_SUFFIX):
        with contextlib.suppress(OSError):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _give_to_owner(state_dir: Path, *paths: Path) -> None:
    """Put back by root, the files must still be the daemon's."""
    owner = state_dir.stat()
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a copy for reading, without a log or lock beside it. Raises OSError, sqlite3.Error."""
    path.open("rb").close()
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    with contextlib.closing(sqlite3.connect(f"file:{quoted}?mode=ro&immutable=1", uri=True)) as held:
        yield held
