"""Who may say what when on ECMG ⇔ SCS: two tables for both ends (ETSI TS 103 197, clauses 5.1, 5.4 and 5.5).

A TCP connection carries one channel, a channel many streams; each of them stands in its own table. Both ends hold the
same state, each message moves it, whoever sends it. A message of the SCS that is not in the table is answered with the
error_status in `OUT_OF_TURN`, and changes nothing.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

from protocol.errors import LocalProtocolError
from protocol.simulcrypt.ecmg_scs import (
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
    CwProvision,
    EcmResponse,
    ErrorStatus,
    StreamCloseRequest,
    StreamCloseResponse,
    StreamError,
    StreamSetup,
    StreamStatus,
    StreamTest,
)
from protocol.simulcrypt.schema import Message


class Role(Enum):
    """The two ends: SCS is the TCP client, ECMG the server."""

    SCS = "SCS"
    ECMG = "ECMG"


class ChannelState(Enum):
    """How far the channel of a connection has come."""

    CONNECTED = "connected"
    CHANNEL_SETUP = "channel set-up"
    CHANNEL_OPEN = "channel open"
    CLOSED = "closed"


class StreamState(Enum):
    """How far one stream of an open channel has come. A stream that nobody has set up is NOT_OPEN."""

    NOT_OPEN = "not open"
    STREAM_SETUP = "stream set-up"
    STREAM_OPEN = "stream open"
    STREAM_CLOSE = "stream closing"


Step: TypeAlias = tuple[Role, type[Message]]
ChannelTable: TypeAlias = Mapping[ChannelState, Mapping[Step, ChannelState]]
StreamTable: TypeAlias = Mapping[StreamState, Mapping[Step, StreamState]]

CHANNEL_TRANSITIONS: Final[ChannelTable] = {
    ChannelState.CONNECTED: {
        (Role.SCS, ChannelSetup): ChannelState.CHANNEL_SETUP,
        (Role.SCS, ChannelError): ChannelState.CONNECTED,
        (Role.ECMG, ChannelError): ChannelState.CONNECTED,
    },
    ChannelState.CHANNEL_SETUP: {
        (Role.ECMG, ChannelStatus): ChannelState.CHANNEL_OPEN,
        (Role.ECMG, ChannelError): ChannelState.CONNECTED,
    },
    ChannelState.CHANNEL_OPEN: {
        (Role.SCS, ChannelTest): ChannelState.CHANNEL_OPEN,
        (Role.ECMG, ChannelStatus): ChannelState.CHANNEL_OPEN,
        (Role.ECMG, ChannelTest): ChannelState.CHANNEL_OPEN,
        (Role.SCS, ChannelStatus): ChannelState.CHANNEL_OPEN,
        (Role.SCS, ChannelError): ChannelState.CHANNEL_OPEN,
        (Role.ECMG, ChannelError): ChannelState.CHANNEL_OPEN,
        # Clause 5.4.4: closes all streams with it, and has no answer. The connection may be used for another set-up.
        (Role.SCS, ChannelClose): ChannelState.CONNECTED,
        (Role.ECMG, ChannelClose): ChannelState.CONNECTED,
    },
    ChannelState.CLOSED: {},
}

STREAM_TRANSITIONS: Final[StreamTable] = {
    StreamState.NOT_OPEN: {
        (Role.SCS, StreamSetup): StreamState.STREAM_SETUP,
        (Role.SCS, StreamError): StreamState.NOT_OPEN,
        (Role.ECMG, StreamError): StreamState.NOT_OPEN,
    },
    StreamState.STREAM_SETUP: {
        (Role.ECMG, StreamStatus): StreamState.STREAM_OPEN,
        (Role.ECMG, StreamError): StreamState.NOT_OPEN,
    },
    StreamState.STREAM_OPEN: {
        (Role.SCS, StreamTest): StreamState.STREAM_OPEN,
        (Role.ECMG, StreamStatus): StreamState.STREAM_OPEN,
        (Role.ECMG, StreamTest): StreamState.STREAM_OPEN,
        (Role.SCS, StreamStatus): StreamState.STREAM_OPEN,
        (Role.SCS, StreamError): StreamState.STREAM_OPEN,
        (Role.ECMG, StreamError): StreamState.STREAM_OPEN,
        (Role.SCS, CwProvision): StreamState.STREAM_OPEN,
        (Role.ECMG, EcmResponse): StreamState.STREAM_OPEN,
        (Role.SCS, StreamCloseRequest): StreamState.STREAM_CLOSE,
    },
    StreamState.STREAM_CLOSE: {
        (Role.ECMG, StreamCloseResponse): StreamState.NOT_OPEN,
    },
}

# An order and its ECM leave a stream as it is: an ECMG need not look them up for every crypto-period.
STAYS_OPEN: Final = ((Role.SCS, CwProvision), (Role.ECMG, EcmResponse))

# What the SCS is told when it says something at the wrong time; for all others INV_MESSAGE.
OUT_OF_TURN: Final[Mapping[tuple[ChannelState | StreamState, type[Message]], ErrorStatus]] = {
    (ChannelState.CONNECTED, ChannelTest): ErrorStatus.INV_ECM_CHANNEL_ID,
    (ChannelState.CONNECTED, ChannelClose): ErrorStatus.INV_ECM_CHANNEL_ID,
    # Clause 5.1.1: one channel for each connection.
    (ChannelState.CHANNEL_OPEN, ChannelSetup): ErrorStatus.INV_ECM_CHANNEL_ID,
    (StreamState.NOT_OPEN, StreamTest): ErrorStatus.INV_ECM_STREAM_ID,
    (StreamState.NOT_OPEN, CwProvision): ErrorStatus.INV_ECM_STREAM_ID,
    (StreamState.NOT_OPEN, StreamCloseRequest): ErrorStatus.INV_ECM_STREAM_ID,
    (StreamState.NOT_OPEN, StreamStatus): ErrorStatus.INV_ECM_STREAM_ID,
    (StreamState.STREAM_OPEN, StreamSetup): ErrorStatus.STREAM_ID_IN_USE,
}


def after_channel(state: ChannelState, role: Role, said: type[Message]) -> ChannelState:
    """Return the state of the channel after what was said. Raises LocalProtocolError when it must not be said now."""
    following = CHANNEL_TRANSITIONS[state].get((role, said))
    if following is None:
        raise LocalProtocolError(f"{said.message_name} cannot be said by {role.value} while: {state.value}")
    return following


def after_stream(state: StreamState, role: Role, said: type[Message]) -> StreamState:
    """Return the state of a stream after what was said. Raises LocalProtocolError when it must not be said now."""
    following = STREAM_TRANSITIONS[state].get((role, said))
    if following is None:
        raise LocalProtocolError(f"{said.message_name} cannot be said by {role.value} while: {state.value}")
    return following
