"""What `cad card verify` and `cad card refresh` say: one document for people, programs and the page."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from cad.field.truth import Known
from cad.frame import clock as clocks
from cad.technicians.documents import ProductFact
from cards.data_objects import HeldRight
from cards.session import CardInfo
from cards.verify import Code, Judgement, RightLine, verdict_of
from emm.calendar import Calendar
from emm.message import EmmKind, Version

_NEVER = "nothing yet"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LineDocument(_Document):
    """A product: on the card and in the ledger, in words; null: not there."""

    product_id: int
    product: str
    services: list[str]
    on_card: str | None
    ordered: str | None
    agrees: bool
    open_now: bool


class TraitDocument(_Document):
    """Something besides rights, on the card and in the ledger, in words.

    `name`: `pairing`, `parental level`, `PIN reset`.
    """

    name: str
    on_card: str
    ordered: str
    agrees: bool


class ReportDocument(_Document):
    """`cad card verify --json`, and one line of it with --watch. Times are RFC 3339 in UTC.

    `known_as`: what a card of another system may be by its answer to reset.
    """

    at: str
    reader: str
    number: str | None
    known_as: list[str]
    passed: bool
    verdict: Code
    sentence: str
    advice: str
    source: Literal["headend", "extract", "card"]
    source_at: str | None
    genuine: bool | None
    state: str | None
    reason: str | None
    last_emm: str | None
    last_emm_age_s: int | None
    rights: list[LineDocument]
    traits: list[TraitDocument]
    took_s: float


def bare_report(code: Code, reader: str, number: str | None, now: float, took_s: float) -> ReportDocument:
    """A report of a card about which nothing more is known."""
    verdict = verdict_of(code)
    return ReportDocument(
        at=clocks.spell(now),
        reader=reader,
        number=number,
        known_as=[],
        passed=verdict.passed,
        verdict=code,
        sentence=verdict.sentence,
        advice=verdict.advice,
        source="card" if number is None else "headend",
        source_at=None,
        genuine=None,
        state=None,
        reason=None,
        last_emm=None,
        last_emm_age_s=None,
        rights=[],
        traits=[],
        took_s=round(took_s, 3),
    )


def full_report(
    info: CardInfo,
    known: Known,
    judgement: Judgement,
    genuine: bool | None,
    calendar: Calendar,
    reader: str,
    took_s: float,
    made_at: float,
) -> ReportDocument:
    """The report of a card that was compared. `made_at`: when what it was compared with was true."""
    products = {one.product_id: one for one in known.network.products}
    words, age = _last_emm(info.versions.held[EmmKind.UNIQUE], judgement.newest, known, calendar)
    return bare_report(judgement.verdict.code, reader, info.number, known.now, took_s).model_copy(
        update={
            "source": "headend" if known.live else "extract",
            "source_at": clocks.spell(made_at),
            "genuine": genuine,
            "state": known.card.state,
            "reason": known.card.reason,
            "last_emm": words,
            "last_emm_age_s": age,
            "rights": [_line(line, products) for line in judgement.lines],
            "traits": [
                TraitDocument(name=one.name, on_card=one.on_card, ordered=one.ordered, agrees=one.agrees)
                for one in judgement.traits
            ],
        }
    )


def _last_emm(held: Version | None, newest: Version, known: Known, calendar: Calendar) -> tuple[str, int | None]:
    """What the card heard last, and for how many seconds at least it has heard nothing newer."""
    if held is None:
        return _NEVER, None
    name = f"period {held.period}, revision {held.revision}"
    if held == newest:
        since = max(float(calendar.period_start(held.period)), known.card.changed_at)
        return f"the newest ({name}), on the air since {clocks.spell(since)}", 0
    if held > newest:
        return f"newer than is known here ({name})", 0
    superseded = known.card.changed_at if held.revision < newest.revision else 0.0
    if held.period < newest.period:
        ended = float(calendar.period_end(held.period))
        superseded = min(superseded, ended) if superseded else ended
    age = max(0, int(known.now - superseded))
    return f"an older one ({name}); nothing newer for {_span(age)}", age


def _span(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' if count > 1 else ''}"
    return "less than a minute"


def _line(line: RightLine, products: Mapping[int, ProductFact]) -> LineDocument:
    known = products.get(line.product_id)
    return LineDocument(
        product_id=line.product_id,
        product=known.product if known else str(line.product_id),
        services=list(known.services) if known else [],
        on_card=_windows(line.held),
        ordered=_windows(line.wanted),
        agrees=line.agrees,
        open_now=line.open_now,
    )


def _windows(rights: tuple[HeldRight, ...]) -> str | None:
    if not rights:
        return None
    return ", ".join(
        f"{f'from {clocks.spell(one.start)} ' if one.start else ''}until {clocks.spell(one.end)}" for one in rights
    )
