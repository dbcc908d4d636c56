"""Every alarm: raised by a stream that has the fault, gone when it is mended, and told in the documentation."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cad.probe.alarms import AlarmBook, Code, Limits, judge
from cad.probe.report import Expected
from emm.message import EmmKind
from protocol import card_number
from protocol.mpegts.packet import CAT_PID, Packing, SectionPacketizer
from protocol.mpegts.section import ShortSection, build_section
from tests.support.probe_streams import CA, ECM_PID, SERVICE_ID, Air, emm

EMMS = [emm(number % 20) for number in range(100)]


def codes(air: Air, limits: Limits | None = None, **report: object) -> set[Code]:
    found = air.report(**report)  # type: ignore[arg-type]
    return {alarm.code for alarm in judge(found, limits or Limits())}


def healthy() -> Air:
    air = Air()
    air.pass_time(5, EMMS)
    return air


def test_a_good_stream_raises_none() -> None:
    air = healthy()
    assert codes(air, wall=air.now) == set()


def no_signal(air: Air) -> None:
    air.now += 6
    air.probe.tick(air.now)


def damaged(air: Air) -> None:
    air.composer.compose(air.now + 0.5)
    air.now += 0.5
    air.pass_time(2, EMMS)


def cat_missing(air: Air) -> None:
    air.drop_pids = {CAT_PID}
    air.pass_time(3, EMMS)


def cat_wrong(air: Air) -> None:
    air.probe.ca_system_id = CA + 1
    air.pass_time(1, EMMS)


def cat_late(air: Air) -> None:
    air.drop_pids = {CAT_PID}
    air.pass_time(1, EMMS)
    air.drop_pids = set()
    air.pass_time(1, EMMS)


def emm_silent(air: Air) -> None:
    air.pass_time(11)


def version_fell(air: Air) -> None:
    air.pass_time(1, [emm(5, 7)])
    air.pass_time(1, [emm(5, 6)])


def not_heard(seconds: float) -> Callable[[Air], None]:
    def fault(air: Air) -> None:
        for _ in range(round(seconds / 60)):
            air.now += 60
            air.probe.tick(air.now)
            for address in range(19):
                air.probe.emm.take(emm(address), air.now)
        air.pass_time(3, [emm(3)])

    return fault


def ecm_missing(air: Air) -> None:
    air.drop_pids = {ECM_PID}
    air.pass_time(4, EMMS)


def ecm_late(air: Air) -> None:
    air.drop_pids = {ECM_PID}
    air.pass_time(1, EMMS)
    air.drop_pids = set()
    air.pass_time(1, EMMS)


def ecm_stuck(air: Air) -> None:
    air.ecm_period_s = 1_000_000
    air.pass_time(65, EMMS * 2)


def ecm_time_off(air: Air) -> None:
    air.ecm_off_s = -300
    air.pass_time(12, EMMS)


def ecm_service(air: Air) -> None:
    air.ecm_service_id = SERVICE_ID + 7
    air.pass_time(1, EMMS)


def malformed(air: Air) -> None:
    air.pass_time(5, EMMS * 2 + [build_section(ShortSection(0x82, bytes(40)))])


def malformed_many(air: Air) -> None:
    air.pass_time(1, EMMS + [build_section(ShortSection(0x82, bytes(40)))] * 20)


FAULTS: dict[Code, Callable[[Air], None]] = {
    Code.NO_SIGNAL: no_signal,
    Code.STREAM_DAMAGED: damaged,
    Code.CAT_MISSING: cat_missing,
    Code.CAT_WRONG: cat_wrong,
    Code.CAT_LATE: cat_late,
    Code.EMM_SILENT: emm_silent,
    Code.EMM_RATE_EXCEEDED: lambda air: air.pass_time(2, EMMS * 6),
    Code.VERSION_FELL: version_fell,
    Code.CARDS_NOT_HEARD_HALF_HOUR: not_heard(2000),
    Code.CARDS_NOT_HEARD_HOUR: not_heard(3700),
    Code.ECM_MISSING: ecm_missing,
    Code.ECM_LATE: ecm_late,
    Code.ECM_STUCK: ecm_stuck,
    Code.ECM_TIME_OFF: ecm_time_off,
    Code.ECM_SERVICE: ecm_service,
    Code.MALFORMED: malformed,
    Code.MALFORMED_MANY: malformed_many,
}
# What the fault brings along, where the test's way of making it is rough.
ALSO: dict[Code, set[Code]] = {
    Code.CARDS_NOT_HEARD_HALF_HOUR: {Code.CAT_LATE, Code.ECM_LATE, Code.ECM_STUCK, Code.STREAM_DAMAGED},
    Code.CARDS_NOT_HEARD_HOUR: {Code.CAT_LATE, Code.ECM_LATE, Code.ECM_STUCK, Code.STREAM_DAMAGED},
    Code.STREAM_DAMAGED: {Code.CAT_LATE, Code.ECM_LATE},
    Code.CAT_LATE: {Code.STREAM_DAMAGED},
    Code.ECM_LATE: {Code.STREAM_DAMAGED},
}


@pytest.mark.slow
@pytest.mark.parametrize("code", Code)
def test_each_fault_raises_its_alarm(code: Code) -> None:
    air = healthy()
    limits = Limits(emm_bps=100_000 if code is Code.EMM_RATE_EXCEEDED else None)
    FAULTS[code](air)
    raised = codes(air, limits, wall=air.now)
    assert code in raised
    assert raised - {code} <= ALSO.get(code, set())


@pytest.mark.slow
@pytest.mark.parametrize("code", [Code.CAT_LATE, Code.MALFORMED_MANY, Code.VERSION_FELL])
def test_what_happened_once_is_over_after_a_while(code: Code) -> None:
    air = healthy()
    FAULTS[code](air)
    assert code in codes(air)
    air.pass_time(330, [emm(number % 20, 9) for number in range(6000)], step=0.25)
    assert codes(air) == set()


def test_ecms_that_are_none() -> None:
    air = healthy()
    packer = SectionPacketizer(ECM_PID, Packing.PER_SECTION)
    for number in range(60):
        garbage = packer.push(build_section(ShortSection(0x80, bytes([number] * 30))))
        air.probe.feed(b"".join(garbage), air.now)
    raised = {(alarm.code, alarm.subject) for alarm in judge(air.report(), Limits())}
    assert (Code.MALFORMED_MANY, f"service {SERVICE_ID}") in raised


@pytest.mark.slow
def test_cards_of_a_list_count_not_those_that_happen_to_be_sent() -> None:
    air = healthy()
    not_heard(3700)(air)
    alive = Expected(np.arange(0, 10, dtype=np.uint64))
    assert Code.CARDS_NOT_HEARD_HOUR not in codes(air, expected=alive)
    missing = Expected(np.array([3, 19, 777], np.uint64))
    found = air.report(expected=missing)
    assert found.emm.listed is not None
    assert found.emm.listed.share_60_min == pytest.approx(1 / 3)
    assert found.emm.listed.not_heard == [card_number.spell(19), card_number.spell(777)]
    (alarm,) = [one for one in judge(found, Limits()) if one.code is Code.CARDS_NOT_HEARD_HOUR]
    assert alarm.text == (
        "2 of 3 cards on the list heard nothing in the last hour, such as "
        f"{card_number.spell(19)}, {card_number.spell(777)}"
    )
    assert codes(air, Limits(share=0.3), expected=missing) & {Code.CARDS_NOT_HEARD_HOUR} == set()


def test_a_silent_stream_raises_only_that() -> None:
    air = Air()
    air.now += 60
    air.probe.tick(air.now)
    assert codes(air) == {Code.NO_SIGNAL}, "also when nothing ever came"


def test_a_stream_that_has_just_stopped_raises_nothing_before_its_time() -> None:
    air = healthy()
    air.now += 4.5
    air.probe.tick(air.now)
    assert codes(air) == set()
    start = Air()
    start.now += 2.1
    start.probe.tick(start.now)
    assert codes(start) == {Code.NO_SIGNAL}


def test_group_and_global_emms_alone_are_no_cards() -> None:
    air = Air()
    air.pass_time(5, [emm(3, kind=EmmKind.GROUP), emm(0, kind=EmmKind.GLOBAL)] * 20)
    assert codes(air) == set()


def test_alarms_have_a_beginning_and_an_end() -> None:
    book = AlarmBook()
    air = healthy()
    good = judge(air.report(), Limits())
    assert book.follow(good, 5.0) == ([], [])
    assert not book.woke
    cat_missing(air)
    (began,), over = book.follow(judge(air.report(), Limits()), 8.0)
    assert (began.code, began.wake, began.since_s, began.until_s, over) == ("cat-missing", True, 8.0, None, [])
    assert book.woke
    cat_missing(air)
    assert book.follow(judge(air.report(), Limits()), 11.0) == ([], [])
    shown = book.put_into(air.report())
    assert shown.alarms[0].since_s == 8.0
    assert shown.alarms[0].text == f"no CAT for {air.report().cat.silence_s:.1f} s", "as it is now"
    _, (ended,) = book.follow([], 12.0)
    assert (ended.code, ended.until_s) == ("cat-missing", 12.0)
    assert book.put_into(air.report()).past_alarms == [ended]


def test_every_alarm_is_documented() -> None:
    text = Path("docs/probe.md").read_text()
    for code in Code:
        assert f"| `{code.value}` | {'yes' if code.wake else '–'} |" in text, code
