"""What the probe has heard, as one document. docs/probe.md explains every field (a test compares)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from cad.frame import clock as clocks
from cad.probe.addresses import Spacing
from cad.probe.analysis import ServiceWatch, StreamProbe
from emm.message import EmmKind
from protocol import card_number

HALF_HOUR_S: Final = 1800
HOUR_S: Final = 3600
EXAMPLES: Final = 10


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamDocument(_Document):
    """The transport stream as a whole."""

    packets: int
    null_packets: int
    rate_bps: int
    silence_s: float
    lost: dict[str, int]
    losses_recent: int


class CatDocument(_Document):
    """The CAT, and whether it leads to the EMMs."""

    count: int
    silence_s: float
    mean_gap_s: float | None
    longest_gap_s: float
    late_recent: int
    worst_recent_s: float
    changes: int
    entries: list[dict[str, int]]
    emm_pid: int | None
    malformed: dict[str, int]
    malformed_recent: int
    right: bool


class ClassDocument(_Document):
    """What the addresses of one class hear; `share_…` are null before the probe has listened for so long."""

    addresses: int
    sections: int
    mean_spacing_s: float | None
    median_spacing_s: float | None
    cycle_s: float | None
    max_spacing_s: float | None
    max_spacing_address: str | None
    silent_longest_s: float | None
    silent_longest_address: str | None
    heard_30_min: int
    heard_60_min: int
    share_30_min: float | None
    share_60_min: float | None


class ListDocument(_Document):
    """The cards of the list that was given (--cards), by what they heard."""

    cards: int
    heard_30_min: int
    heard_60_min: int
    share_30_min: float | None
    share_60_min: float | None
    not_heard: list[str]


class EmmDocument(_Document):
    """The EMM PID."""

    sections: int
    sections_per_s: float
    rate_bps: int
    busiest_second_bits: int
    silence_s: float
    periods: list[int]
    unique: ClassDocument
    group: ClassDocument
    to_all: ClassDocument
    listed: ListDocument | None
    versions_fell: int
    versions_fell_recent: int
    versions_fell_address: str | None
    addresses_forgotten: int
    addresses_not_kept: int
    notices: int
    malformed: dict[str, int]
    malformed_recent: int


class ServiceDocument(_Document):
    """One service and its ECMs; `ecm_…` and `period_…` are null or 0 where it is not scrambled by this system."""

    service_id: int
    pmt_pid: int
    pmt_silence_s: float
    pmt_malformed: int
    ecm_pid: int | None
    ecm_count: int
    ecm_silence_s: float | None
    ecm_mean_gap_s: float | None
    ecm_longest_gap_s: float
    ecm_late_recent: int
    ecm_worst_recent_s: float
    period_s: float | None
    period_mean_s: float | None
    period_shortest_s: float | None
    period_age_s: float | None
    epoch: int | None
    product_ids: list[int]
    time_off_s: float | None
    named_otherwise: bool
    malformed: dict[str, int]
    malformed_recent: int


class AlarmDocument(_Document):
    """What somebody should look at; `wake`: at once, also at night."""

    code: str
    subject: str
    wake: bool
    text: str
    advice: str
    since_s: float
    until_s: float | None


class ProbeDocument(_Document):
    """`cad probe --json`. Times `…_s` of alarms count from the start of listening."""

    source: str
    at: str | None
    listened_s: float
    ca_system_id: int | None
    stream: StreamDocument
    pat_count: int
    pat_silence_s: float
    pat_malformed: int
    cat: CatDocument
    emm: EmmDocument
    services: list[ServiceDocument]
    alarms: list[AlarmDocument]
    past_alarms: list[AlarmDocument]


@dataclass(frozen=True, slots=True)
class Expected:
    """The cards that should be spoken to: addresses, sorted."""

    addresses: np.ndarray[Any, np.dtype[np.uint64]]


def document(
    probe: StreamProbe, source: str, *, wall: float | None = None, expected: Expected | None = None
) -> ProbeDocument:
    """Say what has been heard. `wall`: the Unix time that belongs to `probe.now`, where there is one."""
    probe.settle()
    began = probe.now if probe.began_at is None else probe.began_at
    return ProbeDocument(
        source=source,
        at=None if wall is None else clocks.spell(wall),
        listened_s=round(probe.now - began, 3),
        ca_system_id=probe.ca_system_id,
        stream=_stream(probe, began),
        pat_count=probe.pat.gaps.count,
        pat_silence_s=round(probe.pat.gaps.silence_s(probe.now, began), 3),
        pat_malformed=probe.pat.faults.reasons.total,
        cat=_cat(probe, began),
        emm=_emm(probe, began, expected),
        services=[_service(probe, service, began, wall) for _, service in sorted(probe.services.items())],
        alarms=[],
        past_alarms=[],
    )


def _stream(probe: StreamProbe, began: float) -> StreamDocument:
    lost = {str(why): count for why, count in probe.damage.items()}
    extra = {
        "bytes between packets": probe.skipped_bytes,
        "packets that cannot be read": probe.unreadable_packets,
        "datagrams missing": probe.lost_datagrams,
    }
    return StreamDocument(
        packets=probe.packets,
        null_packets=probe.null_packets,
        rate_bps=round(probe.bits.per_second(probe.now)),
        silence_s=round(probe.now - (began if probe.last_at is None else probe.last_at), 3),
        lost=lost | {name: count for name, count in extra.items() if count},
        losses_recent=probe.losses.count(probe.now),
    )


def _cat(probe: StreamProbe, began: float) -> CatDocument:
    cat, now = probe.cat, probe.now
    late = cat.gaps.too_long.count(now)
    faults = cat.faults.recent.count(now)
    silence = cat.gaps.silence_s(now, began)
    return CatDocument(
        count=cat.gaps.count,
        silence_s=round(silence, 3),
        mean_gap_s=_rounded(cat.gaps.mean_s),
        longest_gap_s=round(cat.gaps.longest_s, 3),
        late_recent=late,
        worst_recent_s=round(cat.gaps.too_long.most(now), 3),
        changes=max(cat.changes, 0),
        entries=[{"ca_system_id": one.ca_system_id, "pid": one.ca_pid} for one in cat.entries],
        emm_pid=probe.emm_pid,
        malformed=cat.faults.reasons.counts,
        malformed_recent=faults,
        right=probe.emm_pid is not None and not late and not faults and silence <= 2 * cat.gaps.limit_s,
    )


def _emm(probe: StreamProbe, began: float, expected: Expected | None) -> EmmDocument:
    emm, now = probe.emm, probe.now
    listened = now - began
    fallen = emm.book.fallen_address
    classes = {kind: _class(emm.book.spacing(kind, now), kind, listened) for kind in EmmKind}
    return EmmDocument(
        sections=emm.sections.total,
        sections_per_s=round(emm.sections.per_second(now), 2),
        rate_bps=round(emm.bits.per_second(now)),
        busiest_second_bits=emm.bits.peak,
        silence_s=round(emm.gaps.silence_s(now, began), 3),
        periods=sorted(emm.periods),
        unique=classes[EmmKind.UNIQUE],
        group=classes[EmmKind.GROUP],
        to_all=classes[EmmKind.GLOBAL],
        listed=None if expected is None else _listed(probe, expected, listened),
        versions_fell=emm.book.fallen,
        versions_fell_recent=emm.falls.count(now),
        versions_fell_address=None if fallen is None else _name(EmmKind.UNIQUE, fallen),
        addresses_forgotten=emm.book.forgotten,
        addresses_not_kept=emm.book.not_kept,
        notices=emm.notices,
        malformed=emm.faults.reasons.counts,
        malformed_recent=emm.faults.recent.count(now),
    )


def _class(spacing: Spacing, kind: EmmKind, listened: float) -> ClassDocument:
    return ClassDocument(
        addresses=spacing.addresses,
        sections=spacing.sections,
        mean_spacing_s=_rounded(spacing.mean_spacing_s),
        median_spacing_s=_rounded(spacing.median_spacing_s),
        cycle_s=_rounded(spacing.cycle_s),
        max_spacing_s=_rounded(spacing.max_spacing_s),
        max_spacing_address=_name(kind, spacing.max_spacing_address),
        silent_longest_s=_rounded(spacing.silent_longest_s),
        silent_longest_address=_name(kind, spacing.silent_longest_address),
        heard_30_min=spacing.heard_30_min,
        heard_60_min=spacing.heard_60_min,
        share_30_min=_share(spacing.heard_30_min, spacing.addresses, listened, HALF_HOUR_S),
        share_60_min=_share(spacing.heard_60_min, spacing.addresses, listened, HOUR_S),
    )


def _listed(probe: StreamProbe, expected: Expected, listened: float) -> ListDocument:
    cards, book = expected.addresses, probe.emm.book
    in_half = int(book.heard_since(cards, probe.now - HALF_HOUR_S).sum())
    in_hour = book.heard_since(cards, probe.now - HOUR_S)
    missing: Sequence[int] = cards[~in_hour][:EXAMPLES].tolist()
    return ListDocument(
        cards=len(cards),
        heard_30_min=in_half,
        heard_60_min=int(in_hour.sum()),
        share_30_min=_share(in_half, len(cards), listened, HALF_HOUR_S),
        share_60_min=_share(int(in_hour.sum()), len(cards), listened, HOUR_S),
        not_heard=[card_number.spell(address) for address in missing],
    )


def _service(probe: StreamProbe, service: ServiceWatch, began: float, wall: float | None) -> ServiceDocument:
    now = probe.now
    ecm = probe.ecms.get(service.ecm_pid) if service.ecm_pid is not None else None
    since = began if service.pmt.gaps.first_at is None else service.pmt.gaps.first_at
    shared: dict[str, Any] = {
        "service_id": service.service_id,
        "pmt_pid": service.pmt_pid,
        "pmt_silence_s": round(service.pmt.gaps.silence_s(now, began), 3),
        "pmt_malformed": service.pmt.faults.reasons.total,
        "ecm_pid": service.ecm_pid,
    }
    if ecm is None:
        return ServiceDocument(**shared, **_NO_ECM)
    off = None
    if wall is not None and ecm.stated_time is not None and ecm.stated_at is not None:
        off = round(ecm.stated_time - (wall - (now - ecm.stated_at)), 1)
    sharing = {one.service_id for one in probe.services.values() if one.ecm_pid == service.ecm_pid}
    changed = ecm.period.last_at if ecm.period.last_at is not None else ecm.repeats.first_at
    return ServiceDocument(
        **shared,
        ecm_count=ecm.repeats.count,
        ecm_silence_s=round(ecm.repeats.silence_s(now, since), 3),
        ecm_mean_gap_s=_rounded(ecm.repeats.mean_s),
        ecm_longest_gap_s=round(ecm.repeats.longest_s, 3),
        ecm_late_recent=ecm.repeats.too_long.count(now),
        ecm_worst_recent_s=round(ecm.repeats.too_long.most(now), 3),
        period_s=_rounded(ecm.last_period_s),
        period_mean_s=_rounded(ecm.period.mean_s),
        period_shortest_s=_rounded(ecm.shortest_period_s),
        period_age_s=None if changed is None else round(now - changed, 3),
        epoch=ecm.epoch,
        product_ids=list(ecm.product_ids),
        time_off_s=off,
        named_otherwise=not ecm.service_ids <= sharing,
        malformed=ecm.faults.reasons.counts,
        malformed_recent=ecm.faults.recent.count(now),
    )


_NO_ECM: Final[dict[str, Any]] = {
    "ecm_count": 0,
    "ecm_silence_s": None,
    "ecm_mean_gap_s": None,
    "ecm_longest_gap_s": 0.0,
    "ecm_late_recent": 0,
    "ecm_worst_recent_s": 0.0,
    "period_s": None,
    "period_mean_s": None,
    "period_shortest_s": None,
    "period_age_s": None,
    "epoch": None,
    "product_ids": [],
    "time_off_s": None,
    "named_otherwise": False,
    "malformed": {},
    "malformed_recent": 0,
}


def _share(heard: int, of: int, listened: float, window_s: float) -> float | None:
    return None if listened < window_s or not of else heard / of


def _name(kind: EmmKind, address: int | None) -> str | None:
    """The address as people know it: the printed number of a card."""
    if address is None:
        return None
    if kind is EmmKind.UNIQUE and address <= card_number.ADDRESS_MAX:
        return card_number.spell(address)
    return "all" if kind is EmmKind.GLOBAL else str(address)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
