"""Take a snapshot: copy an operator's rows out of the ledger, a few milliseconds at a time, into a spool."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cad.errors import CadError
from cad.ledger.look.copying import Copied
from cad.resync.items import Spelling
from cad.resync.spool import Digests, Spool
from protocol.portal.commands.snapshot import FIELDS, ItemName

FREE_MIN: Final = 512 * 1024 * 1024
"""Free space that a snapshot leaves to the ledger."""
LOOK_EVERY: Final = 50


class NoRoomError(CadError):
    """The disk is too full for a snapshot."""


class Copier(Protocol):
    """The ledger, as far as it is copied."""

    def copy(self, operator: str) -> AsyncGenerator[Copied, None]: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot: its items in `spool`, as of a moment (Unix seconds), without subscriptions ended by `ended_after`.

    `kinds` of items were asked for.
    """

    spool: Spool
    digests: Digests
    as_of: int
    ended_after: int
    kinds: frozenset[str]


async def take(
    ledger: Copier,
    operator: str,
    path: Path,
    *,
    fields: Mapping[ItemName, Iterable[str]] | None = None,
    ended_after: int,
) -> Taken:
    """Take a snapshot into a new file. Raises NoRoomError, SpoolError, and what the ledger raises."""
    _see_room(path)
    spelling = Spelling(fields, ended_after)
    spool = await asyncio.to_thread(Spool, path)
    try:
        as_of = 0.0
        async with contextlib.aclosing(ledger.copy(operator)) as blocks:
            number = 0
            async for block in blocks:
                number += 1
                if number % LOOK_EVERY == 0:
                    _see_room(path)
                await asyncio.to_thread(spool.add, spelling.lines(block))
                as_of = block.as_of or 0.0
        digests = await asyncio.to_thread(spool.finish)
        return Taken(spool, digests, int(as_of), ended_after, frozenset(fields or FIELDS))
    except BaseException:
        spool.remove()
        raise


def _see_room(path: Path) -> None:
    if shutil.disk_usage(path.parent).free < FREE_MIN:
        raise NoRoomError(f"less than {FREE_MIN >> 20} MiB are free at {path.parent}; make room there")
