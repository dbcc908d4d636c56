"""The codec of both interfaces: what a table says is what is read and written; each fault has its error_status."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError, EncodeError
from protocol.simulcrypt.ecmg_scs import ECMG_SCS, ChannelStatus, CwProvision
from protocol.simulcrypt.emmg_mux import (
    EMMG_MUX,
    ChannelError,
    ChannelSetup,
    DataProvision,
    ErrorStatus,
    StreamBandwidthAllocation,
    StreamSetup,
)
from protocol.simulcrypt.frame import MessageSplitter, read_frame, write_frame
from protocol.simulcrypt.schema import Interface, Message, MessageError, describe
from tests.support.simulcrypt_strategies import messages, mutated, pieces

INTERFACES = (EMMG_MUX, ECMG_SCS)
ID = struct.pack(">HHI", 1, 4, 0x4AE60001)
CHANNEL = struct.pack(">HHH", 3, 2, 5)
STREAM = struct.pack(">HHH", 4, 2, 6)
SECTIONS = struct.pack(">HHB", 2, 1, 0)


def raw(message_type: int, *parameters: bytes, version: int = 2) -> bytes:
    """A message by hand."""
    body = b"".join(parameters)
    return struct.pack(">BHH", version, message_type, len(body)) + body


def refused(data: bytes) -> MessageError:
    """The error for bytes that must not be accepted."""
    with pytest.raises(MessageError) as caught:
        EMMG_MUX.decode(data)
    return caught.value


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_message_made_by_hand_is_read_and_written(version: int) -> None:
    data = raw(0x0011, ID, CHANNEL, SECTIONS, version=version)
    setup = ChannelSetup(client_id=0x4AE60001, data_channel_id=5, section_tspkt_flag=0)
    assert EMMG_MUX.encode(setup, version) == data
    decoded = EMMG_MUX.decode(data)
    assert (decoded.message, decoded.protocol_version) == (setup, version)


def test_the_order_of_parameters_is_free() -> None:
    assert EMMG_MUX.decode(raw(0x0011, SECTIONS, CHANNEL, ID)).message == ChannelSetup(
        client_id=0x4AE60001, data_channel_id=5, section_tspkt_flag=0
    )


def test_user_defined_parameters_are_passed_over() -> None:
    private = struct.pack(">HH3s", 0x8000, 3, b"abc"), struct.pack(">HH", 0xFFFF, 0)
    plain = EMMG_MUX.decode(raw(0x0011, ID, CHANNEL, SECTIONS))
    assert EMMG_MUX.decode(raw(0x0011, private[0], ID, CHANNEL, private[1], SECTIONS)) == plain


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
@given(data=st.data())
def test_every_message_of_the_table_comes_back_the_same(interface: Interface, data: st.DataObject) -> None:
    message, version = data.draw(messages(interface))
    whole = interface.encode(message, version)
    decoded = interface.decode(whole)
    assert (decoded.message, decoded.protocol_version) == (message, version)
    assert interface.encode(decoded.message, version) == whole


FAULTS = [
    pytest.param(b"", ErrorStatus.INV_MESSAGE, None, id="nothing"),
    pytest.param(b"\x02\x00\x11", ErrorStatus.INV_MESSAGE, None, id="half a header"),
    pytest.param(raw(0x0011, ID) + b"x", ErrorStatus.INV_MESSAGE, None, id="more bytes than message_length"),
    pytest.param(raw(0x0011, ID)[:-1], ErrorStatus.INV_MESSAGE, None, id="fewer bytes than message_length"),
    pytest.param(raw(0x0011, b"\0\1\0"), ErrorStatus.INV_MESSAGE, None, id="half a parameter header"),
    pytest.param(raw(0x0011, ID[:-1]), ErrorStatus.INV_MESSAGE, None, id="parameter cut short"),
    pytest.param(raw(0x0011, ID, ID, CHANNEL, SECTIONS), ErrorStatus.INV_MESSAGE, 1, id="parameter twice"),
    pytest.param(raw(0x0011, version=0), ErrorStatus.INV_PROTO_VERSION, None, id="version 0"),
    pytest.param(raw(0x0011, version=6), ErrorStatus.INV_PROTO_VERSION, None, id="version 6"),
    pytest.param(raw(0x0001, ID), ErrorStatus.INV_MESSAGE_TYPE, None, id="message of another interface"),
    pytest.param(raw(0x0012, ID, CHANNEL, SECTIONS), ErrorStatus.INV_PARAM_TYPE, 2, id="parameter of another message"),
    pytest.param(raw(0x0012, ID, CHANNEL, b"\x7f\xff\0\0"), ErrorStatus.INV_PARAM_TYPE, 0x7FFF, id="reserved type"),
    pytest.param(raw(0x0012, ID, b"\0\3\0\1\5"), ErrorStatus.INV_PARAM_LENGTH, 3, id="too short"),
    pytest.param(raw(0x0012, ID, b"\0\3\0\3\0\0\5"), ErrorStatus.INV_PARAM_LENGTH, 3, id="too long"),
    pytest.param(raw(0x0012, ID), ErrorStatus.MISSING_PARAM, 3, id="missing"),
    pytest.param(raw(0x0015, ID, CHANNEL), ErrorStatus.MISSING_PARAM, 0x7000, id="no error_status"),
    pytest.param(raw(0x0011, ID, CHANNEL, b"\0\2\0\1\7"), ErrorStatus.INV_PARAM_VALUE, 2, id="section_TSpkt_flag 7"),
]


@pytest.mark.parametrize(("data", "status", "parameter"), FAULTS)
def test_each_fault_has_its_error_status_and_names_the_parameter(
    data: bytes, status: ErrorStatus, parameter: int | None
) -> None:
    error = refused(data)
    assert (error.error_status, error.parameter_type) == (status, parameter)
    assert error.error_information == (() if parameter is None else (parameter.to_bytes(2, "big"),))


def test_a_fault_tells_which_message_and_version_it_was_in() -> None:
    error = refused(raw(0x0015, ID, version=3))
    assert (error.message_type, error.protocol_version) == (0x0015, 3)


def test_version_1_has_no_data_id_but_tolerates_one_and_later_versions_need_it() -> None:
    without = StreamSetup(client_id=1, data_channel_id=2, data_stream_id=3, data_type=0)
    with_id = StreamSetup(client_id=1, data_channel_id=2, data_stream_id=3, data_id=4, data_type=0)
    assert EMMG_MUX.decode(EMMG_MUX.encode(without, 1)).message == without
    assert EMMG_MUX.decode(EMMG_MUX.encode(with_id, 1)).message == with_id
    with pytest.raises(EncodeError, match="data_id"):
        EMMG_MUX.encode(without, 2)
    assert refused(b"\x02" + EMMG_MUX.encode(without, 1)[1:]).error_status == ErrorStatus.MISSING_PARAM


def test_data_provision_names_its_stream_in_version_1_and_may_leave_it_out_later() -> None:
    over_udp = DataProvision(client_id=1, data_id=4, datagram=(b"x",))
    assert EMMG_MUX.decode(EMMG_MUX.encode(over_udp, 2)).message == over_udp
    with pytest.raises(EncodeError, match="data_channel_id"):
        EMMG_MUX.encode(over_udp, 1)


def test_an_allocation_may_lack_the_bandwidth() -> None:
    allocation = StreamBandwidthAllocation(client_id=1, data_channel_id=2, data_stream_id=3)
    assert EMMG_MUX.decode(EMMG_MUX.encode(allocation, 2)).message == allocation


@pytest.mark.parametrize(
    "message",
    [
        ChannelSetup(client_id=1 << 32, data_channel_id=1, section_tspkt_flag=0),
        ChannelSetup(client_id=-1, data_channel_id=1, section_tspkt_flag=0),
        ChannelSetup(client_id=1, data_channel_id=1, section_tspkt_flag=2),
        ChannelError(client_id=1, data_channel_id=1, error_status=()),
        DataProvision(client_id=1, data_id=1, datagram=(bytes(40_000), bytes(40_000))),
        DataProvision(client_id=1, data_id=1, datagram=(bytes(70_000),)),
    ],
)
def test_what_cannot_be_said_is_not_encoded(message: Message) -> None:
    with pytest.raises(EncodeError):
        EMMG_MUX.encode(message, 2)


def read_again_or_refused(interface: Interface, data: bytes) -> None:
    """Fail unless the bytes are refused with an error_status, or are read and then survive a round trip."""
    refusal, decoded = None, None
    try:
        decoded = interface.decode(data)
    except MessageError as error:
        refusal = error.error_status
    if decoded is None:
        assert refusal in set(interface.error_status.values())
    else:
        assert interface.decode(interface.encode(decoded.message, decoded.protocol_version)) == decoded


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
@given(data=st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_message_error(interface: Interface, data: bytes) -> None:
    read_again_or_refused(interface, data)


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
@given(data=st.data())
def test_a_mutated_message_gives_a_message_or_a_message_error(interface: Interface, data: st.DataObject) -> None:
    message, version = data.draw(messages(interface))
    read_again_or_refused(interface, data.draw(mutated(interface.encode(message, version))))


def test_the_same_fault_has_another_error_status_on_another_interface() -> None:
    with pytest.raises(MessageError) as caught:
        ECMG_SCS.decode(bytes.fromhex("02 0001 0006 000e 0002 0001"))
    assert caught.value.error_status == 0x0010
    assert caught.value.parameter_type == 0x0001


def test_delays_are_signed() -> None:
    ids = b"\0\x0e\0\2\0\1", b"\0\2\0\1\0", b"\0\3\0\2\xff\x38", b"\0\4\0\2\0\0"
    words = [struct.pack(">HHH", tag, 2, 10) for tag in (0x07, 0x08, 0x09, 0x0C)]
    single = [struct.pack(">HHB", tag, 1, 1) for tag in (0x0A, 0x0B)]
    status = ECMG_SCS.decode(raw(0x0003, *ids, *words, *single)).message
    assert isinstance(status, ChannelStatus)
    assert (status.delay_start, status.delay_stop) == (-200, 0)


def test_control_words_show_neither_in_repr_nor_in_a_log_line() -> None:
    word = bytes.fromhex("a1b2c3d4e5f60718")
    order = CwProvision(ecm_channel_id=1, ecm_stream_id=2, cp_number=3, cp_cw_combination=(b"\0\3" + word,))
    for text in (repr(order), str(order), describe(order)):
        assert repr(word)[2:-1] not in text
        assert word.hex() not in text


@given(st.binary(max_size=100))
def test_a_frame_of_any_bytes_is_written_back_or_refused(data: bytes) -> None:
    try:
        frame = read_frame(data)
    except DecodeError:
        return
    assert write_frame(frame) == data


@given(st.data())
def test_a_stream_is_cut_into_the_same_messages_however_it_arrives(data: st.DataObject) -> None:
    drawn = data.draw(st.lists(messages(EMMG_MUX), min_size=1, max_size=4))
    whole = [EMMG_MUX.encode(message, version) for message, version in drawn]
    tail = data.draw(st.sampled_from((b"", b"\x02", b"\x02\x00\x11\x00\x09abc")))
    stream = b"".join(whole) + tail
    for portions in ([stream], [stream[i : i + 1] for i in range(len(stream))], data.draw(pieces(stream))):
        splitter = MessageSplitter()
        assert [message for portion in portions for message in splitter.feed(portion)] == whole
        assert splitter.pending == len(tail)


def test_a_log_line_has_numbers_and_no_data() -> None:
    line = describe(DataProvision(client_id=1, data_id=2, datagram=(b"secret",) * 6))
    assert line == ("data_provision client_id=1 data_id=2 datagram=[6 bytes,6 bytes,6 bytes,6 bytes,… (6 in all)]")
