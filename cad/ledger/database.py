"""The one connection to the ledger's file, and what becomes of it when the disk fails."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog
from sqlalchemy import Connection, Engine, insert, text, update
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from cad.ledger import engine, schema
from cad.ledger.errors import LedgerUnavailable

log = structlog.get_logger(__name__)


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
        self._connection = self._engine = None
        with contextlib.suppress(DBAPIError, sqlite3.Error):
            if connection is not None:
                connection.close()
        with contextlib.suppress(DBAPIError, sqlite3.Error):
            if held is not None:
                held.dispose()

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
        raw = self._engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise engine.unavailable(error, self.path) from error
        finally:
            raw.close()
