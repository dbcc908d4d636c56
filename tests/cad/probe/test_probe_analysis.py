"""The probe finds its way from tables to EMMs and ECMs, measures them, and survives any bytes."""

import contextlib
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.probe.alarms import Limits, judge
from cad.probe.analysis import SERVICES_MAX, StreamProbe
from cad.probe.report import document
from cad.probe.sections import read_emm
from emm.errors import EmmError
from emm.message import EmmKind, parse_emm
from emm.notices.content import Message, build_content
from emm.notices.seal import NoticeSealer
from protocol.mpegts.packet import CAT_PID, NULL_PACKET, PACKET_SIZE, PAT_PID, Packing, SectionPacketizer
from protocol.mpegts.psi import (
    CaDescriptor,
    ConditionalAccess,
    ElementaryStream,
    ProgramAssociation,
    ProgramMap,
    build_cat,
    build_pat,
    build_pmt,
)
from protocol.mpegts.section import LongSection, build_section
from tests.support.mpegts_strategies import any_short_sections, cut_lists, pieces
from tests.support.probe_streams import CA, ECM_PID, EMM_PID, LADDER, RATE_BPS, SERVICE_ID, Air, ecm, emm, recording


def packets(pid: int, *sections: bytes) -> bytes:
    packer = SectionPacketizer(pid, Packing.PER_SECTION)
    return b"".join(packet for section in sections for packet in packer.push(section))


@pytest.mark.slow
def test_what_a_stream_carries_is_what_the_probe_says() -> None:
    air = Air(services=2)
    cards = [emm(number % 200, size=20 + number % 200) for number in range(4000)]
    groups = [emm(number % 5, kind=EmmKind.GROUP) for number in range(100)]
    to_all = [emm(0, kind=EmmKind.GLOBAL) for _ in range(25)]
    everything = cards + groups + to_all
    random.Random(1).shuffle(everything)
    air.pass_time(50, everything)
    air.pass_time(1)
    found = air.report()
    assert found.ca_system_id == CA
    assert found.cat.emm_pid == EMM_PID
    assert found.cat.right
    assert found.cat.mean_gap_s == pytest.approx(0.2, abs=0.01)
    assert found.stream.rate_bps == pytest.approx(RATE_BPS, rel=0.02)
    assert found.stream.lost == {}
    assert found.emm.sections == len(everything)
    assert (found.emm.unique.addresses, found.emm.group.addresses, found.emm.to_all.addresses) == (200, 5, 1)
    assert found.emm.unique.mean_spacing_s == pytest.approx(50 / 20, rel=0.1)
    assert found.emm.group.mean_spacing_s == pytest.approx(50 / 20, rel=0.2)
    assert found.emm.periods == [4000]
    assert (found.emm.unique.share_30_min, found.emm.unique.share_60_min) == (None, None), "not listened for so long"
    assert [service.service_id for service in found.services] == [SERVICE_ID, SERVICE_ID + 1]
    first = found.services[0]
    assert (first.ecm_pid, first.epoch, first.product_ids) == (ECM_PID, 3, [1, 2])
    assert first.ecm_mean_gap_s == pytest.approx(0.1, abs=0.01)
    assert first.period_s == pytest.approx(10, abs=0.2)
    assert first.period_mean_s == pytest.approx(10, abs=0.2)
    # The second service has the ECMs of the first here.
    assert found.services[1].named_otherwise
    assert not first.named_otherwise


def test_notices_are_counted_apart_and_are_no_version_that_falls() -> None:
    air = Air()
    sealer, content = NoticeSealer(LADDER), build_content(Message(False, 0, 1, (("en", "hello"),)))
    notices = [
        *sealer.to_card(7, 1, 9, content),
        *sealer.to_card(7, 1, 8, content),
        *sealer.to_members(0, [7], 1, 7, content),
    ]
    air.pass_time(5, [emm(7), *notices, *sealer.to_ranges([(0, 9)], 1, 6, content)[0], emm(7)])
    air.pass_time(1)
    found = air.report().emm
    assert (found.sections, found.notices, found.malformed, found.versions_fell) == (6, 4, {}, 0)
    assert (found.unique.addresses, found.group.addresses, found.to_all.addresses) == (1, 0, 0)
    assert found.periods == [4000]


@pytest.mark.slow
def test_the_cycle_that_is_seen_is_the_cycle_that_was_sent() -> None:
    air = Air()
    for _ in range(6):
        air.pass_time(7, [emm(address) for address in range(100)])
    found = air.report().emm.unique
    assert found.cycle_s == pytest.approx(7, abs=0.2)
    assert found.median_spacing_s == pytest.approx(7, abs=0.2)
    assert found.max_spacing_s is not None
    assert found.max_spacing_s < 7.3


def test_shares_of_cards_heard() -> None:
    air = Air()
    probe = air.probe
    for address in range(100):
        probe.emm.take(emm(address), air.now)
    for address in range(40):
        probe.emm.take(emm(address), air.now + 1500)
    probe.tick(air.now + 3000)
    half = document(probe, "test").emm.unique
    assert (half.heard_30_min, half.share_30_min, half.heard_60_min, half.share_60_min) == (40, 0.4, 100, None)
    probe.tick(air.now + 3700)
    late = document(probe, "test").emm.unique
    assert (late.share_30_min, late.share_60_min) == (0.0, 0.4)
    assert late.silent_longest_s == pytest.approx(3700, abs=1)


def test_the_first_ca_system_is_taken_when_none_is_named() -> None:
    air = Air()
    air.probe = StreamProbe(None)
    air.pass_time(2, [emm(1)])
    found = air.report()
    assert (found.ca_system_id, found.cat.emm_pid, found.emm.sections) == (CA, EMM_PID, 1)
    assert found.services[0].ecm_pid == ECM_PID


def test_a_table_in_several_sections() -> None:
    entries = [(0x100, CaDescriptor(0x1000, 0x30)), (0x101, CaDescriptor(CA, EMM_PID))]
    cats = [
        build_cat(ConditionalAccess((entry,), version_number=3, section_number=number, last_section_number=1))
        for number, (_, entry) in enumerate(entries)
    ]
    pats = [
        build_pat(ProgramAssociation(1, ((number, 0x200 + number),), section_number=number - 1, last_section_number=1))
        for number in (1, 2)
    ]
    probe = StreamProbe(CA)
    for second in range(5):
        probe.feed(packets(CAT_PID, *cats) + packets(PAT_PID, *pats), second / 4)
    found = document(probe, "test")
    assert found.cat.emm_pid == EMM_PID
    assert (found.cat.count, found.pat_count) == (5, 5)
    assert found.cat.changes == 0
    assert [service.service_id for service in found.services] == [1, 2]


def test_tables_that_change_are_followed() -> None:
    probe = StreamProbe(CA)
    for number, pid in enumerate((EMM_PID, EMM_PID + 1)):
        cat = build_cat(ConditionalAccess((CaDescriptor(CA, pid),), version_number=number))
        pat = build_pat(ProgramAssociation(1, ((SERVICE_ID + number, 0x100),)))
        descriptor = CaDescriptor(CA, ECM_PID + number)
        pmt = build_pmt(ProgramMap(SERVICE_ID + number, (ElementaryStream(2, 0x110, (descriptor,)),)))
        probe.feed(packets(CAT_PID, cat) + packets(PAT_PID, pat), number)
        probe.feed(packets(0x100, pmt), number)
        probe.feed(packets(pid, emm(number)) + packets(ECM_PID + number, ecm(1, SERVICE_ID + number)), number + 0.1)
    found = document(probe, "test")
    assert (found.cat.emm_pid, found.cat.changes, found.emm.unique.addresses) == (EMM_PID + 1, 1, 2)
    assert [(one.service_id, one.ecm_pid, one.ecm_count) for one in found.services] == [
        (SERVICE_ID + 1, ECM_PID + 1, 1)
    ]


@pytest.mark.slow
def test_a_pat_of_a_thousand_services_stays_bounded() -> None:
    probe = StreamProbe(CA)
    for number in range(8):
        programs = tuple((1 + number * 200 + each, 0x20 + each) for each in range(200))
        pat = build_pat(ProgramAssociation(1, programs, section_number=number, last_section_number=7))
        probe.feed(packets(PAT_PID, pat), 0.1 * number)
    assert len(probe.services) == SERVICES_MAX


headed = st.builds(
    emm,
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
    kind=st.sampled_from([EmmKind.UNIQUE, EmmKind.GROUP]),
    part=st.integers(0, 7),
    last_part=st.integers(7, 15),
    size=st.integers(2, 200),
)


@pytest.mark.slow
@given(headed | any_short_sections | st.binary(max_size=300), st.integers(0, 300), st.integers(0, 255))
@settings(max_examples=300)
def test_emms_are_read_as_the_codec_reads_them(section: bytes, place: int, value: int) -> None:
    for each in (section, section[:place] + bytes([value]) + section[place + 1 :], section[:place]):
        expected = None
        with contextlib.suppress(EmmError):
            header = parse_emm(each).header
            version = header.version
            expected = (header.kind, header.address, header.part, header.last_part, version.period, version.revision)
        found = None
        with contextlib.suppress(EmmError):
            found = read_emm(each)
        assert found == expected


GOOD = recording(2, [emm(number) for number in range(100)])


@pytest.mark.slow
@given(
    damage=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=60)), max_size=20),
    cuts=cut_lists,
    noise=st.binary(max_size=600),
    times=st.lists(st.floats(-10, 10_000), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_damaged_streams_give_a_report_and_no_error(
    damage: list[tuple[int, bytes]], cuts: list[int], noise: bytes, times: list[float]
) -> None:
    data = bytearray(GOOD)
    for place, put in damage:
        data[place : place + len(put)] = put
    probe = StreamProbe(CA)
    for number, piece in enumerate(pieces(bytes(data) + noise, cuts)):
        probe.feed(piece, times[number % len(times)])
    found = document(probe, "test")
    judge(found, Limits())
    assert probe.packets * PACKET_SIZE <= len(data) + len(noise)


tables = st.builds(
    lambda table_id, extension, numbers, body: build_section(
        LongSection(table_id, extension, 0, body, True, *sorted(numbers))
    ),
    st.integers(0, 3),
    st.integers(0, 0xFFFF),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
    st.binary(max_size=200),
)
ca_entries = st.lists(
    st.builds(CaDescriptor, st.sampled_from([CA, 1]), st.integers(0, 0x1FFF)), min_size=1, max_size=5
).map(lambda entries: build_cat(ConditionalAccess(tuple(entries))))
programs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 0x30)), max_size=9).map(
    lambda listed: build_pat(ProgramAssociation(1, tuple(listed)))
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 0x30), tables | ca_entries | programs | headed), max_size=40))
@settings(max_examples=80, deadline=None)
def test_tables_that_lead_anywhere_give_a_report_and_no_error(sent: list[tuple[int, bytes]]) -> None:
    probe = StreamProbe(None)
    for number, (pid, section) in enumerate(sent):
        probe.feed(packets(pid, section), number / 10)
    found = document(probe, "test", wall=1e9)
    judge(found, Limits())
    assert len(found.model_dump_json()) < 100_000
    assert len(probe._assemblers) <= 3 + 2 * SERVICES_MAX


@pytest.mark.slow
def test_reasons_that_a_hostile_stream_makes_up_stay_few() -> None:
    probe = Air().probe
    source = random.Random(5)
    for number in range(3000):
        size = source.randint(1, 250)
        probe.emm.take(b"\x82" + source.randbytes(size), number / 100)
    found = document(probe, "test")
    assert sum(found.emm.malformed.values()) == 3000
    assert len(found.emm.malformed) <= 41


@pytest.mark.slow
def test_lost_packets_are_counted_once() -> None:
    data = recording(4, [emm(number, size=200) for number in range(150)])
    probe = StreamProbe(CA)
    raw = [data[at : at + PACKET_SIZE] for at in range(0, len(data), PACKET_SIZE)]
    del raw[1000:1010]
    for number, packet in enumerate(raw):
        probe.feed(packet if number != 2000 else packet + b"garbage", number * 0.0015)
    probe.settle()
    found = document(probe, "test")
    assert found.stream.lost["bytes between packets"] == 7
    assert found.stream.losses_recent >= 1
    again = document(probe, "test").stream.losses_recent
    assert again == found.stream.losses_recent


def test_time_that_steps_back_counts_as_standing() -> None:
    probe = StreamProbe(CA)
    seen = []
    for at in (5.0, 7.0, 3.0, 8.0):
        probe.feed(NULL_PACKET * 2, at)
        seen.append(probe.now)
    assert all(before <= after for before, after in pairwise(seen))
    assert document(probe, "test").listened_s == 3.0
