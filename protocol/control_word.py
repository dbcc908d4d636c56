"""What a control word of DVB-CSA2 needs before a descrambler can use it."""

from typing import Final

SIZE: Final = 8
"""Bytes of a control word of CSA2."""

_HALF: Final = 4


def with_checksums(word: bytes) -> bytes:
    """The control word with bytes 3 and 7 set to the sum of the three bytes before each, modulo 256.

    Scramblers hand control words to the ECMG without these; 48 of the 64 bits are random (the entropy reduction of
    DVB-CSA2), and whoever scrambles or descrambles sets the rest. Raises ValueError unless `word` has 8 bytes.
    """
    if len(word) != SIZE:
        raise ValueError(f"a control word of CSA2 has {SIZE} bytes, not {len(word)}")
    halves = (word[at : at + _HALF - 1] for at in (0, _HALF))
    return b"".join(half + bytes([sum(half) & 0xFF]) for half in halves)
