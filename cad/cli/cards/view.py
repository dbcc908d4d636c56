"""A card as a technician wants to see it: number and state first, then what it opens and until when."""

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cad.cli.air.notice_view import spell_notice
from cad.cli.cards.report import CardDocument, LetterDocument, RightDocument, VersionDocument, calendar_of, rfc3339
from cad.cli.shell.output import table

if TYPE_CHECKING:
    from config.settings import Settings

_STATES = {
    "active": "active",
    "suspended": "suspended: it opens nothing until the operator reopens it (card reopen)",
    "blank": "blank: it has taken no EMM yet; leave it in a receiver of this network for half an hour",
}
_NOW = {"open": "open", "later": "not yet", "ended": "ended"}


def card_view(card: CardDocument, settings: "Settings | None") -> RenderableType:
    """Lines about the card, and a table of its rights."""
    lines = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(card, settings):
        lines.add_row(escape(name), escape(value))
    parts: list[RenderableType] = [lines]
    if card.rights:
        rows = [_row(right) for right in card.rights]
        parts.append(table(("product", "channels", "now", "opens", "closes", "keys of epoch"), rows, "rights"))
    else:
        parts.append("no rights: this card opens nothing")
    if card.mailbox:
        letters = [(each.number, _letter_state(each), spell_notice(each.notice)) for each in card.mailbox]
        parts.append(table(("number", "state", "message"), letters, "mailbox"))
    return Group(*parts)


def local(rfc: str) -> str:
    """A time as a person beside the card reads it: in this machine's time zone."""
    return datetime.fromisoformat(rfc).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _facts(card: CardDocument, settings: "Settings | None") -> list[tuple[str, str]]:
    number = card.number
    facts = [
        ("card", f"{number[:4]} {number[4:8]} {number[8:]}"),
        ("reader", card.reader),
        ("state", _STATES[card.state]),
        ("paired with", "any receiver" if card.receiver is None else f"receiver {card.receiver} alone"),
        ("parental level", f"PIN from age {card.parental_level}" if card.parental_level else "none"),
        ("PIN", f"{card.pin_tries_left} tries left" if card.pin_tries_left else "blocked (card pin-reset)"),
        *([("region", str(card.region))] if card.region else []),
        ("last EMM", _version(card.versions.unique, settings)),
        ("last channel opened", local(card.last_ecm_at) if card.last_ecm_at else "none yet"),
    ]
    if card.collecting is not None:
        missing = [
            str(part + 1) for part in range(card.collecting.parts_wanted) if part not in card.collecting.parts_held
        ]
        of = f"{', '.join(missing)} of {card.collecting.parts_wanted}"
        facts.append(("waits for", f"part {of} of {_version(card.collecting.version, settings)}"))
    formats = f"specification {card.specification}, EMM format {card.emm_format}, ECM format {card.ecm_format}"
    return [*facts, ("application", f"{formats}, key version {card.key_version}")]


def _version(version: VersionDocument | None, settings: "Settings | None") -> str:
    if version is None:
        return "none yet"
    words = f"period {version.period}, revision {version.revision}"
    if settings is None:
        return words
    calendar = calendar_of(settings)
    start, end = calendar.period_start(version.period), calendar.period_end(version.period)
    return f"{words} (sent from {local(rfc3339(start))} to {local(rfc3339(end))})"


def _letter_state(letter: LetterDocument) -> str:
    if letter.done:
        return "read" if letter.notice.kind == "mailbox" else "shown"
    return "to be shown now" if letter.due else "not read" if letter.notice.kind == "mailbox" else "not shown"


def _row(right: RightDocument) -> tuple[str, str, str, str, str, str]:
    name = f"{right.product} ({right.product_id})" if right.product else str(right.product_id)
    last = right.first_epoch + right.key_count - 1
    return (
        name,
        ", ".join(right.services) or "-",
        _NOW[right.now],
        local(right.starts_at) if right.starts_at else "already",
        local(right.ends_at),
        str(right.first_epoch) if last == right.first_epoch else f"{right.first_epoch}, {last}",
    )
