"""What each error_status of EMMG/PDG ⇔ MUX means for a person: its name, what to do, and whether the stream is lost."""

from collections.abc import Mapping
from typing import Final

from protocol.simulcrypt.emmg_mux import ErrorStatus

_OUR_MESSAGE: Final = "the multiplexer does not understand our messages: try another protocol_version"
_FULL: Final = "the multiplexer has no room for another EMM stream: free one there, or use another input"

ADVICE: Final[Mapping[ErrorStatus, str]] = {
    ErrorStatus.INV_MESSAGE: _OUR_MESSAGE,
    ErrorStatus.INV_PROTO_VERSION: "set protocol_version to one that the multiplexer's manual names",
    ErrorStatus.INV_MESSAGE_TYPE: _OUR_MESSAGE,
    ErrorStatus.MESSAGE_TOO_LONG: "lower message_bytes_max or datagrams_per_message",
    ErrorStatus.INV_DATA_STREAM_ID: "set data_stream_id to what the multiplexer expects",
    ErrorStatus.INV_DATA_CHANNEL_ID: "set data_channel_id to what the multiplexer expects",
    ErrorStatus.TOO_MANY_CHANNELS: _FULL,
    ErrorStatus.TOO_MANY_STM_CHAN: _FULL,
    ErrorStatus.TOO_MANY_STM_MUX: _FULL,
    ErrorStatus.INV_PARAM_TYPE: _OUR_MESSAGE,
    ErrorStatus.INV_PARAM_LENGTH: _OUR_MESSAGE,
    ErrorStatus.MISSING_PARAM: _OUR_MESSAGE,
    ErrorStatus.INV_PARAM_VALUE: "check mode (section or packet): the multiplexer may support only one of them",
    ErrorStatus.INV_CLIENT_ID: "set client_id to what the multiplexer expects: CA_system_id in its upper half",
    ErrorStatus.EXCEEDED_BW: "the multiplexer counts more than it allocated: lower bandwidth_kbps or check packing",
    ErrorStatus.INV_DATA_ID: "set data_id to what the multiplexer expects",
    ErrorStatus.CHANNEL_ID_IN_USE: "another EMMG uses this data_channel_id: stop it or choose another",
    ErrorStatus.STREAM_ID_IN_USE: "another EMMG uses this data_stream_id: stop it or choose another",
    ErrorStatus.DATA_ID_IN_USE: "another EMMG uses this data_id: stop it or choose another",
    ErrorStatus.CLIENT_ID_IN_USE: "another EMMG uses this client_id: stop it or choose another",
    ErrorStatus.UNKNOWN: "look at the multiplexer's own log",
    ErrorStatus.UNRECOVERABLE: "look at the multiplexer's own log; it may need a restart",
}

# After these the stream goes on: they are about a message or about the rate, not about channel and stream.
_HARMLESS: Final = frozenset(
    {
        ErrorStatus.INV_MESSAGE,
        ErrorStatus.INV_MESSAGE_TYPE,
        ErrorStatus.MESSAGE_TOO_LONG,
        ErrorStatus.INV_PARAM_TYPE,
        ErrorStatus.INV_PARAM_LENGTH,
        ErrorStatus.MISSING_PARAM,
        ErrorStatus.INV_PARAM_VALUE,
        ErrorStatus.EXCEEDED_BW,
        ErrorStatus.UNKNOWN,
    }
)


_NUMBERS: Final = frozenset(int(status) for status in ErrorStatus)


def spell(status: int) -> str:
    """Return the name and number of an error_status, also of one that is not in the standard."""
    name = ErrorStatus(status).name.lower() if status in _NUMBERS else "not in the standard"
    return f"{name} (0x{status:04X})"


def advice(status: int) -> str:
    """Return what a person can do about this error_status."""
    return ADVICE[ErrorStatus(status) if status in _NUMBERS else ErrorStatus.UNKNOWN]


def fatal(status: int) -> bool:
    """Tell whether an open stream is of no more use after this error_status."""
    return status in _NUMBERS and ErrorStatus(status) not in _HARMLESS
