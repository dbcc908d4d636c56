"""The portal's side of resync: ask for a snapshot, compare digests, fetch only the buckets that differ."""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cad.portal.errors import SnapshotError
from cad.portal.messages import Answer
from protocol.portal.codes import Code
from protocol.portal.commands import snapshot as canon
from protocol.portal.commands.parsing import AnyCommand
from protocol.portal.commands.snapshot import AnyItem, Chosen, ItemName, SnapshotRead, SnapshotRequest
from protocol.portal.fields import spell_moment

TRIES: Final = 3
LATE_S: Final = 30.0
"""How long what belongs to an answer may come after it, until it is asked for again."""
PAGES: Final = 10

Document = dict[str, Any]


class Client(Protocol):
    """The portal's client, as far as it is needed here."""

    async def order(self, command: AnyCommand) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the headend has of us, as of one moment. Times are Unix seconds; `items`: how many of each kind."""

    id: str
    as_of: int
    ended_after: int
    items: Mapping[str, int]
    digest: str
    buckets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Different:
    """An item that both have: `fields` maps the name of a field to (here at the headend, there at the portal)."""

    item: str
    name: str
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(slots=True)
class Differences:
    """What the headend (here) and the portal (there) do not have in common, as JSON of the items."""

    snapshot: Snapshot
    missing_here: list[Document] = field(default_factory=list)
    missing_there: list[Document] = field(default_factory=list)
    different: list[Different] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing_here or self.missing_there or self.different)


class _Mail:
    """What came in answer to one command besides its reply."""

    def __init__(self) -> None:
        self.messages: dict[int, Document] = {}
        self.complete = asyncio.Event()

    def take(self, name: str, message: Document) -> None:
        self.messages[message.get("number", 1)] = message
        last = [number for number, one in self.messages.items() if name != "page" or one.get("last")]
        if last and len(self.messages) >= max(last):
            self.complete.set()


class Snapshots:
    """Serves `PortalClient`. Nothing of it is kept on disk: after a restart one asks again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._mail: dict[str, _Mail] = {}

    def hear(self, name: str, payload: bytes) -> None:
        """Take a message from below our reply topic; one that nobody waits for is dropped."""
        try:
            message = json.loads(payload)
            command = message["snapshot"] if name == "taken" else message["command"]
        except (ValueError, LookupError, TypeError):
            return
        if (mail := self._mail.get(command)) is not None:
            mail.take(name, message)

    async def request(self, fields: Chosen | None, ended_after: int | None) -> Snapshot:
        """Have a snapshot taken."""
        (found,) = await self._ask(lambda new: SnapshotRequest(id=new, fields=fields, ended_after=ended_after))
        taken = canon.SnapshotTaken.model_validate_json(json.dumps(found), extra="ignore")
        return Snapshot(
            taken.snapshot,
            taken.as_of,
            taken.ended_after,
            {str(name): count for name, count in taken.items.items()},
            taken.digest,
            taken.buckets,
        )

    async def items(self, snapshot: Snapshot, after: str, before: str | None) -> AsyncIterator[Document]:
        """Give the items from key to key."""
        at: str | None = after
        while at is not None:
            pages = await self._ask(
                lambda new, at=at or "": SnapshotRead(
                    id=new, snapshot=snapshot.id, after=at, before=before, pages=PAGES
                )
            )
            for page in pages:
                for item in page["items"]:
                    yield item
            at = pages[-1]["resume_after"]

    async def differences(self, view: Iterable[AnyItem]) -> Differences:
        """Compare a view with the headend's; anew when the headend was restarted in the midst of it."""
        spelt = [canon.spell(item) for item in view]
        for _ in range(TRIES - 1):
            try:
                return await self._differences(spelt)
            except SnapshotError as error:
                if error.code != Code.UNKNOWN_SNAPSHOT:
                    raise
        return await self._differences(spelt)

    async def _differences(self, spelt: list[Document]) -> Differences:
        fields = _fields(spelt)
        snapshot = await self.request({name: tuple(sorted(names)) for name, names in fields.items()}, None)
        mine = _mine(spelt, fields, snapshot.ended_after)
        buckets = canon.digests((key, canon.line(mine[key])) for key in sorted(mine))
        found = Differences(snapshot)
        for bucket in sorted(buckets.keys() | snapshot.buckets.keys()):
            if buckets.get(bucket) != snapshot.buckets.get(bucket):
                there = {key: item for key, item in mine.items() if key.startswith(bucket)}
                items = self.items(snapshot, bucket, bucket + "0")  # "0" follows the "/" of every key
                here = {canon.key(item["item"], canon.name_of(item)): item async for item in items}
                _compare(here, there, found)
        return found

    async def _ask(self, make: Any) -> list[Document]:
        """Send a command and wait for all that belongs to its answer; what got lost is asked for again."""
        for _ in range(TRIES):
            command = make(str(uuid.uuid4()))
            mail = self._mail[command.id] = _Mail()
            try:
                answer = await self._client.order(command)
                if not answer.ok:
                    raise SnapshotError(f"the headend refuses it: {answer.code}: {answer.detail}", answer.code)
                async with asyncio.timeout(LATE_S):
                    await mail.complete.wait()
                return [mail.messages[number] for number in sorted(mail.messages)]
            except TimeoutError:
                continue
            finally:
                self._mail.pop(command.id, None)
        raise SnapshotError("the headend did not send it; try again later, and look at the access list of the broker")


def _fields(items: Iterable[Document]) -> dict[ItemName, set[str]]:
    """Return for each kind the fields that any of the items names; of a kind that is not there just the names."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        found[item["item"]] |= item.keys() - {"item", item["item"]}
    return {name: found[name] for name in canon.MODELS}


def _mine(items: Iterable[Document], fields: Mapping[ItemName, set[str]], ended_after: int) -> dict[str, Document]:
    """Return the portal's items by key, with all fields that are compared, without what ended."""
    ended = spell_moment(ended_after)
    found: dict[str, Document] = {}
    for item in items:
        if item["item"] != "subscription" or (item.get("ends_at") or "9") > ended:
            whole = dict.fromkeys(fields[item["item"]]) | item
            found[canon.key(item["item"], canon.name_of(item))] = whole
    return found


def _compare(here: Mapping[str, Document], there: Mapping[str, Document], found: Differences) -> None:
    for key in sorted(here.keys() | there.keys()):
        if key not in here:
            found.missing_here.append(there[key])
        elif key not in there:
            found.missing_there.append(here[key])
        elif fields := canon.differing(here[key], there[key]):
            item = here[key]
            both = {one.field: (one.here, one.there) for one in fields}
            found.different.append(Different(item["item"], canon.name_of(item), both))
