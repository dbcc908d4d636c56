"""The items of one snapshot, on disk, in the order of their keys: a file that lasts as long as the snapshot."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cad.errors import CadError
from protocol.portal.commands import snapshot

_SCHEMA: Final = """
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA trusted_schema = OFF;
CREATE TABLE raw (key TEXT NOT NULL, line TEXT) STRICT;
CREATE TABLE items (key TEXT PRIMARY KEY, line TEXT) STRICT, WITHOUT ROWID;
"""
_ALL_KEYS_END: Final = "g"
"""Above every key: they begin with hexadecimal digits."""


class SpoolError(CadError):
    """The file of a snapshot cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Of every bucket that has items; and how many items there are of each kind."""

    buckets: dict[str, str]
    items: dict[str, int]


class Spool:
    """One file. Blocking; for one thread at a time. Everything raises SpoolError when the disk fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from None

    def add(self, lines: Iterable[tuple[str, str | None]]) -> None:
        """Take items in any order; one that comes again takes the place of the earlier, a line of None its absence."""
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO raw VALUES (?, ?)", lines)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def finish(self) -> Digests:
        """Put all in order; nothing can be added any more."""
        counts: dict[str, int] = dict.fromkeys(map(str, snapshot.MODELS), 0)
        try:
            self._connection.executescript(
                "INSERT OR REPLACE INTO items SELECT key, line FROM raw ORDER BY key, rowid; DROP TABLE raw;"
                " DELETE FROM items WHERE line IS NULL;"
            )

            def counted() -> Iterator[tuple[str, str]]:
                for key, line in self._connection.execute("SELECT key, line FROM items ORDER BY key"):
                    counts[key.split("/", 2)[1]] += 1
                    yield key, line

            return Digests(snapshot.digests(counted()), counts)
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def lines(self, after: str, before: str | None, limit: int, *, inclusive: bool = False) -> list[tuple[str, str]]:
        """Return the first items (key, line) with keys above `after` and below `before`, or up to it."""
        end = _ALL_KEYS_END if before is None else before
        upto = "<=" if inclusive else "<"
        try:
            found = self._connection.execute(
                f"SELECT key, line FROM items WHERE key > ? AND key {upto} ? ORDER BY key LIMIT ?",  # noqa: S608 - ours
                (after, end, limit),
            )
            return list(found)
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def remove(self) -> None:
        """Close and delete the file."""
        self._connection.close()
        self._path.unlink(missing_ok=True)

    def _failed(self, error: OSError | sqlite3.Error) -> SpoolError:
        return SpoolError(f"the file of a snapshot cannot be used: {self._path} ({error}); look at its disk")
