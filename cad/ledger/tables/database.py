"""The one connection to the ledger's file, and what becomes of it when the disk fails."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, Engine, insert, text, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from cad.errors import BackupError
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.tables import engine, schema

log = structlog.get_logger(__name__)

FROZEN_LOG_MAX: Final = 2 << 30
"""Bytes that the log may reach while the file is frozen: a backup that never ends must not fill the disk."""


class Database:
    """Opens the file, runs transactions, and after a fault does nothing at all until `reopen` has succeeded.

    A connection whose write or flush failed is never used again: what the operating system still holds of it is
    unknown. Belongs to one thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: LedgerUnavailable | None = None
        self._engine: Engine | None = None
        self._connection: Connection | None = None
        self._descriptor: int | None = None
        self._frozen: object | None = None

    def open(self) -> None:
        """Open the file, made with mode 0600 if it is new, and bring its schema up to date.

        Raises LedgerUnavailable or LedgerRefused.
        """
        try:
            self.path.touch(mode=0o600)
            self._engine = engine.make_engine(self.path)
            self._connection = self._engine.connect()
            with engine.references_unchecked(self._connection), self._connection.begin():
                engine.migrate(self._connection)
        except OSError as error:
            raise LedgerUnavailable(
                f"the ledger cannot be opened: {self.path} ({error.strerror})",
                "check that its folder exists and belongs to the daemon's user, and that the disk is not full",
            ) from None
        except (DBAPIError, sqlite3.Error) as error:
            self.close()
            raise engine.unavailable(error, self.path) from error
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run one transaction: all of it is on the disk when the block has ended, or nothing is and an error is raised.

        Raises LedgerUnavailable for a fault of the disk or the file. After a failed flush it may turn out in `reopen`
        that the transaction did reach the disk.
        """
        if self.fault is not None:
            raise self.fault
        if self._connection is None:
            raise LedgerUnavailable("the ledger is closed", "start the daemon")
        try:
            with self._connection.begin():
                yield self._connection
        except (IntegrityError, DataError):
            raise
        except (DBAPIError, sqlite3.Error) as error:
            self.fault = engine.unavailable(error, self.path)
            self.close()
            log.error("ledger failed", reason=self.fault.reason, advice=self.fault.advice)
            raise self.fault from error

    def reopen(self) -> None:
        """Open the file again after a fault, prove that it can be written, check it, and flush all that it holds.

        Raises LedgerUnavailable while the fault lasts.
        """
        self.close()
        self.fault = LedgerUnavailable("the ledger is being opened again", "wait")
        try:
            self.open()
            self.fault = None
            self._probe()
            self._check()
        except LedgerUnavailable as fault:
            self.fault = fault
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what was committed stays, nothing else is written that was not."""
        connection, held = self._connection, self._engine
        self._connection = self._engine = self._frozen = None
        with contextlib.suppress(DBAPIError, sqlite3.Error):
            if connection is not None:
                connection.close()
        with contextlib.suppress(DBAPIError, sqlite3.Error):
            if held is not None:
                held.dispose()
        # Not before: whoever closes a file gives up all locks that his process has on it.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def freeze(self) -> tuple[object, int, int]:
        """Let the file stay as it is while commits go on in the log alone; return a token, a descriptor and its size.

        What the file holds then is the ledger of this moment, whole. The descriptor is for `os.pread` only.
        Raises LedgerUnavailable, or BackupError when the file is frozen already.
        """
        if self.fault is not None:
            raise self.fault
        if self._frozen is not None:
            raise BackupError("a backup is being taken already; wait until it is done")
        try:
            self._pragma("wal_autocheckpoint = 0")
            ((busy, *_),) = self._pragma("wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise engine.unavailable(error, self.path) from error
        if busy:
            raise BackupError("another process uses the ledger; end whatever has the file open")
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._frozen = object()
        return self._frozen, self._descriptor, os.fstat(self._descriptor).st_size

    def is_frozen(self, token: object) -> bool:
        """Return whether the file has stood still since the token was given."""
        return self._frozen is token

    def thaw(self, token: object) -> None:
        """Let the log be written into the file again; nothing where the token is not in force any more."""
        if self._frozen is token and token is not None:
            self._frozen = None
            self._pragma(f"wal_autocheckpoint = {engine.AUTOCHECKPOINT}")

    def thaw_overgrown(self) -> None:
        """Give up a freeze that has let the log grow too much."""
        log_path = self.path.with_name(self.path.name + "-wal")
        if self._frozen is not None and log_path.stat().st_size > FROZEN_LOG_MAX:
            log.error("backup given up: the log grew too much meanwhile", bytes=FROZEN_LOG_MAX)
            self.thaw(self._frozen)

    def _pragma(self, spelt: str) -> list[tuple[int, ...]]:
        if self._engine is None:
            raise LedgerUnavailable("the ledger is closed", "start the daemon")
        raw = self._engine.raw_connection()
        try:
            return list(raw.cursor().execute(f"PRAGMA {spelt}").fetchall())
        finally:
            raw.close()

    def _probe(self) -> None:
        with self.transaction() as connection:
            found = connection.execute(update(schema.meta).where(schema.meta.c.key == "probe").values(value="1"))
            if found.rowcount == 0:
                connection.execute(insert(schema.meta).values(key="probe", value="1"))

    def _check(self) -> None:
        with self.transaction() as connection:
            found = [row[0] for row in connection.execute(text("PRAGMA quick_check(5)"))]
        if found != ["ok"]:
            raise LedgerUnavailable(
                f"the ledger's file is damaged: {self.path} ({'; '.join(found)[:300]})",
                "stop the daemon and put the last backup back",
                broken=True,
            )
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Write all of the log into the file and flush it: pages whose flush failed before are written anew."""
        if self._engine is None:
            return
        try:
            self._pragma("wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise engine.unavailable(error, self.path) from error
