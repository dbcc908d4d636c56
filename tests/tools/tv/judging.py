"""Whether what a receiver got is what was sent: packet by packet, and picture by picture. Pure."""

from collections.abc import Sequence

from tests.tools.tv.packets import PACKET_SIZE, payload_at, pid_of, scrambling
from tests.tools.tv.picture import Decoded

CIPHER_BLOCK = 8


def programme(packets: Sequence[bytes], components: Sequence[int]) -> list[bytes]:
    """The packets of a service that carry something of its picture or sound."""
    return [one for one in packets if pid_of(one) in components and payload_at(one) < PACKET_SIZE]


def first_same(got: Sequence[bytes], clear: Sequence[bytes]) -> int:
    """Where in `clear` the packets begin that a receiver got; they must be all from there on, bit for bit."""
    assert got, "the receiver got nothing"
    start = len(clear) - len(got)
    assert start >= 0, f"the receiver got {len(got)} packets of {len(clear)}"
    for number, (one, other) in enumerate(zip(got, clear[start:], strict=True), start):
        assert one == other, f"packet {number} of {len(clear)} differs from the clear one"
    return start


def share_spoiled(got: Sequence[bytes], clear: Sequence[bytes]) -> float:
    """Which share of the packets got differs from those at the end of `clear`; as many must be there."""
    assert 0 < len(got) <= len(clear), f"the receiver got {len(got)} packets of {len(clear)}"
    return sum(one != other for one, other in zip(got, clear[-len(got) :], strict=True)) / len(got)


def assert_scrambled(on_air: Sequence[bytes], clear: Sequence[bytes]) -> int:
    """Every packet of the programme is on the air scrambled, and none with its clear content; returns how many.

    A payload of less than 8 bytes stays as it is by the definition of DVB-CSA: there is only the mark to look at.
    """
    assert len(on_air) == len(clear), f"{len(on_air)} packets on the air for {len(clear)} clear ones"
    for number, (one, other) in enumerate(zip(on_air, clear, strict=True)):
        assert scrambling(one) in (2, 3), f"packet {number} is on the air unmarked"
        start = payload_at(one)
        if PACKET_SIZE - start >= CIPHER_BLOCK:
            assert one[start:] != other[start:], f"packet {number} is on the air in clear"
    return len(on_air)


def same_pictures(got: Decoded, clear: Decoded) -> int:
    """Pictures and sound must be the clear service's from the first one got to the end; returns how many pictures."""
    assert not got.complaints, f"ffmpeg complains: {got.complaints}"
    assert got.pictures, "no picture"
    assert got.sound, "no sound"
    wanted = clear.since(min(got.pictures)).pictures
    assert got.pictures == wanted, f"{_differing(got.pictures, wanted)} of {len(wanted)} pictures differ"
    heard = clear.since(min(got.sound)).sound
    assert got.sound == heard, f"{_differing(got.sound, heard)} of {len(heard)} packets of sound differ"
    return len(got.pictures)


def _differing(got: dict[int, str], wanted: dict[int, str]) -> int:
    return sum(got.get(at) != wanted.get(at) for at in got.keys() | wanted.keys())
