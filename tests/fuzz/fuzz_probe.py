"""Coverage-guided fuzzing of the probe: any bytes as a stream, as sections on the PIDs that matter, and as datagrams.

Run: python tests/fuzz/fuzz_probe.py tests/fuzz/corpus/probe -max_total_time=60
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["cad.probe", "protocol.mpegts", "protocol.rtp", "emm.message", "emm.ecm"]):
    from cad.probe.alarms import AlarmBook, Limits, judge
    from cad.probe.analysis import StreamProbe
    from cad.probe.report import document
    from cad.probe.timing import PacketTimes, first_rate
    from protocol import rtp
    from protocol.errors import DecodeError
    from protocol.mpegts.packet import PACKET_SIZE, SYNC_BYTE, Packing, SectionPacketizer

CA = 0x4ADC
PIDS = (0, 1, 0x100, 0x101, 0x500)


def say(probe: StreamProbe) -> None:
    found = document(probe, "fuzz", wall=1_800_000_000.0)
    AlarmBook().follow(judge(found, Limits(emm_bps=1000)), found.listened_s)
    assert len(found.model_dump_json()) < 1_000_000


def as_stream(data: bytes) -> None:
    probe = StreamProbe(CA)
    for at in range(0, len(data), 100):
        probe.feed(data[at : at + 100], at / 1000)
    say(probe)
    packets = [
        bytes([SYNC_BYTE]) + data[at : at + PACKET_SIZE - 1].ljust(PACKET_SIZE - 1, b"\xff")
        for at in range(0, len(data), PACKET_SIZE - 1)
    ]
    found = first_rate(packets)
    times = PacketTimes(found[1] if found else 1e6, found[0] if found else None)
    shown = [times.at(raw) for raw in packets]
    assert shown == sorted(shown)


def as_sections(data: bytes) -> None:
    """Pieces: PID (an index), size, and so many bytes of a section on it."""
    probe = StreamProbe(None if data[:1] == b"\0" else CA)
    packers = {pid: SectionPacketizer(pid, Packing.PER_SECTION) for pid in PIDS}
    at, now = 1, 0.0
    while at + 2 <= len(data):
        pid, size = PIDS[data[at] % len(PIDS)], data[at + 1]
        section = data[at + 2 : at + 2 + size]
        at, now = at + 2 + size, now + 0.1
        if len(section) >= 3:
            probe.feed(b"".join(packers[pid].push(section)), now)
    say(probe)


def as_datagrams(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        header, payload = rtp.parse(data)
        assert rtp.parse(rtp.build(header, payload)) == (header, payload)


READERS = (as_stream, as_sections, as_datagrams)


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name that libFuzzer knows
    """The first byte chooses the reader."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Fuzz until told to stop."""
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
