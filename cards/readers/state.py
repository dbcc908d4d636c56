"""What is in the readers, and what changed between two looks at them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class CardPresence(StrEnum):
    """Whether a reader holds a card, and whether it answered to reset."""

    EMPTY = "empty"
    PRESENT = "present"
    MUTE = "mute"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class ReaderState:
    """A reader at one moment. `atr` is empty unless a card is present; `raw` is PC/SC's state word.

    The upper 16 bits of `raw` count the insertions and removals since pcscd started.
    """

    name: str
    presence: CardPresence
    atr: bytes = b""
    in_use: bool = False
    raw: int = field(default=0, repr=False)

    @property
    def events(self) -> int:
        """How many insertions and removals pcscd has counted, modulo 65536."""
        return self.raw >> 16 & 0xFFFF


class ReaderEventKind(StrEnum):
    """What a watcher tells."""

    READER_ADDED = "reader-added"
    READER_REMOVED = "reader-removed"
    CARD_INSERTED = "card-inserted"
    CARD_MUTE = "card-mute"
    CARD_REMOVED = "card-removed"
    SERVICE_LOST = "service-lost"
    SERVICE_BACK = "service-back"


@dataclass(frozen=True, slots=True)
class ReaderEvent:
    """One change. `reader` is empty for the service itself; `atr` is that of an inserted card.

    `detail` and `advice` are words for a person, given when the service is lost.
    """

    kind: ReaderEventKind
    reader: str = ""
    atr: bytes = b""
    detail: str = ""
    advice: str = ""


_ARRIVAL = {
    CardPresence.PRESENT: ReaderEventKind.CARD_INSERTED,
    CardPresence.MUTE: ReaderEventKind.CARD_MUTE,
}


def changes(before: Mapping[str, ReaderState], after: Mapping[str, ReaderState]) -> list[ReaderEvent]:
    """The events that lead from one look to the next: removals first, then arrivals.

    A card that was pulled and another put in between the two looks shows in pcscd's count and gives both events.
    """
    events: list[ReaderEvent] = []
    for name, was in before.items():
        if name in after:
            continue
        if was.presence in _ARRIVAL:
            events.append(ReaderEvent(ReaderEventKind.CARD_REMOVED, name))
        events.append(ReaderEvent(ReaderEventKind.READER_REMOVED, name))
    for name, now in after.items():
        if name not in before:
            events.append(ReaderEvent(ReaderEventKind.READER_ADDED, name))
        events += _card_changes(before.get(name), now)
    return events


def _card_changes(was: ReaderState | None, now: ReaderState) -> list[ReaderEvent]:
    had = was is not None and was.presence in _ARRIVAL
    if was is not None and was.presence is now.presence and was.atr == now.atr and was.events == now.events:
        return []
    events = [ReaderEvent(ReaderEventKind.CARD_REMOVED, now.name)] if had else []
    if now.presence in _ARRIVAL:
        events.append(ReaderEvent(_ARRIVAL[now.presence], now.name, now.atr))
    return events
