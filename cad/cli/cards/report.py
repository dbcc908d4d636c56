"""What `cad reader` and `cad card` show: documents for --json (their schema), and the same for people."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cad.cli.air.notice_view import NoticeDocument, notice_document
from cards.data_objects import HeldLetter, HeldRight
from cards.readers.names import card_names
from cards.readers.pin_pad import Feature
from cards.readers.state import ReaderEvent, ReaderState
from cards.session import CardInfo
from config.settings import Settings
from emm.calendar import Calendar
from emm.message import EmmKind, Version
from emm.notices.content import Notice
from protocol import receiver_number

State = Literal["active", "suspended", "blank"]
RightNow = Literal["open", "later", "ended"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReaderDocument(_Document):
    """A reader. `application`: whether the card's answer to reset names the application; null without a card.

    `known_as`: what another system's card may be by its answer to reset. `features`: what the reader offers by PC/SC
    part 10, null while another program has it; `pin_pad`: whether PINs are typed on it.
    """

    name: str
    card: Literal["empty", "present", "mute", "unavailable"]
    in_use: bool
    atr: str | None
    application: bool | None
    known_as: list[str]
    features: list[str] | None
    pin_pad: bool | None


class ReadersDocument(_Document):
    """All readers: `cad reader list --json`."""

    readers: list[ReaderDocument]


class EventDocument(_Document):
    """One line of `cad reader watch --json`. `at`: RFC 3339, UTC."""

    at: str
    event: str
    reader: str | None
    atr: str | None
    application: bool | None
    known_as: list[str]
    detail: str | None
    advice: str | None


class VersionDocument(_Document):
    """The version of an EMM."""

    period: int
    revision: int


class VersionsDocument(_Document):
    """The version taken of each kind of EMM; null: none yet."""

    unique: VersionDocument | None
    group: VersionDocument | None
    everyone: VersionDocument | None


class CollectingDocument(_Document):
    """A version of which the card holds some parts and waits for the others; parts are numbered from 0."""

    version: VersionDocument
    parts_wanted: int
    parts_held: list[int]


class RightDocument(_Document):
    """A right. `starts_at` null: open already; the names are given where the settings know the number."""

    product_id: int
    product: str | None
    network: str | None
    services: list[str]
    starts_at: str | None
    ends_at: str
    now: RightNow
    first_epoch: int
    key_count: int


class LetterDocument(_Document):
    """A letter of the mailbox. `done`: read, or shown; `due`: a receiver is to show it now."""

    number: int
    done: bool
    due: bool
    notice: NoticeDocument


class CardDocument(_Document):
    """A card: `cad card read --json`. `receiver`: number of the receiver that it is paired with.

    `parental_level`: what is rated for this age or above needs the PIN, 0: nothing does. `pin_tries_left` 0: blocked.
    `mailbox`: the oldest letter first. `region`: number of the region that it stands in, 0: none.
    """

    reader: str
    number: str
    address: int
    state: State
    specification: int
    emm_format: int
    ecm_format: int
    key_version: int
    versions: VersionsDocument
    collecting: CollectingDocument | None
    last_ecm_at: str | None
    receiver: str | None
    parental_level: int
    pin_tries_left: int
    region: int
    rights: list[RightDocument]
    mailbox: list[LetterDocument]


class FailureDocument(_Document):
    """A reader whose card could not be read."""

    reader: str
    error: str
    advice: str


class CardsDocument(_Document):
    """All cards: `cad card read --all --json`."""

    cards: list[CardDocument]
    failures: list[FailureDocument]


def reader_document(state: ReaderState, is_ours: bool, features: Collection[Feature] | None) -> ReaderDocument:
    """A reader as a document; `is_ours`: its card's answer to reset names the application."""
    names = None if features is None else [feature.name.lower().replace("_", "-") for feature in features]
    return ReaderDocument(
        name=state.name,
        card=state.presence.value,
        in_use=state.in_use,
        atr=state.atr.hex().upper() or None,
        application=is_ours if state.atr else None,
        known_as=[] if is_ours else list(card_names(state.atr)),
        features=names,
        pin_pad=None if features is None else Feature.VERIFY_PIN_DIRECT in features,
    )


def event_document(event: ReaderEvent, now: float, is_ours: bool) -> EventDocument:
    """An event as a document."""
    return EventDocument(
        at=rfc3339(int(now)),
        event=event.kind.value,
        reader=event.reader or None,
        atr=event.atr.hex().upper() or None,
        application=is_ours if event.atr else None,
        known_as=[] if is_ours else list(card_names(event.atr)),
        detail=event.detail or None,
        advice=event.advice or None,
    )


def card_document(
    info: CardInfo,
    reader: str,
    now: float,
    settings: Settings | None,
    letters: Sequence[tuple[HeldLetter, Notice]] = (),
) -> CardDocument:
    """A card as a document; `settings` give the products their names."""
    held, collecting = info.versions.held, info.state.collecting
    return CardDocument(
        reader=reader,
        number=info.number,
        address=info.address,
        state=state_name(info),
        specification=info.versions.specification,
        emm_format=info.versions.emm_format,
        ecm_format=info.versions.ecm_format,
        key_version=info.versions.key_version,
        versions=VersionsDocument(
            unique=_version(held[EmmKind.UNIQUE]),
            group=_version(held[EmmKind.GROUP]),
            everyone=_version(held[EmmKind.GLOBAL]),
        ),
        collecting=None
        if collecting is None
        else CollectingDocument(
            version=VersionDocument(period=collecting.period, revision=collecting.revision),
            parts_wanted=info.state.parts_wanted,
            parts_held=list(info.state.parts_held),
        ),
        last_ecm_at=None if info.last_ecm_time is None else rfc3339(info.last_ecm_time),
        receiver=None if info.receiver is None else receiver_number.spell(info.receiver),
        parental_level=info.access.parental,
        pin_tries_left=info.access.tries_left,
        region=info.region,
        rights=[_right(right, now, settings) for right in info.rights],
        mailbox=[
            LetterDocument(number=held.number, done=held.done, due=held.due, notice=notice_document(notice))
            for held, notice in letters
        ],
    )


def state_name(info: CardInfo) -> State:
    """The card's state as one word."""
    if info.state.state is None:
        return "blank"
    return "suspended" if info.state.state else "active"


def calendar_of(settings: Settings) -> Calendar:
    """The calendar by which the headend of these settings counts periods."""
    table = settings.calendar
    return Calendar(table.period_days, table.epoch_periods, table.overlap_periods)


def rfc3339(time: int) -> str:
    """Unix seconds in UTC as RFC 3339 has them."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version(version: Version | None) -> VersionDocument | None:
    return None if version is None else VersionDocument(period=version.period, revision=version.revision)


def _right(right: HeldRight, now: float, settings: Settings | None) -> RightDocument:
    return RightDocument(
        product_id=right.product_id,
        **_names(right.product_id, settings),
        starts_at=rfc3339(right.start) if right.start else None,
        ends_at=rfc3339(right.end),
        now="later" if now < right.start else "open" if now < right.end else "ended",
        first_epoch=right.first_epoch,
        key_count=right.key_count,
    )


def _names(product_id: int, settings: Settings | None) -> dict[str, Any]:
    for network in settings.networks if settings else ():
        for product in network.products:
            if product.product_id == product_id:
                services = [service.name for service in network.services if service.id in product.services]
                return {"product": product.id, "network": network.id, "services": services}
    return {"product": None, "network": None, "services": []}
