"""Hypothesis strategies for transport streams: CA sections, and byte streams cut into pieces."""

import itertools

from hypothesis import strategies as st

from protocol.mpegts.section import ShortSection, build_section

# EMMs and ECMs: short sections of at most 256 bytes; with a few as long as a section can be.
ca_payloads = st.binary(max_size=253) | st.integers(170, 200).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)
ca_sections = st.builds(ShortSection, st.integers(0x80, 0x8F), ca_payloads).map(build_section)
any_short_sections = ca_sections | st.integers(300, 4093).map(
    lambda size: build_section(ShortSection(0x90, bytes(index % 251 for index in range(size))))
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at these places (taken modulo its length)."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


cut_lists = st.lists(st.integers(0, 1 << 20), max_size=12)
