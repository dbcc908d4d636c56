"""Resync (C5): all that an operator has, as of one moment, in pages, with digests that the portal can compute too.

An item is a card, an offer or a subscription. Its key is `{bucket}/{item}/{name}`: the name is its card number, or the
portal's own name for it; the bucket is the first byte of SHA-256(`{item}/{name}`), as two hexadecimal digits. Keys put
all items in order, bytewise. An item's line is its JSON after RFC 8785, and a line feed. The digest of a bucket is the
SHA-256 of its lines, in the order of their keys; the digest of the whole is that of one line for each bucket that has
items, in order: the bucket, a space, its digest in hexadecimal, a line feed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from protocol.portal.commands.base import Command
from protocol.portal.commands.offers import PRODUCTS_MAX
from protocol.portal.commands.subscriptions import Choice
from protocol.portal.commands.terms import Terms
from protocol.portal.fields import Card, CommandId, Message, Moment, Receiver, Reference, Rev, Slug, Text, Texts

PAGES_MAX: Final = 50
ITEMS_MAX: Final = 200
ItemName = Literal["card", "offer", "subscription"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Key = Annotated[
    str,
    Field(max_length=100, pattern=r"^[!-~]*$", description="A key, or the beginning of one such as 7f for a bucket"),
]
Value = Any


class CardItem(Message):
    """A card of the operator. Fields that were not asked for are not there."""

    item: Literal["card"] = "card"
    card: Card
    rev: Rev | None = None
    state: Annotated[str, Field(pattern=r"^[a-z-]{1,32}$")] | None = None
    subscriber: Reference | None = None
    reason: Text | None = None
    until: Moment | None = None
    replacement: Card | None = None
    receiver: Receiver | None = None
    region: Slug | None = None
    parental_level: Annotated[int, Field(ge=0, le=18)] | None = None


class OfferItem(Message):
    """An offer of the operator. Fields that were not asked for are not there."""

    item: Literal["offer"] = "offer"
    offer: Slug
    rev: Rev | None = None
    kind: Slug | None = None
    names: Texts | None = None
    heading: Texts | None = None
    products: Annotated[tuple[Slug, ...], Field(strict=False, max_length=PRODUCTS_MAX)] | None = None
    choose: Annotated[int, Field(ge=1, le=PRODUCTS_MAX)] | None = None
    withdrawn: bool | None = None
    service: Slug | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    terms: Terms | None = None


class SubscriptionItem(Message):
    """A subscription of the operator. Fields that were not asked for are not there."""

    item: Literal["subscription"] = "subscription"
    subscription: Reference
    rev: Rev | None = None
    card: Card | None = None
    offer: Slug | None = None
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    choice: Choice | None = None


AnyItem = CardItem | OfferItem | SubscriptionItem
Item = Annotated[AnyItem, Field(discriminator="item")]
MODELS: Final[dict[ItemName, type[AnyItem]]] = {
    "card": CardItem,
    "offer": OfferItem,
    "subscription": SubscriptionItem,
}
FIELDS: Final[dict[ItemName, frozenset[str]]] = {
    name: frozenset(model.model_fields) - {"item", name} for name, model in MODELS.items()
}
"""What may be asked for of each item, besides its name."""
Chosen = Annotated[
    dict[ItemName, tuple[Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")], ...]],
    Field(strict=False, min_length=1),
]


class SnapshotCommand(Command):
    """A command that only asks: served outside of the ledger, and recorded there when it has been."""

    resource: ClassVar[str] = "snapshot"


class SnapshotRequest(SnapshotCommand):
    """All that the operator has is to be gathered as of one moment, and kept for an hour under this command's id.

    `fields`: only these items and of each only these fields; null: all. Subscriptions that ended at `ended_after` or
    before are left out; null: all that have ended by now. Answered by `taken`, then the reply.
    """

    verb: ClassVar[str] = "request"

    fields: Chosen | None = None
    ended_after: Moment | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name, wanted in (self.fields or {}).items():
            if unknown := sorted(set(wanted) - FIELDS[name]):
                there = ", ".join(sorted(FIELDS[name]))
                raise ValueError(f"fields: a {name} has no {unknown[0]}; it has: {there}")
        return self


class SnapshotRead(SnapshotCommand):
    """Items of the snapshot with keys above `after` and below `before` are to be sent, in at most `pages` pages."""

    verb: ClassVar[str] = "read"

    snapshot: CommandId
    after: Key = ""
    before: Key | None = None
    pages: Annotated[int, Field(ge=1, le=PAGES_MAX)] = 10


class SnapshotCompare(SnapshotCommand):
    """The portal has just these items with keys above `after` and up to `upto` (null: to the end). What differs?

    Only the fields that an item names are compared.
    """

    verb: ClassVar[str] = "compare"

    snapshot: CommandId
    after: Key = ""
    upto: Key | None = None
    items: Annotated[tuple[Item, ...], Field(strict=False, max_length=ITEMS_MAX)] = ()


class SnapshotTaken(Message):
    """A snapshot is ready. `digest` and `buckets` are over the lines of its items; a bucket without items is not there.

    It shows everything as it was at `as_of`, without subscriptions that ended at `ended_after` or before. `items` says
    how many there are of each.
    """

    snapshot: CommandId
    as_of: Moment
    ended_after: Moment
    items: dict[ItemName, Annotated[int, Field(ge=0)]]
    digest: Digest
    buckets: dict[Annotated[str, Field(pattern=r"^[0-9a-f]{2}$")], Digest]


class SnapshotPage(Message):
    """Items in the order of their keys. `number` counts the pages of one command from 1, `last` is its last one.

    `resume_after`: the key to go on after; null when there is no more up to `before`.
    """

    command: CommandId
    snapshot: CommandId
    number: Annotated[int, Field(ge=1)]
    last: bool
    items: tuple[Item, ...]
    resume_after: Key | None = None


class FieldDifference(Message):
    """One field that is not the same: `here` at the headend, `there` at the portal."""

    field: str
    here: Value
    there: Value


class ItemDifference(Message):
    """An item that both have, with the fields that are not the same."""

    item: ItemName
    name: str
    fields: tuple[FieldDifference, ...]


class SnapshotDifferences(Message):
    """What the portal's view says otherwise than the snapshot. Nothing is changed by it.

    `missing_here`: keys that only the portal has. `missing_there`: items that only the headend has. `different`: items
    that both have. Compared up to the key `resume_after`; null: to the end of what was asked.
    """

    command: CommandId
    snapshot: CommandId
    missing_here: tuple[Key, ...] = ()
    missing_there: tuple[Item, ...] = ()
    different: tuple[ItemDifference, ...] = ()
    resume_after: Key | None = None


ANSWERS: Final[dict[str, type[Message]]] = {
    "taken": SnapshotTaken,
    "page": SnapshotPage,
    "differences": SnapshotDifferences,
}
"""What is published besides the reply, on `rep/{client}/{name}`; its type is `cad.v1.snapshot.{name}`."""


def answer_type(name: str) -> str:
    """Return the CloudEvents type of what is published besides the reply."""
    return f"cad.v1.snapshot.{name}"


def name_of(item: Mapping[str, Any]) -> str:
    """Return an item's own name, from its JSON."""
    return str(item[item["item"]])


def key(item: str, name: str) -> str:
    """Return the key of an item."""
    what = f"{item}/{name}"
    return f"{hashlib.sha256(what.encode()).digest()[0]:02x}/{what}"


def spell(item: AnyItem) -> dict[str, Any]:
    """Return an item as JSON's values, with the fields that it names; terms without what is so by default."""
    made = {"item": item.item} | item.model_dump(mode="json", exclude_unset=True)
    if isinstance(item, OfferItem) and item.terms is not None:
        made["terms"] = item.terms.model_dump(mode="json", exclude_defaults=True)
    return made


def line(item: Mapping[str, Any]) -> str:
    """Return an item's line: RFC 8785, for whole numbers and names of fields in ASCII, and a line feed."""
    return json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def digests(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the digest of each bucket of (key, line), which come in the order of their keys."""
    hashes: dict[str, Any] = {}
    for at, one in lines:
        bucket = at[:2]
        if bucket not in hashes:
            hashes[bucket] = hashlib.sha256()
        hashes[bucket].update(one.encode())
    return {bucket: made.hexdigest() for bucket, made in hashes.items()}


def digest(buckets: Mapping[str, str]) -> str:
    """Return the digest of the whole."""
    return hashlib.sha256("".join(f"{name} {buckets[name]}\n" for name in sorted(buckets)).encode()).hexdigest()


def differing(item: Mapping[str, Any], there: Mapping[str, Any]) -> tuple[FieldDifference, ...]:
    """Return the fields that the headend's item and the portal's both have, and that are not the same."""
    return tuple(
        FieldDifference(field=name, here=item[name], there=value)
        for name, value in there.items()
        if name in item and item[name] != value
    )
