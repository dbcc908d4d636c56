"""The test tools' own reading of transport streams, against the headend's: two hands wrote the same standard."""

import pytest

from protocol.mpegts.packet import Packing, SectionPacketizer
from protocol.mpegts.psi import (
    CaDescriptor,
    ConditionalAccess,
    ElementaryStream,
    OtherDescriptor,
    ProgramAssociation,
    ProgramMap,
    build_cat,
    build_pat,
    build_pmt,
    parse_cat,
    parse_pmt,
)
from protocol.mpegts.section import ShortSection, build_section
from tests.tools.tv import packets as tv

CA = 0x4AD1
PMT = ProgramMap(
    101,
    (ElementaryStream(2, 0x101, (OtherDescriptor(0x52, b"\x01"),)), ElementaryStream(3, 0x102)),
    (OtherDescriptor(0x05, b"HDMV"),),
    pcr_pid=0x101,
    version_number=31,
)


def test_tables_are_read_as_the_headend_writes_them() -> None:
    assert tv.programs(build_pat(ProgramAssociation(1, ((0, 0x10), (101, 0x100), (102, 0x200))))) == {
        101: 0x100,
        102: 0x200,
    }
    cat = ConditionalAccess((OtherDescriptor(0x10, b"x"), CaDescriptor(CA, 0x1FF1), CaDescriptor(CA + 1, 0x500, b"p")))
    assert tv.ca_pids(build_cat(cat)) == {CA: 0x1FF1, CA + 1: 0x500}
    assert tv.service_of(build_pmt(PMT)) == tv.Service(101, 0x101, {0x101: 2, 0x102: 3}, {})


def test_a_descriptor_is_added_to_the_next_version_of_a_pmt() -> None:
    added = parse_pmt(tv.with_ca_descriptor(build_pmt(PMT), tv.ca_descriptor(CA, 0x1FF0)))
    assert added.descriptors == (*PMT.descriptors, CaDescriptor(CA, 0x1FF0))
    assert added.streams == PMT.streams
    assert added.version_number == 0
    assert added.pcr_pid == PMT.pcr_pid


def test_a_cat_of_ours_is_read_by_the_headend() -> None:
    cat = parse_cat(tv.cat_section(tv.ca_descriptor(CA, 0x1FF1)))
    assert cat.descriptors == (CaDescriptor(CA, 0x1FF1),)


@pytest.mark.parametrize("damage", range(0, 25, 3))
def test_a_damaged_table_says_nothing(damage: int) -> None:
    section = bytearray(build_pmt(PMT))
    section[damage] ^= 4
    assert tv.service_of(bytes(section)) is None


@pytest.mark.parametrize("packing", Packing)
def test_sections_come_back_out_of_packets(packing: Packing) -> None:
    sent = [build_section(ShortSection(0x82, bytes([number]) * size)) for number, size in enumerate(range(14, 253, 9))]
    packetizer = SectionPacketizer(0x500, packing)
    packets = [packet for section in sent for packet in packetizer.push(section)] + packetizer.flush()
    collector = tv.Sections()
    assert [section for packet in packets for section in collector.push(packet)] == sent


def test_after_a_lost_packet_the_next_section_is_whole() -> None:
    sent = [bytes([0x82, 0x70, 250]) + bytes([number]) * 250 for number in range(3)]
    make = tv.SectionPackets(0x500)
    packets = [packet for section in sent for packet in make(section)]
    collector = tv.Sections()
    heard = [section for packet in packets[:1] + packets[2:] for section in collector.push(packet)]
    assert heard == sent[1:]


def test_sections_are_put_into_packets_as_the_headend_does() -> None:
    section = build_section(ShortSection(0x80, bytes(200)))
    theirs = SectionPacketizer(0x1FF0, Packing.PER_SECTION, 15).push(section)
    assert tv.SectionPackets(0x1FF0, 15)(section) == theirs


def test_where_a_payload_begins() -> None:
    def packet(control: int, length: int) -> bytes:
        return (b"\x47\x01\x01" + bytes([control << 4, length])).ljust(188, b"\0")

    assert tv.payload_at(packet(1, 99)) == 4
    assert tv.payload_at(packet(3, 0)) == 5
    assert tv.payload_at(packet(3, 182)) == 187
    assert tv.payload_at(packet(2, 183)) == 188
    assert tv.payload_at(packet(0, 0)) == 188
