"""The judges of the proof find what is wrong; else the proof would prove nothing."""

import pytest

from tests.tools.tv import judging
from tests.tools.tv.picture import Decoded

COMPONENTS = (0x101, 0x102)


def packet(number: int, pid: int = 0x101, control: int = 0, start: bool = False) -> bytes:
    head = bytes([0x47, (0x40 if start else 0) | pid >> 8, pid & 0xFF, control << 6 | 0x10 | number % 16])
    return head + bytes([number]) * 184


CLEAR = [packet(number) for number in range(10)]


def test_all_from_one_packet_on_is_the_same() -> None:
    assert judging.first_same(CLEAR[4:], CLEAR) == 4
    assert judging.first_same(CLEAR, CLEAR) == 0


@pytest.mark.parametrize(
    "got",
    [
        [],
        CLEAR[4:9],  # the end is missing
        CLEAR[4:6] + CLEAR[7:],  # one is missing in the middle
        [*CLEAR[4:6], packet(99), *CLEAR[7:]],  # one is different
        CLEAR + CLEAR,
    ],
)
def test_anything_else_is_found(got: list[bytes]) -> None:
    with pytest.raises(AssertionError):
        judging.first_same(got, CLEAR)


def test_the_share_of_spoiled_packets_is_counted() -> None:
    assert judging.share_spoiled(CLEAR[4:], CLEAR) == 0
    assert judging.share_spoiled([*CLEAR[5:6], packet(99), *CLEAR[7:]], CLEAR) == 0.2
    with pytest.raises(AssertionError, match="0 packets of 10"):
        judging.share_spoiled([], CLEAR)


def test_a_packet_in_clear_on_the_air_is_found() -> None:
    scrambled = [packet(number + 100, control=2 + number % 2) for number in range(10)]
    assert judging.assert_scrambled(scrambled, CLEAR) == 10
    with pytest.raises(AssertionError, match="packet 3 is on the air unmarked"):
        judging.assert_scrambled([*scrambled[:3], CLEAR[3], *scrambled[4:]], CLEAR)
    with pytest.raises(AssertionError, match="packet 3 is on the air in clear"):
        judging.assert_scrambled([*scrambled[:3], packet(3, control=2), *scrambled[4:]], CLEAR)
    with pytest.raises(AssertionError, match="9 packets on the air for 10"):
        judging.assert_scrambled(scrambled[1:], CLEAR)


def test_the_programme_is_its_components_with_a_payload() -> None:
    empty = bytearray(packet(1))
    empty[3:5] = bytes([0x20, 183])
    given = [packet(0), packet(0, pid=0x1FFF), bytes(empty), packet(0, pid=0x102)]
    assert judging.programme(given, COMPONENTS) == [given[0], given[3]]


PICTURES = {at: f"picture {at}" for at in range(0, 100, 10)}
SOUND = {at: f"sound {at}" for at in range(0, 100, 7)}
WHOLE = Decoded(PICTURES, SOUND, "")


def test_pictures_from_one_on_are_the_same() -> None:
    assert judging.same_pictures(WHOLE.since(35), WHOLE) == 6


@pytest.mark.parametrize(
    "got",
    [
        Decoded(PICTURES, SOUND, "error while decoding MB 3 4"),
        Decoded({}, SOUND, ""),
        Decoded(PICTURES, {}, ""),
        Decoded({at: md5 for at, md5 in PICTURES.items() if at != 50}, SOUND, ""),
        Decoded({at: md5 for at, md5 in PICTURES.items() if at != 90}, SOUND, ""),
        Decoded(PICTURES | {50: "other"}, SOUND, ""),
        Decoded(PICTURES, SOUND | {49: "other"}, ""),
        Decoded(PICTURES | {55: "one too many"}, SOUND, ""),
    ],
)
def test_a_picture_or_sound_that_is_not_is_found(got: Decoded) -> None:
    with pytest.raises(AssertionError):
        judging.same_pictures(got, WHOLE)
