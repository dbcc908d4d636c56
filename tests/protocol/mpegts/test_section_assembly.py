"""Sections into packets and out again: any packing, any loss, any damage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.packet import PACKET_SIZE, Packing, SectionPacketizer, TsPacket, build_packet, parse_packet
from protocol.mpegts.section import Damage, SectionAssembler, ShortSection, build_section, parse_section, section_size
from tests.support.mpegts_strategies import any_short_sections, ca_sections

PID = 0x500
packings = st.sampled_from(Packing)
flushes = st.lists(st.booleans(), max_size=40)


def packetize(sections: list[bytes], packing: Packing = Packing.PACKED, counter: int = 0) -> list[bytes]:
    packer = SectionPacketizer(PID, packing, counter)
    return [packet for section in sections for packet in packer.push(section)] + packer.flush()


def assemble(packets: list[bytes], assembler: SectionAssembler | None = None) -> list[bytes]:
    assembler = assembler or SectionAssembler()
    return [section for packet in packets for section in assembler.push(parse_packet(packet))]


def emm(size: int, fill: int = 1) -> bytes:
    return build_section(ShortSection(0x82, bytes([fill]) * (size - 3)))


@pytest.mark.slow
@given(st.lists(any_short_sections, max_size=12), packings, st.integers(0, 15))
@settings(max_examples=60)
def test_sections_come_out_as_they_went_in(sections: list[bytes], packing: Packing, counter: int) -> None:
    assembler = SectionAssembler()
    assert assemble(packetize(sections, packing, counter), assembler) == sections
    assert not assembler.damage


@pytest.mark.slow
@given(st.lists(st.tuples(ca_sections, st.booleans()), max_size=30))
@settings(max_examples=60)
def test_flushing_at_any_time_loses_nothing(script: list[tuple[bytes, bool]]) -> None:
    packer, packets = SectionPacketizer(PID), []
    for section, flush in script:
        packets += packer.push(section)
        if flush:
            packets += packer.flush()
            assert packer.pending == 0
    assert assemble(packets + packer.flush()) == [section for section, _ in script]


@pytest.mark.slow
@given(st.lists(any_short_sections, min_size=1, max_size=12), packings)
@settings(max_examples=40)
def test_each_packet_is_whole_and_counts_on(sections: list[bytes], packing: Packing) -> None:
    packets = packetize(sections, packing, counter=14)
    parsed = [parse_packet(packet) for packet in packets]
    assert [packet.continuity_counter for packet in parsed] == [(14 + n) % 16 for n in range(len(packets))]
    assert {packet.pid for packet in parsed} == {PID}
    assert [build_packet(packet) for packet in parsed] == packets


def test_back_to_back_sections_share_packets() -> None:
    # 184 bytes of payload, one of them pointer_field where a section begins; a last one or two where no header fits.
    assert len(packetize([emm(61)] * 3)) == 1
    assert 128 <= len(packetize([emm(128)] * 183)) <= 129
    assert len(packetize([emm(128)] * 183, Packing.PER_SECTION)) == 183


@pytest.mark.parametrize("size", range(178, 184))
def test_a_section_header_is_never_split(size: int) -> None:
    first, second = (parse_packet(packet) for packet in packetize([emm(size), emm(40)]))
    begins_in_first = size + 3 <= 183
    assert (emm(40)[:3] in first.payload) == begins_in_first
    assert second.payload_unit_start != begins_in_first


def test_per_section_each_begins_a_packet_of_its_own() -> None:
    packets = [parse_packet(packet) for packet in packetize([emm(100), emm(200), emm(17)], Packing.PER_SECTION)]
    assert [packet.payload_unit_start for packet in packets] == [True, True, False, True]
    assert all(packet.payload[0] == 0 for packet in packets if packet.payload_unit_start)


@pytest.mark.parametrize("size", [183, 184, 185, 367, 368, 369])
def test_per_section_never_leaves_a_single_byte_over(size: int) -> None:
    packets = [parse_packet(packet) for packet in packetize([emm(size)], Packing.PER_SECTION)]
    assert len(packets) == 1 + -(-max(size - 183, 0) // 184)
    carried = sum(len(packet.payload) for packet in packets[:-1]) - (len(packets) > 1)
    assert size - carried != 1


def test_a_pid_that_cannot_carry_sections_is_refused() -> None:
    for pid in (-1, 0x1FFF, 0x2000):
        with pytest.raises(EncodeError, match="cannot carry sections"):
            SectionPacketizer(pid)
    with pytest.raises(EncodeError, match="at least 3 bytes"):
        SectionPacketizer(PID).push(b"\x82\x70")


@given(st.lists(ca_sections, min_size=3, max_size=20), st.data())
def test_a_lost_packet_costs_only_what_was_in_it(sections: list[bytes], data: st.DataObject) -> None:
    packets = packetize(sections)
    lost = data.draw(st.integers(0, len(packets) - 1))
    assembler = SectionAssembler()
    found = assemble(packets[:lost] + packets[lost + 1 :], assembler)
    before = assemble(packets[:lost])
    assert found[: len(before)] == before
    rest = found[len(before) :]
    assert rest == (sections[-len(rest) :] if rest else [])
    # A packet holds at most the ends of two sections and the whole ones between them.
    assert len(sections) - len(found) <= 184 // 3
    if 0 < lost < len(packets) - 1:
        assert assembler.damage[Damage.DISCONTINUITY] == 1


@given(st.lists(ca_sections, min_size=1, max_size=8), packings, st.data())
def test_a_repeated_packet_changes_nothing(sections: list[bytes], packing: Packing, data: st.DataObject) -> None:
    packets = packetize(sections, packing)
    at = data.draw(st.integers(0, len(packets) - 1))
    assembler = SectionAssembler()
    assert assemble([*packets[: at + 1], *packets[at:]], assembler) == sections
    assert assembler.damage == {Damage.DUPLICATE: 1}


@pytest.mark.slow
@given(st.lists(ca_sections, min_size=1, max_size=8), packings, st.data())
@settings(max_examples=200)
def test_a_single_wrong_bit_never_raises_and_is_soon_forgotten(
    sections: list[bytes], packing: Packing, data: st.DataObject
) -> None:
    stream = bytearray(b"".join(packetize(sections, packing)))
    position = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[position // 8] ^= 0x80 >> position % 8
    assembler = SectionAssembler()
    for start in range(0, len(stream), PACKET_SIZE):
        try:
            packet = parse_packet(bytes(stream[start : start + PACKET_SIZE]))
        except DecodeError:
            continue
        if packet.pid == PID:
            assembler.push(packet)
    after = [emm(100), emm(256)]
    counter = len(stream) // PACKET_SIZE & 0x0F
    assert assemble(packetize(after, Packing.PER_SECTION, counter), assembler)[-2:] == after


packets_of_anything = st.builds(
    TsPacket,
    pid=st.just(PID),
    payload=st.binary(min_size=184, max_size=184) | st.binary(max_size=3).map(lambda head: head.ljust(184, b"\x82")),
    continuity_counter=st.integers(0, 15),
    payload_unit_start=st.booleans(),
    transport_error=st.sampled_from([False, False, False, True]),
    scrambling_control=st.sampled_from([0, 0, 0, 2]),
) | st.builds(TsPacket, pid=st.just(PID), payload=st.just(b""), adaptation=st.binary(min_size=183, max_size=183))


@given(st.lists(packets_of_anything, max_size=30), st.booleans())
def test_any_packets_at_all_give_only_whole_sections(packets: list[TsPacket], in_order: bool) -> None:
    assembler = SectionAssembler()
    for number, packet in enumerate(packets):
        if in_order and packet.payload:
            packet = TsPacket(PID, packet.payload, number & 15, packet.payload_unit_start)
        for section in assembler.push(packet):
            assert len(section) == section_size(section) <= 4096


def push_payloads(*payloads: tuple[bool, bytes]) -> tuple[list[bytes], SectionAssembler]:
    assembler = SectionAssembler()
    found: list[bytes] = []
    for counter, (start, payload) in enumerate(payloads):
        found += assembler.push(TsPacket(PID, payload.ljust(184, b"\xff")[:184], counter, start))
    return found, assembler


def test_every_kind_of_damage_is_told_apart() -> None:
    good = b"\0" + emm(20)
    for damage, payloads in {
        Damage.POINTER: [(True, b"\xb7" + bytes(183)), (True, good)],
        Damage.CUT_SHORT: [(True, b"\0" + emm(200)), (True, good)],
        Damage.LENGTH: [(True, b"\0\x82\x7f\xff"), (True, good)],
        Damage.NO_START: [(True, b"\0" + emm(200)), (False, emm(200)[183:] + emm(20)), (True, good)],
    }.items():
        found, assembler = push_payloads(*payloads)
        assert found[-1] == emm(20), damage
        assert assembler.damage == {damage: 1}


def test_an_announced_discontinuity_is_no_damage() -> None:
    assembler = SectionAssembler()
    assembler.push(TsPacket(PID, (b"\0" + emm(20)).ljust(184, b"\xff"), 3, payload_unit_start=True))
    jump = TsPacket(PID, (b"\0" + emm(30)).ljust(182, b"\xff"), 9, payload_unit_start=True, adaptation=b"\x80")
    assert assembler.push(jump) == [emm(30)]
    assert not assembler.damage


def test_scrambled_and_damaged_packets_are_passed_over() -> None:
    packets = [parse_packet(packet) for packet in packetize([emm(200), emm(40)], Packing.PER_SECTION)]
    for change, damage in (
        ({"transport_error": True}, Damage.TRANSPORT_ERROR),
        ({"scrambling_control": 2}, Damage.SCRAMBLED),
    ):
        assembler = SectionAssembler()
        fields = {"pid": PID, "payload": packets[1].payload, "continuity_counter": 1} | change
        found = [*assembler.push(packets[0]), *assembler.push(TsPacket(**fields)), *assembler.push(packets[2])]
        assert found == [emm(40)]
        assert assembler.damage[damage] == 1


def test_the_longest_section_passes_and_a_limit_can_be_set() -> None:
    longest = build_section(ShortSection(0x90, bytes(4093)))
    assert assemble(packetize([longest])) == [longest]
    assembler = SectionAssembler(section_max=256)
    assert assemble(packetize([longest, emm(256)], Packing.PER_SECTION), assembler) == [emm(256)]
    assert parse_section(longest) == ShortSection(0x90, bytes(4093))
