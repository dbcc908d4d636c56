"""The interface ECMG ⇔ SCS: every message, every parameter, every error_status (ETSI TS 103 197, clause 5)."""

from enum import IntEnum
from typing import Final

from construct import GreedyBytes, Int8ub, Int16sb, Int16ub, Int32ub

from protocol.simulcrypt.schema import Fault, Interface, Message, Parameter, many, message, one, optional

# Clause 5.3 "Parameter type values". Delays are signed, in milliseconds; durations in units of 100 ms.
SUPER_CAS_ID: Final = Parameter("Super_CAS_id", 0x0001, Int32ub)
SECTION_TSPKT_FLAG: Final = Parameter("section_TSpkt_flag", 0x0002, Int8ub, frozenset({0, 1}))
DELAY_START: Final = Parameter("delay_start", 0x0003, Int16sb)
DELAY_STOP: Final = Parameter("delay_stop", 0x0004, Int16sb)
TRANSITION_DELAY_START: Final = Parameter("transition_delay_start", 0x0005, Int16sb)
TRANSITION_DELAY_STOP: Final = Parameter("transition_delay_stop", 0x0006, Int16sb)
ECM_REP_PERIOD: Final = Parameter("ECM_rep_period", 0x0007, Int16ub)
MAX_STREAMS: Final = Parameter("max_streams", 0x0008, Int16ub)
MIN_CP_DURATION: Final = Parameter("min_CP_duration", 0x0009, Int16ub)
LEAD_CW: Final = Parameter("lead_CW", 0x000A, Int8ub)
CW_PER_MSG: Final = Parameter("CW_per_msg", 0x000B, Int8ub)
MAX_COMP_TIME: Final = Parameter("max_comp_time", 0x000C, Int16ub)
ACCESS_CRITERIA: Final = Parameter("access_criteria", 0x000D, GreedyBytes)
ECM_CHANNEL_ID: Final = Parameter("ECM_channel_id", 0x000E, Int16ub)
ECM_STREAM_ID: Final = Parameter("ECM_stream_id", 0x000F, Int16ub)
NOMINAL_CP_DURATION: Final = Parameter("nominal_CP_duration", 0x0010, Int16ub)
ACCESS_CRITERIA_TRANSFER_MODE: Final = Parameter("access_criteria_transfer_mode", 0x0011, Int8ub, frozenset({0, 1}))
CP_NUMBER: Final = Parameter("CP_number", 0x0012, Int16ub)
CP_DURATION: Final = Parameter("CP_duration", 0x0013, Int16ub)
CP_CW_COMBINATION: Final = Parameter("CP_CW_combination", 0x0014, GreedyBytes)
ECM_DATAGRAM: Final = Parameter("ECM_datagram", 0x0015, GreedyBytes)
AC_DELAY_START: Final = Parameter("AC_delay_start", 0x0016, Int16sb)
AC_DELAY_STOP: Final = Parameter("AC_delay_stop", 0x0017, Int16sb)
CW_ENCRYPTION: Final = Parameter("CW_encryption", 0x0018, GreedyBytes)
ECM_ID: Final = Parameter("ECM_id", 0x0019, Int16ub)
ERROR_STATUS: Final = Parameter("error_status", 0x7000, Int16ub)
ERROR_INFORMATION: Final = Parameter("error_information", 0x7001, GreedyBytes)

# Version 1 has no ECM_id and is not met any more.
VERSIONS: Final = frozenset({2, 3, 4, 5})


class ErrorStatus(IntEnum):
    """Clause 5.6 "Error status"."""

    INV_MESSAGE = 0x0001
    INV_PROTO_VERSION = 0x0002
    INV_MESSAGE_TYPE = 0x0003
    MESSAGE_TOO_LONG = 0x0004
    INV_SUPER_CAS_ID = 0x0005
    INV_ECM_CHANNEL_ID = 0x0006
    INV_ECM_STREAM_ID = 0x0007
    TOO_MANY_CHANNELS = 0x0008
    TOO_MANY_STM_CHAN = 0x0009
    TOO_MANY_STM_ECMG = 0x000A
    NOT_ENOUGH_CW = 0x000B
    OUT_OF_MEM = 0x000C
    OUT_OF_COMPUTE = 0x000D
    INV_PARAM_TYPE = 0x000E
    INV_PARAM_LENGTH = 0x000F
    MISSING_PARAM = 0x0010
    INV_PARAM_VALUE = 0x0011
    INV_ECM_ID = 0x0012
    CHANNEL_ID_IN_USE = 0x0013
    STREAM_ID_IN_USE = 0x0014
    ECM_ID_IN_USE = 0x0015
    UNKNOWN = 0x7000
    UNRECOVERABLE = 0x7001


# Clause 5.4 "Channel specific messages".
@message(0x0001, "channel_setup")
class ChannelSetup(Message):
    """SCS opens a channel."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    super_cas_id: int = one(SUPER_CAS_ID)


@message(0x0002, "channel_test")
class ChannelTest(Message):
    """Either side asks whether the channel is still there."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)


@message(0x0003, "channel_status")
class ChannelStatus(Message):
    """Answer to channel_setup and channel_test: how ECMs of this ECMG are to be ordered and played."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    section_tspkt_flag: int = one(SECTION_TSPKT_FLAG)
    ac_delay_start: int | None = optional(AC_DELAY_START)
    ac_delay_stop: int | None = optional(AC_DELAY_STOP)
    delay_start: int = one(DELAY_START)
    delay_stop: int = one(DELAY_STOP)
    transition_delay_start: int | None = optional(TRANSITION_DELAY_START)
    transition_delay_stop: int | None = optional(TRANSITION_DELAY_STOP)
    ecm_rep_period: int = one(ECM_REP_PERIOD)
    max_streams: int = one(MAX_STREAMS)
    min_cp_duration: int = one(MIN_CP_DURATION)
    lead_cw: int = one(LEAD_CW)
    cw_per_msg: int = one(CW_PER_MSG)
    max_comp_time: int = one(MAX_COMP_TIME)


@message(0x0004, "channel_close")
class ChannelClose(Message):
    """SCS closes the channel; there is no answer."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)


@message(0x0005, "channel_error")
class ChannelError(Message):
    """Something is wrong with the channel or with a message that belongs to no stream."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    error_status: tuple[int, ...] = many(ERROR_STATUS, at_least_one=True)
    error_information: tuple[bytes, ...] = many(ERROR_INFORMATION, at_least_one=False)


# Clause 5.5 "Stream specific messages".
@message(0x0101, "stream_setup")
class StreamSetup(Message):
    """SCS opens a stream in its channel."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)
    ecm_id: int = one(ECM_ID)
    nominal_cp_duration: int = one(NOMINAL_CP_DURATION)


@message(0x0102, "stream_test")
class StreamTest(Message):
    """Either side asks whether the stream is still there."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)


@message(0x0103, "stream_status")
class StreamStatus(Message):
    """Answer to stream_setup and stream_test."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)
    ecm_id: int = one(ECM_ID)
    access_criteria_transfer_mode: int = one(ACCESS_CRITERIA_TRANSFER_MODE)


@message(0x0104, "stream_close_request")
class StreamCloseRequest(Message):
    """SCS asks to close the stream."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)


@message(0x0105, "stream_close_response")
class StreamCloseResponse(Message):
    """ECMG has closed the stream."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)


@message(0x0106, "stream_error")
class StreamError(Message):
    """Something is wrong with the stream."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)
    error_status: tuple[int, ...] = many(ERROR_STATUS, at_least_one=True)
    error_information: tuple[bytes, ...] = many(ERROR_INFORMATION, at_least_one=False)


@message(0x0201, "CW_provision")
class CwProvision(Message):
    """SCS orders an ECM: control words by crypto-period, each after its 16-bit CP number. Never logged, not in repr."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)
    cp_number: int = one(CP_NUMBER)
    cw_encryption: bytes | None = optional(CW_ENCRYPTION)
    cp_cw_combination: tuple[bytes, ...] = many(CP_CW_COMBINATION, at_least_one=False, secret=True)
    cp_duration: int | None = optional(CP_DURATION)
    access_criteria: bytes | None = optional(ACCESS_CRITERIA)


@message(0x0202, "ECM_response")
class EcmResponse(Message):
    """The ECM that was ordered."""

    ecm_channel_id: int = one(ECM_CHANNEL_ID)
    ecm_stream_id: int = one(ECM_STREAM_ID)
    cp_number: int = one(CP_NUMBER)
    ecm_datagram: bytes = one(ECM_DATAGRAM)


ECMG_SCS: Final = Interface(
    "ECMG⇔SCS",
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
        CwProvision,
        EcmResponse,
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
    versions=VERSIONS,
)
