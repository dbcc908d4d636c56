"""What a SimulCrypt session tells its owner."""

from dataclasses import dataclass
from typing import TypeAlias

from protocol.simulcrypt.emmg_mux import ChannelSetup, StreamSetup


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """The channel is set up, in this protocol version."""

    protocol_version: int
    setup: ChannelSetup


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The stream is set up; nothing may be sent before a bandwidth is allocated."""

    setup: StreamSetup


@dataclass(frozen=True, slots=True)
class BandwidthAllocated:
    """The stream has this rate from now on; 0 means none. `stated` is False when the MUX did not say how much."""

    bandwidth_kbps: int
    stated: bool = True


@dataclass(frozen=True, slots=True)
class BandwidthAsked:
    """EMMG asks for this rate; the MUX session has answered with the allocation."""

    bandwidth_kbps: int | None


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Datagrams of the stream: in each a section or TS packets."""

    datagrams: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """The peer refused our protocol version; the set-up goes on with another."""

    refused: int
    protocol_version: int


@dataclass(frozen=True, slots=True)
class PeerError:
    """The peer sent channel_error or stream_error. `error_information` as it came."""

    message_name: str
    error_status: tuple[int, ...]
    error_information: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The peer sent a message that could not be accepted; it has been told so unless the message was an error."""

    what: str
    error_status: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is over: send what is left, close the connection. `advice` says what a person can do about it."""

    reason: str
    advice: str = ""
    orderly: bool = False


Event: TypeAlias = (
    ChannelOpened
    | StreamOpened
    | BandwidthAllocated
    | BandwidthAsked
    | DataReceived
    | VersionChanged
    | PeerError
    | MessageRefused
    | SessionClosed
)
