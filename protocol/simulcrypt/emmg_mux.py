"""The interface EMMG/PDG ⇔ MUX: every message, every parameter, every error_status (ETSI TS 103 197, clause 6)."""

from enum import IntEnum
from typing import Final

from construct import GreedyBytes, Int8ub, Int16ub, Int32ub

from protocol.simulcrypt.schema import Fault, Interface, Message, Parameter, many, message, one, optional

# Clause 6.2.2 "Parameter type values".
CLIENT_ID: Final = Parameter("client_id", 0x0001, Int32ub)
SECTION_TSPKT_FLAG: Final = Parameter("section_TSpkt_flag", 0x0002, Int8ub, frozenset({0, 1}))
DATA_CHANNEL_ID: Final = Parameter("data_channel_id", 0x0003, Int16ub)
DATA_STREAM_ID: Final = Parameter("data_stream_id", 0x0004, Int16ub)
DATAGRAM: Final = Parameter("datagram", 0x0005, GreedyBytes)
BANDWIDTH: Final = Parameter("bandwidth", 0x0006, Int16ub)
DATA_TYPE: Final = Parameter("data_type", 0x0007, Int8ub, frozenset({0, 1, 2}))
DATA_ID: Final = Parameter("data_id", 0x0008, Int16ub)
ERROR_STATUS: Final = Parameter("error_status", 0x7000, Int16ub)
ERROR_INFORMATION: Final = Parameter("error_information", 0x7001, GreedyBytes)

# Version 1 knows no data_id and names the stream in every data_provision; from version 2 on data_id is mandatory and
# data_provision over UDP comes without the ids of channel and stream. Some version 1 peers want data_id all the same.
VERSION_1: Final = frozenset({1})
SINCE_VERSION_2: Final = frozenset({2, 3, 4, 5})


class DataType(IntEnum):
    """What a stream carries (data_type)."""

    EMM = 0
    PRIVATE = 1
    ECM = 2


class DataForm(IntEnum):
    """In which form a channel carries its data (section_TSpkt_flag)."""

    SECTION = 0
    TS_PACKET = 1


class ErrorStatus(IntEnum):
    """Clause 6.2.6 "Error status"."""

    INV_MESSAGE = 0x0001
    INV_PROTO_VERSION = 0x0002
    INV_MESSAGE_TYPE = 0x0003
    MESSAGE_TOO_LONG = 0x0004
    INV_DATA_STREAM_ID = 0x0005
    INV_DATA_CHANNEL_ID = 0x0006
    TOO_MANY_CHANNELS = 0x0007
    TOO_MANY_STM_CHAN = 0x0008
    TOO_MANY_STM_MUX = 0x0009
    INV_PARAM_TYPE = 0x000A
    INV_PARAM_LENGTH = 0x000B
    MISSING_PARAM = 0x000C
    INV_PARAM_VALUE = 0x000D
    INV_CLIENT_ID = 0x000E
    EXCEEDED_BW = 0x000F
    INV_DATA_ID = 0x0010
    CHANNEL_ID_IN_USE = 0x0011
    STREAM_ID_IN_USE = 0x0012
    DATA_ID_IN_USE = 0x0013
    CLIENT_ID_IN_USE = 0x0014
    UNKNOWN = 0x7000
    UNRECOVERABLE = 0x7001


# Clause 6.2.3 "Channel specific messages".
@message(0x0011, "channel_setup")
class ChannelSetup(Message):
    """EMMG opens a channel."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    section_tspkt_flag: int = one(SECTION_TSPKT_FLAG)


@message(0x0012, "channel_test")
class ChannelTest(Message):
    """Either side asks whether the channel is still there."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)


@message(0x0013, "channel_status")
class ChannelStatus(Message):
    """Answer to channel_setup and channel_test."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    section_tspkt_flag: int = one(SECTION_TSPKT_FLAG)


@message(0x0014, "channel_close")
class ChannelClose(Message):
    """EMMG closes the channel; there is no answer."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)


@message(0x0015, "channel_error")
class ChannelError(Message):
    """Something is wrong with the channel or with a message that belongs to no stream."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    error_status: tuple[int, ...] = many(ERROR_STATUS, at_least_one=True)
    error_information: tuple[bytes, ...] = many(ERROR_INFORMATION, at_least_one=False)


# Clause 6.2.4 "Stream specific messages".
@message(0x0111, "stream_setup")
class StreamSetup(Message):
    """EMMG opens a stream in its channel."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)
    data_id: int | None = optional(DATA_ID, mandatory_in=SINCE_VERSION_2)
    data_type: int = one(DATA_TYPE)


@message(0x0112, "stream_test")
class StreamTest(Message):
    """Either side asks whether the stream is still there."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)


@message(0x0113, "stream_status")
class StreamStatus(Message):
    """Answer to stream_setup and stream_test."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)
    data_id: int | None = optional(DATA_ID, mandatory_in=SINCE_VERSION_2)
    data_type: int = one(DATA_TYPE)


@message(0x0114, "stream_close_request")
class StreamCloseRequest(Message):
    """EMMG asks to close the stream."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)


@message(0x0115, "stream_close_response")
class StreamCloseResponse(Message):
    """MUX has closed the stream."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)


@message(0x0116, "stream_error")
class StreamError(Message):
    """Something is wrong with the stream."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)
    error_status: tuple[int, ...] = many(ERROR_STATUS, at_least_one=True)
    error_information: tuple[bytes, ...] = many(ERROR_INFORMATION, at_least_one=False)


@message(0x0117, "stream_BW_request")
class StreamBandwidthRequest(Message):
    """EMMG asks for a rate in kbit/s or, without one, what rate it has."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)
    bandwidth: int | None = optional(BANDWIDTH)


@message(0x0118, "stream_BW_allocation")
class StreamBandwidthAllocation(Message):
    """MUX says which rate in kbit/s the stream has, as an answer or whenever it changes; without one: not known."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int = one(DATA_CHANNEL_ID)
    data_stream_id: int = one(DATA_STREAM_ID)
    bandwidth: int | None = optional(BANDWIDTH)


# Clause 6.2.5 "Data provision", the only message that may also come over UDP.
@message(0x0211, "data_provision")
class DataProvision(Message):
    """Data for the stream: in each datagram one section or TS packets."""

    client_id: int = one(CLIENT_ID)
    data_channel_id: int | None = optional(DATA_CHANNEL_ID, mandatory_in=VERSION_1)
    data_stream_id: int | None = optional(DATA_STREAM_ID, mandatory_in=VERSION_1)
    data_id: int | None = optional(DATA_ID, mandatory_in=SINCE_VERSION_2)
    datagram: tuple[bytes, ...] = many(DATAGRAM, at_least_one=True)


EMMG_MUX: Final = Interface(
    "EMMG/PDG⇔MUX",
    messages=(
        ChannelSetup,
        ChannelTest,
        ChannelStatus,
        ChannelClose,
        ChannelError,
        StreamSetup,
        StreamTest,
        StreamStatus,
        StreamCloseRequest,
        StreamCloseResponse,
        StreamError,
        StreamBandwidthRequest,
        StreamBandwidthAllocation,
        DataProvision,
    ),
    error_status={
        Fault.MESSAGE: ErrorStatus.INV_MESSAGE,
        Fault.VERSION: ErrorStatus.INV_PROTO_VERSION,
        Fault.MESSAGE_TYPE: ErrorStatus.INV_MESSAGE_TYPE,
        Fault.PARAMETER_TYPE: ErrorStatus.INV_PARAM_TYPE,
        Fault.PARAMETER_LENGTH: ErrorStatus.INV_PARAM_LENGTH,
        Fault.PARAMETER_MISSING: ErrorStatus.MISSING_PARAM,
        Fault.PARAMETER_VALUE: ErrorStatus.INV_PARAM_VALUE,
    },
)
