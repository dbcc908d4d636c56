"""The data objects that GET DATA gives, each declared once: the card builds them, the host parses them.

docs/card.md has the same layouts in prose. All integers big-endian, times in UTC seconds.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from construct import (
    Array,
    BytesInteger,
    ConstructError,
    Flag,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Struct,
    Terminated,
    this,
)

from cards.errors import CardReplyError
from cards.memory.contents import CardMemory, Track
from cards.memory.pin import TRIES_MAX
from emm.message import FORMAT, EmmKind, Version
from emm.notices.content import Message
from emm.payload import CardState
from protocol import receiver_number

SPECIFICATION: Final = 1
"""Version of docs/card.md that this code implements."""

NO_EMM_YET: Final = 0xFF
RIGHT_SIZE: Final = 13


class DataObject(IntEnum):
    """Tags of the data objects, as P1 and P2 of GET DATA: private class, primitive, two bytes (ISO/IEC 8825-1)."""

    NUMBER = 0xDF20
    VERSIONS = 0xDF21
    STATE = 0xDF22
    RIGHTS = 0xDF23
    TIME = 0xDF24
    PAIRING = 0xDF26
    ACCESS = 0xDF27
    MAILBOX = 0xDF28
    REGION = 0xDF29


@dataclass(frozen=True, slots=True)
class VersionsData:
    """What the card can read, its key version, and the version it took of each kind of EMM (None: none yet)."""

    specification: int
    emm_format: int
    ecm_format: int
    key_version: int
    held: dict[EmmKind, Version | None]


@dataclass(frozen=True, slots=True)
class StateData:
    """State (None: no EMM taken yet) and, of a unique EMM that is not complete, version and parts."""

    state: CardState | None
    collecting: Version | None = None
    parts_wanted: int = 0
    parts_held: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldRight:
    """A right that the card holds: a product from `start` (0: already) until before `end`, with keys of
    `key_count` epochs from `first_epoch` on."""

    product_id: int
    start: int
    end: int
    first_epoch: int
    key_count: int


@dataclass(frozen=True, slots=True)
class HeldLetter:
    """A letter of the mailbox: a message, forced or not, or a fingerprint (whose content has `size` bytes).

    `done`: read or shown already; `due`: to be shown now, at the time of the newest ECM.
    """

    number: int
    done: bool
    forced: bool
    fingerprint: bool
    due: bool
    size: int


@dataclass(frozen=True, slots=True)
class AccessData:
    """Who may watch what: programmes rated for the age `parental` or above need the PIN (0: none does).

    `tries_left` of the PIN, 0 when it is blocked; `pin_reset`: mark of the newest reset that the card took, 0 for none.
    """

    parental: int = 0
    tries_left: int = TRIES_MAX
    pin_reset: int = 0


_NUMBER: Final = Struct("address" / BytesInteger(5), Terminated)
_TIME: Final = Struct("time" / Int32ub, Terminated)
_PAIRING: Final = Struct("receiver" / Int64ub, Terminated)
_ACCESS: Final = Struct("parental" / Int8ub, "tries_left" / Int8ub, "pin_reset" / Int32ub, Terminated)
_REGION: Final = Struct("region" / Int16ub, Terminated)
_VERSION: Final = Struct("taken" / Flag, "period" / Int16ub, "revision" / Int32ub)
_VERSIONS: Final = Struct(
    "specification" / Int8ub,
    "emm_format" / Int8ub,
    "ecm_format" / Int8ub,
    "key_version" / Int8ub,
    "unique" / _VERSION,
    "group" / _VERSION,
    "global" / _VERSION,
    Terminated,
)
_STATE: Final = Struct(
    "state" / Int8ub,
    "parts_wanted" / Int8ub,
    "parts_held" / Int16ub,
    "period" / Int16ub,
    "revision" / Int32ub,
    Terminated,
)
_RIGHTS: Final = Struct(
    "rights"
    / Array(
        this._params.count,
        Struct(
            "product_id" / Int16ub,
            "start" / Int32ub,
            "end" / Int32ub,
            "first_epoch" / Int16ub,
            "key_count" / Int8ub,
        ),
    ),
    Terminated,
)
_MAILBOX: Final = Struct(
    "letters" / Array(this._params.count, Struct("number" / Int32ub, "flags" / Int8ub, "size" / Int16ub)), Terminated
)
LETTER_SIZE: Final = 7
_DONE, _FORCED, _FINGERPRINT, _DUE = 1, 2, 4, 8
_KIND_NAMES: Final = {EmmKind.UNIQUE: "unique", EmmKind.GROUP: "group", EmmKind.GLOBAL: "global"}


def build(which: DataObject, memory: CardMemory, last_time: int) -> bytes:
    """The value of a data object; `last_time` is the time of the last ECM opened, 0 for none."""
    if which is DataObject.NUMBER:
        return bytes(_NUMBER.build({"address": memory.address}))
    if which is DataObject.VERSIONS:
        return _build_versions(memory)
    if which is DataObject.STATE:
        return _build_state(memory)
    if which is DataObject.RIGHTS:
        return _build_rights(memory)
    if which is DataObject.PAIRING:
        return b"" if memory.pairing is None else bytes(_PAIRING.build({"receiver": memory.pairing.receiver}))
    if which is DataObject.ACCESS:
        pin, parental = memory.pin, memory.traits.parental
        fields = {"parental": parental, "tries_left": pin.tries_left, "pin_reset": pin.reset_mark}
        return bytes(_ACCESS.build(fields))
    if which is DataObject.REGION:
        return bytes(_REGION.build({"region": memory.traits.region}))
    if which is DataObject.MAILBOX:
        return _build_mailbox(memory, last_time)
    return bytes(_TIME.build({"time": last_time}))


def parse_number(value: bytes) -> int:
    """The card's address. Raises CardReplyError, as all of these."""
    return int(_parse(_NUMBER, value, DataObject.NUMBER).address)


def parse_time(value: bytes) -> int | None:
    """The time of the last ECM that the card opened, or None."""
    return int(_parse(_TIME, value, DataObject.TIME).time) or None


def parse_pairing(value: bytes) -> int | None:
    """The number of the receiver that the card is paired with; None (an empty value) when it serves any."""
    if not value:
        return None
    receiver = int(_parse(_PAIRING, value, DataObject.PAIRING).receiver)
    if not receiver_number.is_number(receiver):
        raise CardReplyError("the card says that it is paired with a receiver whose number does not exist")
    return receiver


def parse_access(value: bytes) -> AccessData:
    """The ACCESS object."""
    fields = _parse(_ACCESS, value, DataObject.ACCESS)
    return AccessData(fields.parental, fields.tries_left, fields.pin_reset)


def parse_region(value: bytes) -> int:
    """The region that the card stands in, 0 for none."""
    return int(_parse(_REGION, value, DataObject.REGION).region)


def parse_versions(value: bytes) -> VersionsData:
    """The VERSIONS object."""
    fields = _parse(_VERSIONS, value, DataObject.VERSIONS)
    held: dict[EmmKind, Version | None] = {}
    for kind, name in _KIND_NAMES.items():
        version = fields[name]
        held[kind] = Version(version.period, version.revision) if version.taken else None
    return VersionsData(fields.specification, fields.emm_format, fields.ecm_format, fields.key_version, held)


def parse_state(value: bytes) -> StateData:
    """The STATE object."""
    fields = _parse(_STATE, value, DataObject.STATE)
    if fields.state != NO_EMM_YET and fields.state not in tuple(CardState):
        raise CardReplyError(f"the card says that it is in state {fields.state}, which does not exist")
    state = None if fields.state == NO_EMM_YET else CardState(fields.state)
    if not fields.parts_wanted:
        return StateData(state)
    parts = tuple(part for part in range(fields.parts_wanted) if fields.parts_held >> part & 1)
    return StateData(state, Version(fields.period, fields.revision), fields.parts_wanted, parts)


def parse_rights(value: bytes) -> tuple[HeldRight, ...]:
    """The RIGHTS object."""
    count, rest = divmod(len(value), RIGHT_SIZE)
    if rest:
        raise CardReplyError("the card's list of rights does not hold a whole number of them")
    fields = _parse(_RIGHTS, value, DataObject.RIGHTS, count=count)
    return tuple(
        HeldRight(right.product_id, right.start, right.end, right.first_epoch, right.key_count)
        for right in fields.rights
    )


def parse_mailbox(value: bytes) -> tuple[HeldLetter, ...]:
    """The MAILBOX object, the oldest letter first."""
    count, rest = divmod(len(value), LETTER_SIZE)
    if rest:
        raise CardReplyError("the card's mailbox does not hold a whole number of letters")
    fields = _parse(_MAILBOX, value, DataObject.MAILBOX, count=count)
    return tuple(
        HeldLetter(
            number=letter.number,
            done=bool(letter.flags & _DONE),
            forced=bool(letter.flags & _FORCED),
            fingerprint=bool(letter.flags & _FINGERPRINT),
            due=bool(letter.flags & _DUE),
            size=letter.size,
        )
        for letter in fields.letters
    )


def _parse(layout: Any, value: bytes, which: DataObject, **parameters: int) -> Any:
    try:
        return layout.parse(value, **parameters)
    except ConstructError:
        raise CardReplyError(f"the card's data object {which.name} cannot be read ({len(value)} bytes)") from None


def _version(track: Track) -> dict[str, int | bool]:
    held = track.held or Version(0, 0)
    return {"taken": track.held is not None, "period": held.period, "revision": held.revision}


def _build_versions(memory: CardMemory) -> bytes:
    fields: dict[str, Any] = {name: _version(memory.tracks[kind]) for kind, name in _KIND_NAMES.items()}
    fields |= {"specification": SPECIFICATION, "emm_format": FORMAT, "ecm_format": FORMAT}
    return bytes(_VERSIONS.build(fields | {"key_version": memory.keys.key_version}))


def _build_state(memory: CardMemory) -> bytes:
    collecting = memory.tracks[EmmKind.UNIQUE].collecting
    version = collecting.version if collecting else Version(0, 0)
    fields = {
        "state": NO_EMM_YET if memory.state is None else int(memory.state),
        "parts_wanted": collecting.last_part + 1 if collecting else 0,
        "parts_held": sum(1 << number for number, _ in collecting.parts) if collecting else 0,
        "period": version.period,
        "revision": version.revision,
    }
    return bytes(_STATE.build(fields))


def _build_rights(memory: CardMemory) -> bytes:
    rights = [
        {
            "product_id": product.product_id,
            "start": block.start,
            "end": block.end,
            "first_epoch": block.first_epoch,
            "key_count": len(product.keys),
        }
        for block in memory.rights
        for product in block.products
    ]
    return bytes(_RIGHTS.build({"rights": rights}, count=len(rights)))


def _build_mailbox(memory: CardMemory, last_time: int) -> bytes:
    letters = []
    for letter in memory.mailbox.letters:
        notice = letter.notice
        flags = _DONE * letter.done | _DUE * letter.due(last_time)
        if isinstance(notice, Message):
            flags |= _FORCED * notice.forced
        else:
            flags |= _FINGERPRINT
        letters.append({"number": letter.number, "flags": flags, "size": len(letter.content)})
    return bytes(_MAILBOX.build({"letters": letters}, count=len(letters)))
