"""What is sent in answer to the snapshot commands, made from a spool."""

import json
from typing import Any, Final

from cad.resync.spool import Spool
from cad.resync.taking import Taken
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import SnapshotCompare, SnapshotRead, SnapshotTaken

PAGE_BYTES: Final = 48_000
"""A broker takes messages of 64 KiB; room is left for what stands around the items."""
PAGE_ITEMS: Final = 500
DIFFERENCES_BYTES: Final = 24_000
COMPARED_MAX: Final = 2_000
"""Items looked at for one `compare`."""


def taken_message(command_id: str, taken: Taken) -> str:
    """Return the message `taken`."""
    return SnapshotTaken(
        snapshot=command_id,
        as_of=taken.as_of,
        ended_after=taken.ended_after,
        items=taken.digests.items,  # type: ignore[arg-type] # its keys are the kinds of items
        digest=snapshot.digest(taken.digests.buckets),
        buckets=taken.digests.buckets,
    ).model_dump_json()


def pages(command: SnapshotRead, spool: Spool, number: int, after: str) -> tuple[str, str | None]:
    """Return the message `page` with the items above `after`, and where to go on; None at the end."""
    found = spool.lines(after, command.before, PAGE_ITEMS + 1)
    lines: list[str] = []
    size = 0
    for _, line in found[:PAGE_ITEMS]:
        size += len(line.encode()) + 1
        if lines and size > PAGE_BYTES:
            break
        lines.append(line[:-1])
    resume_after = found[len(lines) - 1][0] if len(lines) < len(found) else None
    head = {
        "command": command.id,
        "snapshot": command.snapshot,
        "number": number,
        "last": resume_after is None or number == command.pages,
        "resume_after": resume_after,
    }
    return f'{json.dumps(head)[:-1]},"items":[{",".join(lines)}]}}', resume_after


def compared(command: SnapshotCompare, taken: Taken) -> str:
    """Return the message `differences`, as far as it fits. Items of a kind that was not asked for do not count."""
    spelt = [snapshot.spell(item) for item in command.items if item.item in taken.kinds]
    there = {snapshot.key(item["item"], snapshot.name_of(item)): item for item in spelt}
    found = taken.spool.lines(command.after, command.upto, COMPARED_MAX + 1, inclusive=True)
    here = dict(found[:COMPARED_MAX])
    more = len(found) > COMPARED_MAX
    end = found[COMPARED_MAX - 1][0] if more else None
    made = _Differences()
    for key in sorted(here.keys() | there.keys()):
        if (end is not None and key > end) or not made.fits:
            break
        if _asked(command, key):
            made.add(key, here.get(key), there.get(key))
    return made.message(command, resume_after=end if made.fits else made.last)


def _asked(command: SnapshotCompare, key: str) -> bool:
    return key > command.after and (command.upto is None or key <= command.upto)


class _Differences:
    """Gathers differences until there are enough for one message."""

    def __init__(self) -> None:
        self.last = ""
        self.size = 0
        self._found: dict[str, list[Any]] = {"missing_here": [], "missing_there": [], "different": []}

    @property
    def fits(self) -> bool:
        return self.size < DIFFERENCES_BYTES

    def add(self, key: str, line: str | None, there: dict[str, Any] | None) -> None:
        self.last = key
        if line is None:
            self._put("missing_here", key)
        elif there is None:
            self._put("missing_there", json.loads(line))
        elif fields := snapshot.differing(json.loads(line), there):
            _, item, name = key.split("/", 2)
            self._put("different", {"item": item, "name": name, "fields": [one.model_dump() for one in fields]})

    def message(self, command: SnapshotCompare, resume_after: str | None) -> str:
        head = {"command": command.id, "snapshot": command.snapshot, "resume_after": resume_after}
        return json.dumps(head | self._found, ensure_ascii=False, separators=(",", ":"))

    def _put(self, kind: str, what: Any) -> None:
        self._found[kind].append(what)
        self.size += len(json.dumps(what, ensure_ascii=False).encode()) + 1
