"""The probe's report as people read it: tables for a terminal, one line for each alarm elsewhere."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cad.cli.shell.output import spell, table
from cad.probe.report import AlarmDocument, ClassDocument, ProbeDocument, ServiceDocument


def report(found: ProbeDocument) -> RenderableType:
    """Return the whole report."""
    parts: list[RenderableType] = [Text(_headline(found)), _emms(found)]
    if found.services:
        columns = ["service", "ECM PID", "ECMs", "every", "longest gap", "crypto-period", "word since", "malformed"]
        parts.append(table(columns, [_service(one) for one in found.services], "services"))
    if found.alarms:
        parts.append(table(["", "alarm", "where", "what", "do", "for"], [_alarm(found, one) for one in found.alarms]))
    else:
        parts.append(Text("no alarm"))
    if found.past_alarms:
        over = [
            [one.code, one.subject, one.text, _seconds((one.until_s or 0) - one.since_s)] for one in found.past_alarms
        ]
        parts.append(table(["over", "where", "what", "lasted"], over[-5:]))
    return Group(*parts)


def alarm_line(alarm: AlarmDocument, at: str | None) -> str:
    """Return one line for a log: what began, or what is over."""
    word = "over" if alarm.until_s is not None else "WAKE" if alarm.wake else "look"
    return f"{at or '-'} {word} {alarm.code} {alarm.subject}: {alarm.text}"


def _headline(found: ProbeDocument) -> str:
    system = "no CA system yet" if found.ca_system_id is None else f"CA system 0x{found.ca_system_id:04X}"
    pid = "no EMM PID" if found.cat.emm_pid is None else f"EMM PID 0x{found.cat.emm_pid:04X}"
    lost = f"; lost: {spell(found.stream.lost)}" if found.stream.lost else ""
    cat = f"CAT {'right' if found.cat.right else 'NOT RIGHT'}, every {_seconds(found.cat.mean_gap_s)}"
    cat += f", longest gap {_seconds(found.cat.longest_gap_s)}"
    emm = found.emm
    rate = f"EMMs {spell(emm.sections_per_s)}/s, {spell(emm.rate_bps)} bit/s"
    rate += f", busiest second {spell(emm.busiest_second_bits)} bit"
    malformed = f"; malformed: {spell(emm.malformed)}" if emm.malformed else ""
    return (
        f"{found.source}: {_seconds(found.listened_s)}, {spell(found.stream.packets)} packets,"
        f" {spell(found.stream.rate_bps)} bit/s{lost}\n{system}, {pid}; {cat}\n{rate}{malformed}"
    )


def _emms(found: ProbeDocument) -> RenderableType:
    columns = [
        "EMMs to",
        "addresses",
        "heard",
        "cycle",
        "mean",
        "median",
        "longest",
        "whose",
        "last 30 min",
        "last 60 min",
    ]
    emm = found.emm
    rows = [_class(name, one) for name, one in (("cards", emm.unique), ("groups", emm.group), ("all", emm.to_all))]
    if emm.listed is not None:
        shares = [_percent(emm.listed.share_30_min), _percent(emm.listed.share_60_min)]
        rows.append(["listed", spell(emm.listed.cards), "", "", "", "", "", "", *shares])
    return table(columns, [row for row in rows if row[1] != "0"])


def _class(name: str, one: ClassDocument) -> list[Any]:
    times = [one.cycle_s, one.mean_spacing_s, one.median_spacing_s, one.max_spacing_s]
    shares = [_percent(one.share_30_min), _percent(one.share_60_min)]
    return [name, spell(one.addresses), spell(one.sections), *map(_seconds, times), one.max_spacing_address, *shares]


def _service(one: ServiceDocument) -> list[Any]:
    if one.ecm_pid is None:
        return [one.service_id, "clear", "-", "-", "-", "-", "-", "-"]
    times = [one.ecm_mean_gap_s, one.ecm_longest_gap_s, one.period_s, one.period_age_s]
    return [
        one.service_id,
        f"0x{one.ecm_pid:04X}",
        spell(one.ecm_count),
        *map(_seconds, times),
        spell(sum(one.malformed.values())),
    ]


def _alarm(found: ProbeDocument, one: AlarmDocument) -> list[Any]:
    held = _seconds(found.listened_s - one.since_s)
    return ["WAKE" if one.wake else "look", one.code, one.subject, one.text, one.advice, held]


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 100:
        return f"{value:.2f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _percent(share: float | None) -> str:
    # Never rounded up: 100 % means all.
    return "-" if share is None else f"{int(share * 10_000) / 100:.2f} %"
