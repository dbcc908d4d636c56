"""What opened notices say, for `cad emm decode` and `cad card read`."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from emm.errors import DecodeError
from emm.notices.content import GROUP_SIZE, Fingerprint, Members, Notice, Ranges, parse_content
from emm.notices.seal import OpenedNotice
from protocol import card_number
from protocol.portal.fields import spell_moment


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NoticeDocument(_Document):
    """A message (`forced` or for the mailbox) or a fingerprint. `text` by language; `service_id` 0: on any service."""

    kind: str
    start: str
    end: str
    text: dict[str, str]
    duration_s: int | None = None
    position: str | None = None
    service_id: int | None = None


class NoticePartDocument(_Document):
    """One part of a notice. `cards`: those addressed, printed numbers or ranges of them, None where the EMM has one
    address; `says`: the whole of it, where all parts stand in the file."""

    number: int
    cards: list[str] | None
    piece_bytes: int
    says: NoticeDocument | None


def notice_document(notice: Notice) -> NoticeDocument:
    """Spell a notice."""
    start, end = spell_moment(notice.start), spell_moment(notice.end)
    if isinstance(notice, Fingerprint):
        return NoticeDocument(
            kind="fingerprint",
            start=start,
            end=end,
            text={},
            duration_s=notice.duration_s,
            position=notice.position.name.lower().replace("_", "-"),
            service_id=notice.service_id,
        )
    return NoticeDocument(kind="forced" if notice.forced else "mailbox", start=start, end=end, text=dict(notice.texts))


def part_documents(opened: Iterable[OpenedNotice]) -> list[NoticePartDocument]:
    """Spell parts of notices, in the order given, each with what its notice says where all of its parts are there."""
    parts = list(opened)
    whole: dict[tuple[object, ...], dict[int, bytes]] = {}
    for one in parts:
        whole.setdefault(_key(one), {})[one.header.part] = one.part.piece
    return [
        NoticePartDocument(
            number=one.number,
            cards=_cards(one),
            piece_bytes=len(one.part.piece),
            says=_says(whole[_key(one)], one.header.last_part),
        )
        for one in parts
    ]


def spell_notice(notice: NoticeDocument) -> str:
    """Say a notice in a few words and its text."""
    if notice.kind == "fingerprint":
        on = f" on service {notice.service_id}" if notice.service_id else ""
        return f"fingerprint for {notice.duration_s} s, {notice.position}{on}"
    texts = "\n".join(f"{language}: {text}" for language, text in notice.text.items())
    return f"{notice.kind} message, {notice.start} – {notice.end}\n{texts}"


def spell_part(part: NoticePartDocument) -> str:
    """Say a part of a notice: its number, whom it addresses, and what it says."""
    cards = "" if part.cards is None else f" to {', '.join(part.cards)}"
    said = f"{part.piece_bytes} bytes of it" if part.says is None else spell_notice(part.says)
    return f"notice {part.number}{cards}: {said}"


def _key(one: OpenedNotice) -> tuple[object, ...]:
    header = one.header
    return (header.kind, header.address, header.key_version, one.number, header.last_part, one.part.addressees)


def _cards(one: OpenedNotice) -> list[str] | None:
    spell = card_number.spell
    match one.part.addressees:
        case Ranges(ranges):
            return [f"{spell(first)}–{spell(last)}" for first, last in ranges]
        case Members() as members:
            first = one.header.address * GROUP_SIZE
            last = min(first + GROUP_SIZE, card_number.ADDRESS_MAX + 1)
            return [spell(address) for address in range(first, last) if members.includes(address)]
        case None:
            return None


def _says(pieces: dict[int, bytes], last_part: int) -> NoticeDocument | None:
    if len(pieces) <= last_part:
        return None
    try:
        return notice_document(parse_content(b"".join(pieces[part] for part in sorted(pieces))))
    except DecodeError:
        return None
