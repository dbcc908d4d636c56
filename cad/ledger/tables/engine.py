"""SQLite as the ledger uses it: one connection alone writes and checkpoints; commits are flushed to the disk (D12)."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from cad.ledger import migrations
from cad.ledger.errors import LedgerRefused, LedgerUnavailable
from cad.ledger.tables import schema

APPLICATION_ID: Final = 0x43414431  # "CAD1" in the file's header
AUTOCHECKPOINT: Final = 4000
"""Pages of the log after which it is written into the file."""
_PRAGMAS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -32768",
    f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA trusted_schema = OFF",
)
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room on its file system; the daemon goes on by itself"),
    sqlite3.SQLITE_IOERR: (
        "the disk reports an error",
        "look at the kernel's log and the file system, mend it; the daemon tries again by itself",
    ),
    sqlite3.SQLITE_READONLY: ("the ledger cannot be written", "make file and folder writable for the daemon's user"),
    sqlite3.SQLITE_CANTOPEN: ("the ledger cannot be opened", "check that its folder exists and is the daemon's own"),
    sqlite3.SQLITE_BUSY: (
        "another process uses the ledger",
        "stop the other daemon, or the tool that has the file open; only one may use it",
    ),
    sqlite3.SQLITE_PERM: ("access to the ledger is denied", "give file and folder to the daemon's user"),
}
_BROKEN: Final = {
    sqlite3.SQLITE_CORRUPT: ("the ledger's file is damaged", "stop the daemon and put the last backup back"),
    sqlite3.SQLITE_NOTADB: ("the ledger's file is not a database", "check the path, or put the last backup back"),
}


def make_engine(path: Path) -> Engine:
    """Return an engine with exactly one connection, usable in the thread that opens it. Opens nothing yet."""
    engine = create_engine(
        "sqlite://", creator=lambda: _connect(path), poolclass=StaticPool, hide_parameters=True, logging_name="ledger"
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=1.0, cached_statements=256)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if application_id == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif application_id != APPLICATION_ID:
            raise LedgerRefused(f"{path} is a database of another program; name another state_dir")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def references_unchecked(connection: Connection) -> Iterator[None]:
    """Let tables be made anew: while the block lasts, rows may refer to a table that is not there.

    SQLite takes no notice of this inside a transaction, so it has to stand around one.
    """
    raw = connection.connection.cursor()
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.close()


def migrate(connection: Connection) -> None:
    """Bring the tables to the newest schema, in one transaction. Raises LedgerRefused for a schema of the future.

    The caller has references unchecked meanwhile; here they are checked at the end. A file without a table gets the
    newest schema at once, instead of by way of all that went before.
    """
    script = ScriptDirectory.from_config(config := _config())
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    if current == script.get_current_head():
        return
    if current is None and not inspect(connection).get_table_names():
        schema.metadata.create_all(connection)
        context.stamp(script, "head")
        return
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise LedgerRefused(
            f"the ledger was written by a newer version of this program (schema {current}); install that version"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
        raise LedgerRefused(f"the ledger's tables do not fit together: {broken[:3]}; put the last backup back")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config


def unavailable(error: DBAPIError | sqlite3.Error, path: Path) -> LedgerUnavailable:
    """Say what a failure of the database means and what to do about it."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    primary = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    name = getattr(cause, "sqlite_errorname", type(cause).__name__)
    if primary in _BROKEN:
        reason, advice = _BROKEN[primary]
        return LedgerUnavailable(f"{reason}: {path} ({name})", advice, broken=True)
    reason, advice = _ADVICE.get(
        primary, ("the ledger's database failed", "look at the log; the daemon tries again by itself")
    )
    return LedgerUnavailable(f"{reason}: {path} ({name})", advice)
