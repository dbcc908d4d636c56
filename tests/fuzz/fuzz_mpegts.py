"""Coverage-guided fuzzing of everything that reads a transport stream: packets, sections, tables, the demo's receiver.

Run: python tests/fuzz/fuzz_mpegts.py tests/fuzz/corpus/mpegts -max_total_time=60
"""

import contextlib
import sys

import atheris

with atheris.instrument_imports(include=["protocol.mpegts", "cad.demo.receiver"]):
    from cad.demo.receiver import Receiver, SectionFilter
    from protocol.errors import DecodeError
    from protocol.mpegts.packet import PACKET_SIZE, build_packet, parse_packet, split_packets
    from protocol.mpegts.psi import build_cat, build_pat, build_pmt, parse_cat, parse_pat, parse_pmt
    from protocol.mpegts.section import LongSection, SectionAssembler, build_section, parse_section, section_size


def read_packets(data: bytes) -> None:
    """As a datagram of whole packets, and each 188 bytes on their own; the assembler takes them for one PID."""
    with contextlib.suppress(DecodeError):
        split_packets(data)
    assembler = SectionAssembler()
    for start in range(0, len(data), PACKET_SIZE):
        raw = data[start : start + PACKET_SIZE]
        try:
            packet = parse_packet(raw)
        except DecodeError:
            continue
        assert build_packet(packet) == raw
        for section in assembler.push(packet):
            assert len(section) == section_size(section)


def read_section(data: bytes) -> None:
    """As one section, and its payload as each of the tables."""
    try:
        section = parse_section(data)
    except DecodeError:
        section = None
    if section is not None:
        assert len(build_section(section)) == len(data)
    for table_id, parse, build in ((0, parse_pat, build_pat), (1, parse_cat, build_cat), (2, parse_pmt, build_pmt)):
        raw = build_section(LongSection(table_id, 1, 0, data[:1012]))
        try:
            table = parse(raw)
        except DecodeError:
            continue
        # Reserved bits may differ, what the table says may not.
        assert parse(build(table)) == table  # type: ignore[operator]


def listen(data: bytes) -> None:
    """As the bytes that a receiver hears, in two pieces."""
    heard: list[bytes] = []
    receiver = Receiver(
        0x4ADC, heard.append, lambda _service, section: heard.append(section), (SectionFilter(b"", b""),)
    )
    receiver.tune(101)
    half = len(data) // 2
    receiver.feed(data[:half])
    receiver.feed(data[half:])
    assert all(len(section) == section_size(section) for section in heard)


READERS = (read_packets, read_section, listen)


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
