"""The portal's outbox: one SQLite file, on disk before a command leaves, kept until its answer has come.

It also holds the facts that came and were not taken yet: one is acknowledged to the broker only when it is safe.
Everything that touches the file runs in one thread of its own.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Self, TypeVar

from cad.portal.errors import CommandRefusedError, IdReusedError, OutboxError, UnknownCommandError
from cad.portal.messages import Answer, Fact, read_fact
from cad.portal.order import Claims, claims
from protocol.portal import topics
from protocol.portal.commands.parsing import PAYLOAD_MAX, AnyCommand, parse

FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, resource TEXT NOT NULL, verb TEXT NOT NULL,
    payload BLOB NOT NULL, at REAL NOT NULL, answer BLOB, answered_at REAL) STRICT;
CREATE INDEX commands_open ON commands (seq) WHERE answer IS NULL;
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, payload BLOB, at REAL NOT NULL
    ) STRICT;
CREATE INDEX facts_open ON facts (seq) WHERE payload IS NOT NULL;
"""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Entry:
    """One command in the outbox. `seq` rises; a command that is sent once more after its answer gets a new one."""

    seq: int
    command: AnyCommand
    payload: bytes
    at: float
    answer: Answer | None = None

    @property
    def id(self) -> str:
        """The command's id."""
        return self.command.id

    @property
    def claims(self) -> Claims:
        """What it speaks of."""
        return claims(self.command)

    @property
    def digest(self) -> str:
        """SHA-256 of the payload, as the headend names what it could not understand."""
        return hashlib.sha256(self.payload).hexdigest()

    def topic(self, operator: str) -> str:
        """Where it is published."""
        return topics.command(operator, self.command.resource, self.command.verb)


class Outbox:
    """Use as an async context. Everything raises OutboxError when the file cannot be read or written."""

    def __init__(self, path: Path, operator: str, client: str) -> None:
        self._path = path
        self._owner = f"{operator}/{client}"
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        try:
            await self._in_thread(self._open)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        thread = self._thread
        if thread is not None:
            await self._in_thread(self._close)
            self._thread = None
            thread.shutdown()

    async def put(self, commands: Sequence[AnyCommand], at: float) -> list[Entry]:
        """Store commands that have their ids, all or none; returns them as they stand in the outbox.

        One that is there already with the same content is returned as it stands; but when its answer was `retryable`
        it is to go out once more. Raises IdReusedError, CommandRefusedError.
        """
        payloads = [(command, spell(command)) for command in commands]
        return await self._run(_put, payloads, at)

    async def open_commands(self) -> list[Entry]:
        """Return the commands without an answer, in the order in which they were put."""
        return await self._run(_select, "answer IS NULL", ())

    async def everything(self) -> list[Entry]:
        """Return all commands that are kept, in the order in which they were put."""
        return await self._run(_select, "1", ())

    async def get(self, command_id: str) -> Entry:
        """Return one command. Raises UnknownCommandError."""
        found = await self._run(_select, "id = ?", (command_id,))
        if not found:
            raise UnknownCommandError(f"no command {command_id} is in this outbox")
        return found[0]

    async def settle(
        self, answers: Sequence[tuple[int, Answer]], facts: Sequence[tuple[str, str, bytes]], at: float
    ) -> bool:
        """Store answers (by seq) and facts (id, topic, payload) in one transaction; returns whether a fact is new."""
        return await self._run(_settle, answers, facts, at)

    async def next_fact(self) -> Fact | None:
        """Return the oldest fact that was not taken, if any."""
        return await self._run(_next_fact)

    async def take_fact(self, seq: int) -> None:
        """Note that a fact was taken; its id is kept for a while, to know it again."""
        await self._run(_change, "UPDATE facts SET payload = NULL WHERE seq = ?", (seq,))

    async def forget_facts(self) -> None:
        """Forget the ids of the facts that were taken: they are new when they come again."""
        await self._run(_change, "DELETE FROM facts WHERE payload IS NULL", ())

    async def forget(self, before: float) -> None:
        """Remove what was answered or taken before that time."""
        await self._run(_change, "DELETE FROM commands WHERE answered_at < ?", (before,))
        await self._run(_change, "DELETE FROM facts WHERE payload IS NULL AND at < ?", (before,))

    async def _run(self, job: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._in_thread(partial(self._transact, partial(job, **kwargs), *args))

    async def _in_thread(self, job: Callable[[], R]) -> R:
        if self._thread is None:
            raise OutboxError(f"the outbox {self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def _transact(self, job: Callable[..., R], *args: object) -> R:
        assert self._connection is not None
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                return job(self._connection, *args)
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox {self._path} cannot be used: {error}; look at its disk and rights") from None

    def _open(self) -> None:
        try:
            self._path.touch(mode=0o600)
            connection = sqlite3.connect(self._path, timeout=0.5, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise OutboxError(
                f"the outbox {self._path} cannot be opened: {error}; name a file in a folder of your own"
            ) from None
        try:
            _prepare(connection, self._owner)
        except sqlite3.Error as error:
            connection.close()
            in_use = "locked" in str(error)
            raise OutboxError(
                f"the outbox {self._path} is in use by another process; give each client a file of its own"
                if in_use
                else f"the outbox {self._path} cannot be used: {error}"
            ) from None
        except OutboxError:
            connection.close()
            raise
        self._connection = connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _prepare(connection: sqlite3.Connection, owner: str) -> None:
    """Take the file for ourselves, and see that it is ours."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("INSERT INTO meta VALUES ('owner', ?)", (owner,))
    elif found != FORMAT:
        raise OutboxError(f"the outbox has format {found}, this version of cad.portal knows {FORMAT}; update it")
    (held_by,) = connection.execute("SELECT value FROM meta WHERE name = 'owner'").fetchone()
    if held_by != owner:
        raise OutboxError(f"the outbox belongs to {held_by}, not to {owner}; give each client a file of its own")
    connection.execute("COMMIT")


def spell(command: AnyCommand) -> bytes:
    """Return the payload that is sent: with the id, without what says the same as its absence."""
    payload = command.model_dump_json(exclude={"reply_to"}, exclude_defaults=True).encode()
    if len(payload) > PAYLOAD_MAX:
        raise CommandRefusedError(f"a command has at most {PAYLOAD_MAX} bytes, this one has {len(payload)}; split it")
    return payload


def _put(connection: sqlite3.Connection, payloads: Sequence[tuple[AnyCommand, bytes]], at: float) -> list[Entry]:
    made = []
    for command, payload in payloads:
        found = _select(connection, "id = ?", (command.id,))
        if found and (found[0].payload != payload or type(found[0].command) is not type(command)):
            raise IdReusedError(f"the id {command.id} was used for a command with another content")
        if found and (found[0].answer is None or not found[0].answer.retryable):
            made.append(found[0])
            continue
        connection.execute("DELETE FROM commands WHERE id = ?", (command.id,))
        cursor = connection.execute(
            "INSERT INTO commands (id, resource, verb, payload, at) VALUES (?, ?, ?, ?, ?)",
            (command.id, command.resource, command.verb, payload, at),
        )
        made.append(Entry(int(cursor.lastrowid or 0), command, payload, at))
    return made


def _select(connection: sqlite3.Connection, where: str, arguments: Sequence[str]) -> list[Entry]:
    rows = connection.execute(
        f"SELECT seq, resource, verb, payload, at, answer FROM commands WHERE {where} ORDER BY seq",  # noqa: S608 - ours
        arguments,
    )
    return [
        Entry(
            seq,
            parse(resource, verb, payload),
            payload,
            at,
            None if answer is None else Answer.model_validate_json(answer),
        )
        for seq, resource, verb, payload, at, answer in rows
    ]


def _settle(
    connection: sqlite3.Connection,
    answers: Iterable[tuple[int, Answer]],
    facts: Iterable[tuple[str, str, bytes]],
    at: float,
) -> bool:
    for seq, answer in answers:
        connection.execute(
            "UPDATE commands SET answer = ?, answered_at = ? WHERE seq = ?",
            (answer.model_dump_json().encode(), at, seq),
        )
    before = connection.total_changes
    connection.executemany(
        "INSERT INTO facts (id, topic, payload, at) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        [(*fact, at) for fact in facts],
    )
    return connection.total_changes > before


def _next_fact(connection: sqlite3.Connection) -> Fact | None:
    row = connection.execute(
        "SELECT seq, id, topic, payload FROM facts WHERE payload IS NOT NULL ORDER BY seq LIMIT 1"
    ).fetchone()
    return None if row is None else read_fact(*row)


def _change(connection: sqlite3.Connection, statement: str, arguments: Sequence[object]) -> None:
    connection.execute(statement, arguments)
