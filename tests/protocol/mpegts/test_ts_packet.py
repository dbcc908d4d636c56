"""Transport packets: fields, there and back, and finding packets in a stream of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.mpegts.packet import (
    HEADER,
    NULL_PACKET,
    NULL_PID,
    PACKET_SIZE,
    PacketSync,
    TsPacket,
    build_packet,
    packet_pid,
    parse_packet,
    restamp,
    split_packets,
)
from tests.support.mpegts_strategies import cut_lists, pieces


@st.composite
def ts_packets(draw: st.DrawFn) -> TsPacket:
    adaptation = draw(st.none() | st.binary(max_size=182) | st.binary(min_size=183, max_size=183))
    room = 184 - (0 if adaptation is None else 1 + len(adaptation))
    return TsPacket(
        pid=draw(st.integers(0, 0x1FFF)),
        payload=draw(st.binary(min_size=room, max_size=room)),
        continuity_counter=draw(st.integers(0, 15)),
        payload_unit_start=draw(st.booleans()),
        transport_error=draw(st.booleans()),
        transport_priority=draw(st.booleans()),
        scrambling_control=draw(st.integers(0, 3)),
        adaptation=adaptation,
    )


@given(ts_packets())
def test_what_is_built_is_read_back(packet: TsPacket) -> None:
    raw = build_packet(packet)
    assert len(raw) == PACKET_SIZE
    assert parse_packet(raw) == packet


@given(ts_packets().map(build_packet))
def test_the_quick_reading_says_what_the_declaration_says(raw: bytes) -> None:
    packet, header = parse_packet(raw), HEADER.parse(raw[:4])
    assert packet.pid == packet_pid(raw) == header.pid
    assert packet.continuity_counter == header.continuity_counter
    assert packet.payload_unit_start == header.payload_unit_start_indicator
    assert packet.transport_error == header.transport_error_indicator
    assert packet.transport_priority == header.transport_priority
    assert packet.scrambling_control == header.transport_scrambling_control
    assert (bool(packet.payload), packet.adaptation is not None) == (
        bool(header.adaptation_field_control & 1),
        bool(header.adaptation_field_control & 2),
    )


@given(st.binary(max_size=200) | st.binary(min_size=187, max_size=187).map(lambda rest: b"\x47" + rest))
def test_arbitrary_bytes_give_a_packet_or_a_decode_error(raw: bytes) -> None:
    try:
        packet = parse_packet(raw)
    except DecodeError:
        return
    assert build_packet(packet) == raw


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("46000010", "begins with 0x47, not 0x46"),
        ("47000000", "adaptation_field_control 0 is reserved"),
        ("4700003000", None),
        ("47000030b6", None),
        ("47000030b7", "cannot have 183 bytes"),
        ("47000020b7", None),
        ("47000020b6", "cannot have 182 bytes"),
    ],
)
def test_headers_that_contradict_themselves(header: str, what: str | None) -> None:
    raw = bytes.fromhex(header).ljust(PACKET_SIZE, b"\xff")
    if what is None:
        assert build_packet(parse_packet(raw)) == raw
    else:
        with pytest.raises(DecodeError, match=what):
            parse_packet(raw)


@pytest.mark.parametrize(
    "packet",
    [
        TsPacket(0x2000, bytes(184)),
        TsPacket(1, bytes(183)),
        TsPacket(1, bytes(184), continuity_counter=16),
        TsPacket(1, b"", adaptation=bytes(184)),
    ],
)
def test_a_packet_that_cannot_be_is_not_built(packet: TsPacket) -> None:
    with pytest.raises(EncodeError):
        build_packet(packet)


def test_the_null_packet_is_the_one_of_the_standard() -> None:
    assert NULL_PACKET[:4] == bytes.fromhex("471fff10")
    assert parse_packet(NULL_PACKET).pid == NULL_PID


@given(ts_packets(), st.integers(0, 0x1FFF), st.integers(0, 15))
def test_restamping_changes_pid_and_counter_and_nothing_else(packet: TsPacket, pid: int, counter: int) -> None:
    before, after = build_packet(packet), parse_packet(restamp(build_packet(packet), pid, counter))
    assert (after.pid, after.continuity_counter) == (pid, counter)
    assert restamp(build_packet(after), packet.pid, packet.continuity_counter) == before


def test_a_datagram_holds_whole_packets() -> None:
    assert split_packets(NULL_PACKET * 7) == [NULL_PACKET] * 7
    assert split_packets(b"") == []
    with pytest.raises(DecodeError, match="189 bytes are not a whole number"):
        split_packets(NULL_PACKET + b"\x47")
    with pytest.raises(DecodeError, match="packet 2 of 2 does not begin with 0x47"):
        split_packets(NULL_PACKET + bytes(188))


def numbered(count: int) -> list[bytes]:
    return [build_packet(TsPacket(number % 0x1000, bytes([number & 0x3F]) * 184)) for number in range(count)]


@given(st.integers(0, 9), cut_lists)
def test_a_stream_in_any_pieces_gives_the_same_packets(count: int, cuts: list[int]) -> None:
    sync, packets = PacketSync(), numbered(count)
    found = [packet for piece in pieces(b"".join(packets), cuts) for packet in sync.feed(piece)]
    assert found + sync.finish() == packets
    assert sync.skipped == 0


@given(st.binary(max_size=400).map(lambda junk: junk.replace(b"\x47", b"G!".lower())), st.integers(2, 5), cut_lists)
def test_packets_are_found_after_garbage(junk: bytes, count: int, cuts: list[int]) -> None:
    sync, packets = PacketSync(), numbered(count)
    data = b"".join(packets) + junk + b"".join(packets)
    found = [packet for piece in pieces(data, cuts) for packet in sync.feed(piece)] + sync.finish()
    assert found[:count] == found[-count:] == packets
    assert sync.skipped + len(found) * PACKET_SIZE == len(data)


@given(st.lists(st.binary(max_size=300) | st.just(b"\x47" * 200), max_size=6))
def test_no_bytes_are_made_up_and_none_are_kept_for_ever(parts: list[bytes]) -> None:
    sync = PacketSync()
    found = [packet for part in parts for packet in sync.feed(part)] + sync.finish()
    assert all(len(packet) == PACKET_SIZE and packet[0] == 0x47 for packet in found)
    assert sync.skipped + len(found) * PACKET_SIZE == sum(map(len, parts))
    assert sync.feed(b"") == []


def test_one_lost_byte_costs_two_packets_at_most() -> None:
    sync, packets = PacketSync(), numbered(10)
    data = b"".join(packets)
    found = sync.feed(data[:500] + data[501:]) + sync.finish()
    assert len(found) >= 8
    assert found[-6:] == packets[-6:]
