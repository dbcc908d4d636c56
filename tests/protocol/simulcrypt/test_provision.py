"""Framing of datagrams: the same bytes as the codec, within the limits of datagrams and bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import EncodeError
from protocol.simulcrypt.emmg_mux import EMMG_MUX, DataForm, DataProvision
from protocol.simulcrypt.provision import ProvisionFramer

SECTIONS = st.integers(0, 253).map(lambda size: bytes([0x82, 0x70, size]) + bytes(size))
STREAM = DataProvision(client_id=1, data_channel_id=2, data_stream_id=3, data_id=4, datagram=(b"",))


def framed(datagrams: list[bytes], version: int, datagrams_max: int, bytes_max: int) -> list[bytes]:
    framer = ProvisionFramer(STREAM, version, DataForm.SECTION, datagrams_max, bytes_max)
    return framer.messages(datagrams)


@given(st.lists(SECTIONS, max_size=60), st.integers(1, 5), st.integers(1, 30), st.integers(512, 4096))
def test_messages_are_those_of_the_codec_and_lose_nothing(
    datagrams: list[bytes], version: int, datagrams_max: int, bytes_max: int
) -> None:
    messages = framed(datagrams, version, datagrams_max, bytes_max)
    decoded = [EMMG_MUX.decode(message) for message in messages]
    assert [EMMG_MUX.encode(one.message, version) for one in decoded] == messages
    carried = [one.message.datagram for one in decoded if isinstance(one.message, DataProvision)]
    assert [datagram for part in carried for datagram in part] == datagrams
    assert all(1 <= len(part) <= datagrams_max for part in carried)
    assert all(len(message) <= bytes_max for message in messages)


def test_messages_are_filled_as_far_as_the_limits_allow() -> None:
    section = b"\x82\x70\x61" + bytes(97)
    assert [len(message) for message in framed([section] * 15, 2, 7, 4096)] == [5 + 26 + 104 * 7] * 2 + [5 + 26 + 104]
    assert [len(message) for message in framed([section] * 4, 2, 7, 512)] == [5 + 26 + 104 * 4]
    assert [len(message) for message in framed([section] * 5, 2, 7, 512)] == [5 + 26 + 104 * 4, 5 + 26 + 104]


def test_a_datagram_longer_than_a_message_is_refused() -> None:
    with pytest.raises(EncodeError, match="does not fit"):
        framed([b"\x82\x70\xfd" + bytes(253)], 2, 7, 200)


@pytest.mark.parametrize(("datagrams_max", "bytes_max"), [(0, 4096), (7, 35)])
def test_limits_that_leave_no_room_are_refused(datagrams_max: int, bytes_max: int) -> None:
    with pytest.raises(EncodeError, match="room"):
        framed([], 2, datagrams_max, bytes_max)
