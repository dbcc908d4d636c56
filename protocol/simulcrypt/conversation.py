"""Who may say what when on EMMG/PDG ⇔ MUX: one table for both sides (ETSI TS 103 197, clauses 6.1 and 6.3).

The table describes the conversation on one TCP connection with one channel and one stream. Both ends hold the same
state, each message moves it, whoever sends it. What is not in the table must not be said.
"""

from enum import Enum
from typing import Final, TypeAlias

from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.simulcrypt.emmg_mux import (
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
    DataProvision,
    StreamBandwidthAllocation,
    StreamBandwidthRequest,
    StreamCloseRequest,
    StreamCloseResponse,
    StreamError,
    StreamSetup,
    StreamStatus,
    StreamTest,
)
from protocol.simulcrypt.schema import Message


class Role(Enum):
    """The two ends: EMMG is the TCP client, MUX the server."""

    EMMG = "EMMG"
    MUX = "MUX"


class State(Enum):
    """How far the conversation has come."""

    CONNECTED = "connected"
    CHANNEL_SETUP = "channel set-up"
    CHANNEL_OPEN = "channel open"
    STREAM_SETUP = "stream set-up"
    STREAM_OPEN = "stream open"
    STREAM_CLOSE = "stream closing"
    CLOSED = "closed"


Step: TypeAlias = tuple[Role, type[Message]]

# Tests and their answers go both ways as soon as a channel or stream is open.
_CHANNEL_TALK: Final[tuple[Step, ...]] = (
    (Role.EMMG, ChannelTest),
    (Role.MUX, ChannelStatus),
    (Role.MUX, ChannelTest),
    (Role.EMMG, ChannelStatus),
    (Role.EMMG, ChannelError),
)
_STREAM_TALK: Final[tuple[Step, ...]] = (
    (Role.EMMG, StreamTest),
    (Role.MUX, StreamStatus),
    (Role.MUX, StreamTest),
    (Role.EMMG, StreamStatus),
    (Role.EMMG, StreamError),
    (Role.MUX, StreamError),
    (Role.MUX, StreamBandwidthAllocation),
)


def _stay(state: State, *talks: tuple[Step, ...]) -> dict[Step, State]:
    return {step: state for talk in talks for step in talk}


TRANSITIONS: Final[dict[State, dict[Step, State]]] = {
    State.CONNECTED: {
        (Role.EMMG, ChannelSetup): State.CHANNEL_SETUP,
        (Role.MUX, ChannelError): State.CONNECTED,
    },
    State.CHANNEL_SETUP: {
        (Role.MUX, ChannelStatus): State.CHANNEL_OPEN,
        (Role.MUX, ChannelError): State.CONNECTED,
        (Role.EMMG, ChannelError): State.CHANNEL_SETUP,
    },
    State.CHANNEL_OPEN: {
        # What the MUX said about the stream before it read our close may still arrive.
        **_stay(State.CHANNEL_OPEN, _CHANNEL_TALK, ((Role.MUX, StreamError), (Role.MUX, ChannelError))),
        (Role.EMMG, StreamSetup): State.STREAM_SETUP,
        (Role.EMMG, ChannelClose): State.CLOSED,
        (Role.MUX, ChannelClose): State.CLOSED,
    },
    State.STREAM_SETUP: {
        **_stay(State.STREAM_SETUP, _CHANNEL_TALK),
        (Role.MUX, StreamStatus): State.STREAM_OPEN,
        (Role.MUX, StreamError): State.CHANNEL_OPEN,
        (Role.MUX, ChannelError): State.CHANNEL_OPEN,
        (Role.EMMG, ChannelClose): State.CLOSED,
        (Role.MUX, ChannelClose): State.CLOSED,
    },
    State.STREAM_OPEN: {
        **_stay(State.STREAM_OPEN, _CHANNEL_TALK, _STREAM_TALK, ((Role.MUX, ChannelError),)),
        (Role.EMMG, StreamBandwidthRequest): State.STREAM_OPEN,
        (Role.EMMG, DataProvision): State.STREAM_OPEN,
        (Role.EMMG, StreamCloseRequest): State.STREAM_CLOSE,
        (Role.EMMG, ChannelClose): State.CLOSED,
        (Role.MUX, ChannelClose): State.CLOSED,
    },
    State.STREAM_CLOSE: {
        **_stay(State.STREAM_CLOSE, _CHANNEL_TALK, _STREAM_TALK, ((Role.MUX, ChannelError),)),
        (Role.MUX, StreamCloseResponse): State.CHANNEL_OPEN,
        (Role.EMMG, ChannelClose): State.CLOSED,
        (Role.MUX, ChannelClose): State.CLOSED,
    },
    State.CLOSED: {},
}


class Conversation:
    """Where one connection stands in the table, seen from one end."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._peer = Role.MUX if role is Role.EMMG else Role.EMMG
        self.state = State.CONNECTED

    def sent(self, message: Message) -> None:
        """Note what we say. Raises LocalProtocolError when it must not be said now."""
        following = TRANSITIONS[self.state].get((self._role, type(message)))
        if following is None:
            raise LocalProtocolError(f"{message.message_name} cannot be sent while the state is: {self.state.value}")
        self.state = following

    def received(self, message: Message) -> None:
        """Note what the peer said. Raises RemoteProtocolError when it must not say it now."""
        following = TRANSITIONS[self.state].get((self._peer, type(message)))
        if following is None:
            raise RemoteProtocolError(f"{message.message_name} came while the state was: {self.state.value}")
        self.state = following

    def close(self) -> None:
        """End the conversation: the connection is gone or is of no more use."""
        self.state = State.CLOSED
