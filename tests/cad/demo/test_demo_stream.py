"""The demo's transport stream: constant rate, tables in time, EMMs whole and within their rate."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.demo.stream import PlannedService, StreamComposer, StreamPlan, StreamPlanError
from protocol.mpegts.packet import (
    CAT_PID,
    NULL_PACKET,
    PACKET_SIZE,
    PAT_PID,
    Packing,
    SectionPacketizer,
    TsPacket,
    build_packet,
    packet_pid,
    parse_packet,
    split_packets,
)
from protocol.mpegts.psi import CaDescriptor, parse_cat, parse_pat, parse_pmt
from protocol.mpegts.section import SectionAssembler, ShortSection, build_section

START = 1_800_000_000.0
EMM_PID = 0x500
BITS = PACKET_SIZE * 8


def emm(number: int, size: int = 100) -> bytes:
    return build_section(ShortSection(0x82, number.to_bytes(4, "big").rjust(size - 3, b"\x11")))


def ecm(at: float) -> bytes:
    return build_section(ShortSection(0x80, int(at).to_bytes(4, "big") * 10))


def plan(packing: Packing = Packing.PACKED, rate_bps: int = 1_000_000) -> StreamPlan:
    service = PlannedService(service_id=101, pmt_pid=0x100, ecm_pid=0x101, component_pid=0x102, ecm=ecm)
    return StreamPlan(0x4ADC, EMM_PID, transport_stream_id=7, rate_bps=rate_bps, services=(service,), packing=packing)


def by_pid(stream: bytes) -> dict[int, list[tuple[int, TsPacket]]]:
    """Packets of each PID with their place in the stream; every packet is checked to be one."""
    found: dict[int, list[tuple[int, TsPacket]]] = defaultdict(list)
    for place, raw in enumerate(split_packets(stream)):
        found[packet_pid(raw)].append((place, parse_packet(raw)))
    return found


def sections(stream: bytes, pid: int) -> list[bytes]:
    assembler = SectionAssembler()
    found = [section for _, packet in by_pid(stream)[pid] for section in assembler.push(packet)]
    assert not assembler.damage
    return found


@pytest.mark.slow
@given(st.lists(st.floats(0.001, 0.5), max_size=30))
@settings(max_examples=30, deadline=None)
def test_the_rate_is_constant_however_often_it_is_asked_for(steps: list[float]) -> None:
    composer, now, length = StreamComposer(plan(), START), START, 0
    for step in steps:
        now += step
        length += len(composer.compose(now))
        assert length == int((now - START) * 1_000_000 / BITS) * PACKET_SIZE


@pytest.mark.slow
def test_tables_and_ecms_come_in_time_also_when_emms_are_waiting() -> None:
    composer, now, stream = StreamComposer(plan(), START), START, b""
    for step in range(300):
        composer.put_sections(emm(number) for number in range(step * 20, step * 20 + 20))
        now += 0.01
        stream += composer.compose(now)
    packets = by_pid(stream)
    for pid, interval_s in {PAT_PID: 0.5, CAT_PID: 0.5, 0x100: 0.5, 0x101: 0.11}.items():
        places = [place for place, _ in packets[pid]]
        assert places[0] < 4
        assert max(after - before for before, after in pairwise(places)) * BITS / 1_000_000 <= interval_s


def test_the_tables_lead_to_the_emms_and_ecms() -> None:
    composer = StreamComposer(plan(), START)
    stream = composer.compose(START + 0.5)
    assert parse_pat(sections(stream, PAT_PID)[0]).programs == ((101, 0x100),)
    assert parse_pat(sections(stream, PAT_PID)[0]).transport_stream_id == 7
    assert parse_cat(sections(stream, CAT_PID)[0]).descriptors == (CaDescriptor(0x4ADC, EMM_PID),)
    assert parse_pmt(sections(stream, 0x100)[0]).descriptors == (CaDescriptor(0x4ADC, 0x101),)
    assert set(sections(stream, 0x101)) == {ecm(START)}


def test_ecms_change_with_time_and_are_left_out_while_there_are_none() -> None:
    def late(at: float) -> bytes | None:
        return ecm(at) if at >= START + 1 else None

    service = PlannedService(101, 0x100, 0x101, 0x102, late)
    composer = StreamComposer(StreamPlan(1, EMM_PID, services=(service,)), START)
    assert 0x101 not in by_pid(composer.compose(START + 0.99))
    stream = composer.compose(START + 1.9) + composer.compose(START + 2.8)
    assert list(dict.fromkeys(sections(stream, 0x101))) == [ecm(START + 1), ecm(START + 2)]


@pytest.mark.parametrize("packing", Packing)
def test_every_emm_comes_out_whole_and_in_order(packing: Packing) -> None:
    composer, now, stream = StreamComposer(plan(packing), START), START, b""
    sent = [emm(number, 17 + number % 240) for number in range(600)]
    for first in range(0, 600, 10):
        assert composer.put_sections(sent[first : first + 10]) == 0
        now += 0.03
        stream += composer.compose(now)
    stream += composer.compose(now + 0.5)
    assert sections(stream, EMM_PID) == sent
    assert composer.counts.emm_datagrams == 600
    assert composer.counts.null_packets == len(by_pid(stream)[0x1FFF])


def test_per_section_the_packets_of_an_emm_follow_one_another() -> None:
    composer, now, stream = StreamComposer(plan(Packing.PER_SECTION), START), START, b""
    composer.emm_rate_bps = 200_000
    for step in range(200):
        composer.put_sections([emm(step, 184 + step % 72)])
        now += 0.017
        stream += composer.compose(now)
    packets = by_pid(stream)[EMM_PID]
    assert len(packets) > 300
    assert all(place == before + 1 for (before, _), (place, one) in pairwise(packets) if not one.payload_unit_start)


@pytest.mark.parametrize("packing", Packing)
def test_a_grant_that_is_withdrawn_in_the_middle_of_an_emm_stops_nothing_else(packing: Packing) -> None:
    composer = StreamComposer(plan(packing), START)
    composer.compose(START + 0.1)
    composer.put_sections([emm(1, 250), emm(2, 250)])
    composer.emm_rate_bps = 20_000
    first = composer.compose(START + 0.101)
    assert len(by_pid(first)[EMM_PID]) == 1
    composer.emm_rate_bps = 0
    pause = composer.compose(START + 1)
    assert len(sections(pause, CAT_PID)) >= 4
    composer.emm_rate_bps = 20_000
    assert sections(first + pause + composer.compose(START + 1.9), EMM_PID) == [emm(1, 250), emm(2, 250)]


def test_an_emm_does_not_wait_for_company() -> None:
    composer = StreamComposer(plan(), START)
    composer.compose(START + 1)
    composer.put_sections([emm(1, 40)])
    assert sections(composer.compose(START + 1.01), EMM_PID) == [emm(1, 40)]


@pytest.mark.slow
@pytest.mark.parametrize("granted_bps", [50_000, 300_000])
def test_emms_never_exceed_what_was_granted_in_any_second(granted_bps: int) -> None:
    composer, now, stream = StreamComposer(plan(), START), START, b""
    composer.emm_rate_bps = granted_bps
    for step in range(500):
        if not 200 < step < 300:
            composer.put_sections(emm(number) for number in range(step * 9, step * 9 + 9))
        now += 0.01
        stream += composer.compose(now)
    places = [place for place, _ in by_pid(stream)[EMM_PID]]
    second = 1_000_000 / BITS
    busiest = max(sum(1 for other in places if place <= other < place + second) for place in places)
    # One packet of grace: a second may begin right with a packet and end right with another.
    assert (busiest - 1) * BITS <= granted_bps
    assert len(places) * BITS >= granted_bps * 0.9 * 4


def test_nothing_goes_out_before_something_is_granted() -> None:
    composer = StreamComposer(plan(), START)
    composer.emm_rate_bps = 0
    composer.put_sections([emm(1)])
    assert EMM_PID not in by_pid(composer.compose(START + 1))
    composer.emm_rate_bps = 100_000
    assert sections(composer.compose(START + 2), EMM_PID) == [emm(1)]


def test_what_exceeds_the_queue_is_dropped_and_counted() -> None:
    composer = StreamComposer(plan(), START)
    composer.emm_rate_bps = 10_000
    dropped = composer.put_sections([emm(number, 256) for number in range(100)])
    assert dropped == 36
    assert composer.counts.emm_datagrams_dropped == 36
    assert composer.queued_bytes == 64 * 256
    composer.purge()
    assert composer.queued_bytes == 0
    assert EMM_PID not in by_pid(composer.compose(START + 1))


def test_packets_of_the_emmg_get_the_pid_and_the_counter_of_the_stream() -> None:
    composer = StreamComposer(plan(), START)
    composer.put_sections([emm(1), emm(2)])
    packer = SectionPacketizer(0x1ABC, continuity_counter=9)
    packets = [packet for number in range(3, 40) for packet in packer.push(emm(number))] + packer.flush()
    bare = build_packet(TsPacket(0x1ABC, b"", adaptation=bytes(183)))
    composer.put_packets([*packets[:5], bare, *packets[5:]])
    composer.put_sections([emm(40)])
    assert sections(composer.compose(START + 0.9), EMM_PID) == [emm(number) for number in range(1, 41)]


def test_a_stream_that_was_held_up_skips_and_does_not_flood() -> None:
    composer = StreamComposer(plan(), START)
    assert len(composer.compose(START + 3600)) == 664 * PACKET_SIZE
    assert composer.counts.slots_skipped == int(3600 * 1_000_000 / BITS) - 664
    assert composer.compose(START + 3600) == b""
    assert composer.compose(START + 3000) == b""


def test_an_idle_stream_is_filled_with_null_packets() -> None:
    stream = StreamComposer(StreamPlan(1, EMM_PID, rate_bps=100_000), START).compose(START + 1)
    assert stream.count(NULL_PACKET) >= len(stream) // PACKET_SIZE - 12


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"emm_pid": 1}, "PID 0x1 is not free"),
        ({"emm_pid": 0x1FFF}, "PID 0x1fff is not free"),
        ({"emm_pid": 0x101}, "the same PID"),
        ({"rate_bps": 50_000}, "too little: tables and ECMs alone take 37600 bit/s"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(changes: dict[str, int], what: str) -> None:
    fields = {"ca_system_id": 1, "emm_pid": EMM_PID, "services": plan().services} | changes
    with pytest.raises(StreamPlanError, match=what):
        StreamPlan(**fields)
