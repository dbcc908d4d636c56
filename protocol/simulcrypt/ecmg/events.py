"""What an ECMG session tells its owner."""

from dataclasses import dataclass
from typing import TypeAlias

from protocol.simulcrypt.session_events import PeerError, SessionClosed


@dataclass(frozen=True, slots=True)
class ChannelUp:
    """An SCS has set up its channel, in this protocol version."""

    ecm_channel_id: int
    super_cas_id: int
    protocol_version: int


@dataclass(frozen=True, slots=True)
class ChannelDown:
    """The SCS has closed its channel, and all streams with it."""

    ecm_channel_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was answered with an error. `what` says in words why, and never holds bytes of the message.

    `error_status` may be one of the standard only. `ecm_stream_id` is None where no stream is concerned.
    """

    what: str
    error_status: int
    ecm_stream_id: int | None = None


EcmgEvent: TypeAlias = ChannelUp | ChannelDown | Refused | PeerError | SessionClosed
