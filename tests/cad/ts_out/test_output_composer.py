"""Streams of our own: tables in time, EMMs whole and in order, no second above a rate, whatever delays the caller."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.ts_out.composer import OutputComposer, OutputPlan
from cad.ts_out.periodic import opening_packets
from protocol.mpegts.packet import CAT_PID, NULL_PID, PACKET_SIZE, PAT_PID, Packing, parse_packet
from protocol.mpegts.psi import CaDescriptor, parse_cat, parse_pat
from protocol.mpegts.section import SectionAssembler, ShortSection, build_section
from tests.support.ts_listening import PACKET_BITS, Heard

EMM_PID = 0x1F0
CA = 0x4ADC


def emm(number: int, size: int = 100) -> bytes:
    return build_section(ShortSection(0x82, number.to_bytes(4, "big").rjust(size - 3, b"\x11")))


def plan(**changes: object) -> OutputPlan:
    fields = {"ca_system_id": CA, "emm_pid": EMM_PID, "emm_bps": 100_000, "stream_bps": 122_000} | changes
    return OutputPlan(**fields)  # type: ignore[arg-type]


def ticks(
    composer: OutputComposer, seconds: float, step: float = 0.005, start: float = 0.0
) -> list[tuple[float, bytes]]:
    found = []
    for number in range(1, round(seconds / step) + 1):
        now = start + number * step
        found += [(now, datagram) for datagram in composer.compose(now)]
    return found


@pytest.mark.slow
@given(
    steps=st.lists(st.floats(0.001, 0.04) | st.floats(0.1, 3), min_size=50, max_size=250),
    packing=st.sampled_from(Packing),
    null_packets=st.booleans(),
    rates=st.sampled_from([(10_000, 30_000), (100_000, 122_000), (1_000_000, 1_067_000), (90_000, 2_000_000)]),
)
@settings(max_examples=25, deadline=None)
def test_no_second_exceeds_a_rate_however_late_the_caller_is(
    steps: list[float], packing: Packing, null_packets: bool, rates: tuple[int, int]
) -> None:
    emm_bps, stream_bps = rates
    composer = OutputComposer(
        plan(emm_bps=emm_bps, stream_bps=stream_bps, packing=packing, null_packets=null_packets), 0.0
    )
    now, sent, number = 0.0, [], 0
    for step in steps:
        if composer.queued_bytes < emm_bps / 80:
            composer.put(emm(number + more, 20 + (number + more) % 230) for more in range(12))
            number += 12
        now += step
        sent += [(now, datagram) for datagram in composer.compose(now)]
    heard = Heard(sent)
    assert heard.busiest_second(EMM_PID) <= emm_bps
    assert heard.busiest_second() <= stream_bps
    assert heard.sections(EMM_PID) == [emm(each, 20 + each % 230) for each in range(len(heard.sections(EMM_PID)))]
    for pid in (EMM_PID, CAT_PID, PAT_PID):
        assert heard.jumps(pid) == 0
    assert all(0 < len(datagram) <= 7 * PACKET_SIZE for _, datagram in sent)


@pytest.mark.slow
@pytest.mark.parametrize("packing", Packing)
@pytest.mark.parametrize(("emm_bps", "stream_bps"), [(20_000, 40_000), (100_000, 122_000), (3_000_000, 3_200_000)])
def test_the_rates_are_reached(packing: Packing, emm_bps: int, stream_bps: int) -> None:
    composer = OutputComposer(plan(emm_bps=emm_bps, stream_bps=stream_bps, packing=packing), 0.0)
    composer.put(emm(number) for number in range(emm_bps // 100))
    heard = Heard(ticks(composer, 5))
    assert len(heard.stream) * 8 >= 0.97 * 5 * stream_bps
    most = emm_bps // PACKET_BITS
    assert len(heard.packets[EMM_PID]) >= 0.97 * 5 * most, "what whole packets can reach in every second"


@pytest.mark.slow
@pytest.mark.parametrize("null_packets", [True, False])
@pytest.mark.parametrize("emm_bps", [10_000, 1_000_000])
def test_tables_come_in_time_and_lead_to_the_emms(null_packets: bool, emm_bps: int) -> None:
    composer = OutputComposer(
        plan(emm_bps=emm_bps, stream_bps=emm_bps + 16_000, null_packets=null_packets, transport_stream_id=7), 0.0
    )
    composer.put(emm(number) for number in range(emm_bps // 100))
    heard = Heard(ticks(composer, 5))
    for pid in (CAT_PID, PAT_PID):
        times = [0.0, *heard.times(pid)]
        assert max(after - before for before, after in pairwise(times)) < 0.5, "TR 101 290: every 0.5 s"
        assert len(times) < 5 * 6, "and no more than needed"
        assert len(set(times)) == len(times), "once at a time"
    assert {parse_cat(section).descriptors for section in heard.sections(CAT_PID)} == {(CaDescriptor(CA, EMM_PID),)}
    pats = {(pat.transport_stream_id, pat.programs) for pat in map(parse_pat, heard.sections(PAT_PID))}
    assert pats == {(7, ())}


def test_a_stream_without_pat() -> None:
    heard = Heard(ticks(OutputComposer(plan(transport_stream_id=None), 0.0), 2))
    assert set(heard.packets) == {CAT_PID, NULL_PID}


def test_without_null_packets_only_what_is_needed_goes_out() -> None:
    composer = OutputComposer(plan(null_packets=False), 0.0)
    idle = Heard(ticks(composer, 5))
    assert set(idle.packets) == {PAT_PID, CAT_PID}
    assert composer.next_at(5.0) <= 5.2
    composer.put([emm(1)])
    assert composer.next_at(5.0) == 5.0
    assert Heard([(5.0, datagram) for datagram in composer.compose(5.0)]).sections(EMM_PID) == [emm(1)]


def test_an_emm_does_not_wait_for_company() -> None:
    composer = OutputComposer(plan(), 0.0)
    ticks(composer, 1)
    composer.put([emm(1)])
    heard = Heard(ticks(composer, 0.15, start=1.0))
    assert heard.sections(EMM_PID) == [emm(1)]
    assert composer.empty


@pytest.mark.parametrize("size", [17, 180, 181, 182, 183, 256])
def test_the_first_packet_on_each_pid_says_that_counting_begins_anew(size: int) -> None:
    before = OutputComposer(plan(), 0.0)
    before.put(emm(number, 250) for number in range(7))
    first = ticks(before, 0.5)
    after = OutputComposer(plan(), 0.5)
    after.put([emm(100, size), emm(101)])
    second = ticks(after, 0.5, start=0.5)
    heard = Heard(first + second)
    assembler = SectionAssembler()
    sections = [section for _, packet in heard.packets[EMM_PID] for section in assembler.push(packet)]
    assert sections[-2:] == [emm(100, size), emm(101)]
    assert sum(assembler.damage.values()) == 0, "no receiver takes the restart for packets lost"
    for pid in (EMM_PID, CAT_PID, PAT_PID):
        marked = [at for at, packet in heard.packets[pid] if packet.discontinuity]
        assert len(marked) == 2, "the first of each start, and no others"


@given(st.integers(3, 600))
def test_an_opening_is_one_whole_section(size: int) -> None:
    section = build_section(ShortSection(0x82, bytes(size - 3)))
    packets = [parse_packet(raw) for raw in opening_packets(EMM_PID, section)]
    assembler = SectionAssembler()
    assert [one for packet in packets for one in assembler.push(packet)] == [section]
    assert packets[0].discontinuity
    assert not any(packet.discontinuity for packet in packets[1:])
    alone = [packet.payload.rstrip(b"\xff") for packet in packets[1:]]
    assert all(len(payload) != 1 or section.endswith(b"\xff") for payload in alone if payload)


def test_what_waits_is_forgotten_and_the_counter_goes_on() -> None:
    composer = OutputComposer(plan(), 0.0)
    composer.put(emm(number, 250) for number in range(200))
    first = ticks(composer, 1)
    composer.reset()
    assert composer.empty
    composer.put([emm(900)])
    heard = Heard(first + ticks(composer, 1, start=1.0))
    assert heard.jumps(EMM_PID) == 0
    assembler = SectionAssembler()
    assert [s for _, packet in heard.packets[EMM_PID] for s in assembler.push(packet)][-1] == emm(900)


def test_per_section_the_packets_of_an_emm_follow_one_another() -> None:
    composer = OutputComposer(plan(packing=Packing.PER_SECTION, emm_bps=300_000, stream_bps=500_000), 0.0)
    composer.put(emm(number, 184 + number % 72) for number in range(300))
    stream = Heard(ticks(composer, 3)).stream
    packets = [parse_packet(stream[at : at + PACKET_SIZE]) for at in range(0, len(stream), PACKET_SIZE)]
    going_on = [(a.pid, b.pid) for a, b in pairwise(packets) if b.pid == EMM_PID and not b.payload_unit_start]
    assert len(going_on) > 200
    assert set(going_on) == {(EMM_PID, EMM_PID)}
