"""What the operator should be woken for, out of what the probe has heard. Pure. docs/probe.md lists the codes."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cad.probe.report import AlarmDocument, ProbeDocument, ServiceDocument

PAST_MAX: Final = 100


class Code(StrEnum):
    """What is wrong. `wake`: at once, also at night; `advice`: what to do."""

    wake: bool
    advice: str

    def __new__(cls, value: str, wake: bool, advice: str) -> "Code":
        """Make a member that knows how urgent it is and what to do."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.wake = wake
        member.advice = advice
        return member

    NO_SIGNAL = (
        "no-signal",
        True,
        "is the stream sent, and does it reach this machine? Look at source, interface, network",
    )
    STREAM_DAMAGED = (
        "stream-damaged",
        False,
        "packets are lost on the way: network, cabling, or this machine is too slow",
    )
    CAT_MISSING = "cat-missing", True, "receivers find no EMMs: look at the multiplexer's CAT"
    CAT_WRONG = "cat-wrong", True, "no entry for this CA system: look at the multiplexer's CA_system_id and EMM stream"
    CAT_LATE = "cat-late", False, "the CAT should come at least every 0.5 s (ETSI TR 101 290): look at the multiplexer"
    EMM_SILENT = "emm-silent", True, "no EMM reaches the cards: cad status (link), the multiplexer's EMM PID"
    EMM_RATE_EXCEEDED = (
        "emm-rate-exceeded",
        False,
        "more than is allocated (I11): does something else send on this PID?",
    )
    VERSION_FELL = "version-fell", True, "cards ignore what is older: do two daemons send, or an old ledger?"
    CARDS_NOT_HEARD_HOUR = "cards-not-heard-hour", True, "the promise of an hour is broken: cad carousel top, rate"
    CARDS_NOT_HEARD_HALF_HOUR = "cards-not-heard-half-hour", False, "the cycle is too long: cad carousel top, rate"
    ECM_MISSING = "ecm-missing", True, "the service cannot be seen: scrambler, ECMG, multiplexer's ECM PID"
    ECM_LATE = "ecm-late", False, "changing to this channel takes long: the multiplexer's ECM repetition"
    ECM_STUCK = "ecm-stuck", True, "the control word does not change: scrambler and its connection to the ECMG"
    ECM_TIME_OFF = (
        "ecm-time-off",
        True,
        "cards take their time from ECMs: look at the clock of headend and of this machine",
    )
    ECM_SERVICE = "ecm-service", True, "ECMs of another service are on this PID: look at the multiplexer's routing"
    MALFORMED = "malformed", False, "look with cad emm decode at a recording; does something else send on this PID?"
    MALFORMED_MANY = (
        "malformed-many",
        True,
        "what cards hear is mostly not theirs: does something else send on this PID?",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """When something is an alarm. Seconds; shares 0..1. `emm_bps`: what is allocated, None = not known."""

    no_signal_s: float = 5.0
    no_first_signal_s: float = 2.0
    cat_missing_s: float = 2.0
    emm_silent_s: float = 10.0
    emm_bps: int | None = None
    share: float = 1.0
    ecm_missing_s: float = 3.0
    ecm_stuck_s: float = 60.0
    time_off_s: float = 60.0
    malformed_share: float = 0.01


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is wrong now."""

    code: Code
    subject: str
    text: str


def judge(found: ProbeDocument, limits: Limits) -> list[Alarm]:
    """Everything that is wrong now, the most urgent first."""
    quiet = found.stream.silence_s
    if quiet > (limits.no_signal_s if found.stream.packets else limits.no_first_signal_s):
        # Everything else follows from it.
        return [Alarm(Code.NO_SIGNAL, "stream", f"no packet for {quiet:.0f} s")]
    alarms = [*_stream(found), *_cat(found, limits), *_emm(found, limits), *_cards(found, limits)]
    for service in found.services:
        if service.ecm_pid is not None:
            alarms += _ecm(service, limits, quiet)
    return sorted(alarms, key=lambda alarm: not alarm.code.wake)


def _stream(found: ProbeDocument) -> Iterator[Alarm]:
    if found.stream.losses_recent:
        yield Alarm(
            Code.STREAM_DAMAGED, "stream", f"{found.stream.losses_recent} losses lately: {_spell(found.stream.lost)}"
        )


def _cat(found: ProbeDocument, limits: Limits) -> Iterator[Alarm]:
    cat = found.cat
    # Here and below: a stream that has just stopped does not raise an alarm for each thing in it.
    if cat.silence_s - found.stream.silence_s > limits.cat_missing_s:
        yield Alarm(Code.CAT_MISSING, "CAT", f"no CAT for {cat.silence_s:.1f} s")
        return
    if cat.count and cat.emm_pid is None:
        ours = "" if found.ca_system_id is None else f" 0x{found.ca_system_id:04X}"
        listed = ", ".join(f"0x{one['ca_system_id']:04X}" for one in cat.entries) or "none"
        yield Alarm(Code.CAT_WRONG, "CAT", f"CA system{ours} is not in the CAT; there is {listed}")
    if cat.late_recent:
        yield Alarm(
            Code.CAT_LATE, "CAT", f"{cat.late_recent} gaps above 0.5 s lately, up to {cat.worst_recent_s:.2f} s"
        )
    if cat.malformed_recent:
        yield Alarm(Code.MALFORMED, "CAT", f"{cat.malformed_recent} malformed lately: {_spell(cat.malformed)}")


def _emm(found: ProbeDocument, limits: Limits) -> Iterator[Alarm]:
    emm = found.emm
    if found.cat.emm_pid is None:
        return
    if emm.silence_s - found.stream.silence_s > limits.emm_silent_s:
        yield Alarm(Code.EMM_SILENT, "EMM", f"no EMM for {emm.silence_s:.0f} s on PID 0x{found.cat.emm_pid:04X}")
    if limits.emm_bps is not None and emm.busiest_second_bits > limits.emm_bps:
        text = f"{emm.busiest_second_bits} bit in one second, {limits.emm_bps} are allocated"
        yield Alarm(Code.EMM_RATE_EXCEEDED, "EMM", text)
    if emm.versions_fell_recent:
        text = f"{emm.versions_fell_recent} EMMs lately are older than the one before: {emm.versions_fell_address}"
        yield Alarm(Code.VERSION_FELL, "EMM", text)
    if emm.malformed_recent:
        many = sum(emm.malformed.values()) > limits.malformed_share * emm.sections
        code = Code.MALFORMED_MANY if many else Code.MALFORMED
        yield Alarm(code, "EMM", f"{emm.malformed_recent} malformed lately: {_spell(emm.malformed)}")


def _cards(found: ProbeDocument, limits: Limits) -> Iterator[Alarm]:
    emm = found.emm
    cards = emm.listed if emm.listed is not None else emm.unique
    total = emm.listed.cards if emm.listed is not None else emm.unique.addresses
    of = "on the list" if emm.listed is not None else "seen"
    which = f", such as {', '.join(emm.listed.not_heard[:3])}" if emm.listed and emm.listed.not_heard else ""
    for share, heard, code, window in (
        (cards.share_60_min, cards.heard_60_min, Code.CARDS_NOT_HEARD_HOUR, "hour"),
        (cards.share_30_min, cards.heard_30_min, Code.CARDS_NOT_HEARD_HALF_HOUR, "30 minutes"),
    ):
        if share is not None and share < limits.share:
            yield Alarm(code, "EMM", f"{total - heard} of {total} cards {of} heard nothing in the last {window}{which}")
            return


def _ecm(service: ServiceDocument, limits: Limits, quiet: float) -> Iterator[Alarm]:
    subject = f"service {service.service_id}"
    silence = service.ecm_silence_s or 0.0
    if silence - quiet > limits.ecm_missing_s:
        yield Alarm(Code.ECM_MISSING, subject, f"no ECM for {silence:.0f} s on PID 0x{service.ecm_pid:04X}")
        return
    if service.ecm_late_recent:
        worst = service.ecm_worst_recent_s
        yield Alarm(Code.ECM_LATE, subject, f"{service.ecm_late_recent} gaps above 0.5 s lately, up to {worst:.2f} s")
    if service.period_age_s is not None and service.period_age_s > limits.ecm_stuck_s:
        yield Alarm(Code.ECM_STUCK, subject, f"the same control word for {service.period_age_s:.0f} s")
    if service.time_off_s is not None and abs(service.time_off_s) > limits.time_off_s:
        yield Alarm(Code.ECM_TIME_OFF, subject, f"the time in the ECMs is off by {service.time_off_s:+.0f} s")
    if service.named_otherwise:
        yield Alarm(Code.ECM_SERVICE, subject, "its ECM PID carries ECMs that name another service")
    if service.malformed_recent:
        many = sum(service.malformed.values()) > limits.malformed_share * service.ecm_count
        code = Code.MALFORMED_MANY if many else Code.MALFORMED
        yield Alarm(code, subject, f"{service.malformed_recent} ECMs malformed lately: {_spell(service.malformed)}")


class AlarmBook:
    """Remembers since when each alarm holds, and those that are over (the last PAST_MAX)."""

    def __init__(self) -> None:
        self.woke = False
        self._open: dict[tuple[Code, str], AlarmDocument] = {}
        self._past: deque[AlarmDocument] = deque(maxlen=PAST_MAX)

    def follow(self, alarms: list[Alarm], now: float) -> tuple[list[AlarmDocument], list[AlarmDocument]]:
        """Take what holds now; returns what is new and what is over. `now`: seconds since listening began."""
        began: list[AlarmDocument] = []
        still: dict[tuple[Code, str], AlarmDocument] = {}
        for alarm in alarms:
            key = (alarm.code, alarm.subject)
            old = self._open.pop(key, None)
            made = _document(alarm, now if old is None else old.since_s)
            still[key] = made
            if old is None:
                began.append(made)
                self.woke |= made.wake
        over = [one.model_copy(update={"until_s": round(now, 3)}) for one in self._open.values()]
        self._past.extend(over)
        self._open = still
        return began, over

    def put_into(self, found: ProbeDocument) -> ProbeDocument:
        """The document with its alarms."""
        return found.model_copy(update={"alarms": list(self._open.values()), "past_alarms": list(self._past)})


def _document(alarm: Alarm, since: float) -> AlarmDocument:
    return AlarmDocument(
        code=alarm.code.value,
        subject=alarm.subject,
        wake=alarm.code.wake,
        text=alarm.text,
        advice=alarm.code.advice,
        since_s=round(since, 3),
        until_s=None,
    )


def _spell(counts: dict[str, int]) -> str:
    """The three that come most often."""
    most = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} ({count})" for name, count in most)
