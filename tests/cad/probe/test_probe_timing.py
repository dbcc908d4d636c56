"""The time of a recording: as its clock references say, across wraps and jumps, never falling."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.probe.timing import PCR_HZ, PCR_WRAP, PacketTimes, first_rate, pcr_of
from protocol.mpegts.packet import NULL_PACKET, TsPacket, build_packet

PID = 0x100
BITS = 188 * 8


def with_pcr(pcr: int, pid: int = PID, jumps: bool = False) -> bytes:
    """ISO/IEC 13818-1, 2.4.3.5: 33 bits of base, 6 reserved, 9 of extension."""
    base, extension = divmod(pcr, 300)
    field = (base << 15 | 0x7E00 | extension).to_bytes(6, "big")
    return build_packet(TsPacket(pid, bytes(176), adaptation=bytes([0x90 if jumps else 0x10]) + field))


def stream(count: int, rate_bps: float, start: int = 0, every: int = 10) -> list[bytes]:
    def packet(number: int) -> bytes:
        return (
            with_pcr(round(start + number * BITS / rate_bps * PCR_HZ) % PCR_WRAP)
            if number % every == 3
            else NULL_PACKET
        )

    return [packet(number) for number in range(count)]


@given(st.integers(0, PCR_WRAP - 1), st.booleans())
def test_clock_references_are_read_as_they_are_written(pcr: int, jumps: bool) -> None:
    assert pcr_of(with_pcr(pcr, jumps=jumps)) == (pcr, jumps)


def test_packets_without_a_clock_reference() -> None:
    assert pcr_of(NULL_PACKET) is None
    assert pcr_of(build_packet(TsPacket(PID, bytes(182), adaptation=b"\x10"))) is None, "too short to hold one"
    assert pcr_of(build_packet(TsPacket(PID, bytes(176), adaptation=bytes(7)))) is None


@pytest.mark.parametrize("start", [0, PCR_WRAP - PCR_HZ // 2])
def test_time_follows_the_clock_also_over_its_wrap(start: int) -> None:
    packets = stream(5000, 2_000_000, start)
    found = first_rate(packets)
    assert found is not None
    pid, rate = found
    assert (pid, rate) == (PID, pytest.approx(2_000_000, rel=1e-3))
    times = PacketTimes(rate, pid)
    shown = [times.at(raw) for raw in packets]
    assert shown[-1] == pytest.approx(4999 * BITS / 2_000_000, rel=1e-3)


def test_a_rate_that_changes_is_followed() -> None:
    slow = stream(1000, 1_000_000)
    seconds = 1000 * BITS / 1_000_000
    fast = stream(4000, 4_000_000, start=round(seconds * PCR_HZ))
    pid, rate = first_rate(slow) or (0, 0.0)
    times = PacketTimes(rate, pid)
    shown = [times.at(raw) for raw in slow + fast]
    assert shown[-1] == pytest.approx(2 * seconds, rel=2e-2)


def test_a_clock_that_jumps_does_not_take_the_time_along() -> None:
    before, after = stream(1000, 1_000_000), stream(1000, 1_000_000, start=3600 * PCR_HZ)
    times = PacketTimes(1_000_000, PID)
    shown = [times.at(raw) for raw in before + after + before]
    assert shown[-1] == pytest.approx(3000 * BITS / 1_000_000, rel=1e-2)


def test_a_stream_without_a_clock() -> None:
    assert first_rate([NULL_PACKET] * 100) is None
    assert first_rate([with_pcr(5)]) is None
    times = PacketTimes(BITS * 10)
    assert [times.at(NULL_PACKET) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


@given(st.lists(st.tuples(st.integers(0, PCR_WRAP - 1), st.booleans()), max_size=30), st.integers(0, 1000))
def test_time_never_falls_whatever_the_clock_says(clocks: list[tuple[int, bool]], seed: int) -> None:
    packets = [with_pcr(pcr, jumps=jumps) for pcr, jumps in clocks] + [NULL_PACKET] * 20
    random.Random(seed).shuffle(packets)
    found = first_rate(packets)
    times = PacketTimes(found[1] if found else 1e6, PID)
    shown = [times.at(raw) for raw in packets]
    assert shown == sorted(shown)
