"""Tests of an ECMG session that read like a dialogue: `hears` what the scrambler sends, `says` what it must answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from protocol.simulcrypt.ecmg.events import EcmgEvent
from protocol.simulcrypt.ecmg.ids import IdsInUse
from protocol.simulcrypt.ecmg.profile import EcmgProfile
from protocol.simulcrypt.ecmg.session import EcmgSession
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import (
    ECMG_SCS,
    ChannelError,
    ChannelSetup,
    CwProvision,
    EcmResponse,
    ErrorStatus,
    StreamError,
    StreamSetup,
    StreamStatus,
)
from protocol.simulcrypt.frame import MessageSplitter
from protocol.simulcrypt.schema import Message
from protocol.simulcrypt.session_events import SessionClosed

SUPER_CAS_ID = 0x4A750000
CRITERIA = b"\x01criteria"
EventT = TypeVar("EventT")


@dataclass
class ScriptedMaker:
    """Makes an "ECM" that shows what it was asked for; knows one set of access criteria."""

    known: frozenset[bytes] = frozenset({CRITERIA})
    asked: list[tuple[int, tuple[bytes, ...], bytes]] = field(default_factory=list)

    def make(self, cp_number: int, words: Sequence[bytes], access_criteria: bytes) -> bytes:
        if access_criteria not in self.known:
            raise OrderRefusedError("nobody knows these access criteria", ErrorStatus.INV_PARAM_VALUE, 0x000D)
        self.asked.append((cp_number, tuple(words), access_criteria))
        return ecm_of(cp_number, *words)

    def prepare(self) -> None:
        pass


def ecm_of(cp_number: int, *words: bytes) -> bytes:
    """What the scripted maker makes."""
    return b"ECM" + cp_number.to_bytes(2, "big") + b"".join(words)


def word(period: int, size: int = 8) -> bytes:
    """The control word of a crypto-period."""
    return (b"cw" + (period % 65536).to_bytes(2, "big") * 7)[:size]


def provision(
    cp_number: int,
    *periods: int,
    stream: int = 1,
    channel: int = 1,
    criteria: bytes | None = CRITERIA,
    size: int = 8,
    **more: Any,
) -> CwProvision:
    """A CW_provision with the control words of these crypto-periods; without any, of this and the next."""
    combinations = [
        (period % 65536).to_bytes(2, "big") + word(period, size) for period in periods or (cp_number, cp_number + 1)
    ]
    return CwProvision(
        ecm_channel_id=channel,
        ecm_stream_id=stream,
        cp_number=cp_number,
        cp_cw_combination=tuple(combinations),
        access_criteria=criteria,
        **more,
    )


def response(cp_number: int, *periods: int, stream: int = 1, channel: int = 1, size: int = 8) -> EcmResponse:
    """The answer to `provision`."""
    words = [word(period, size) for period in periods or (cp_number, cp_number + 1)]
    return EcmResponse(
        ecm_channel_id=channel, ecm_stream_id=stream, cp_number=cp_number, ecm_datagram=ecm_of(cp_number, *words)
    )


def channel_setup(channel: int = 1, super_cas_id: int = SUPER_CAS_ID) -> ChannelSetup:
    return ChannelSetup(ecm_channel_id=channel, super_cas_id=super_cas_id)


def stream_setup(stream: int = 1, channel: int = 1, ecm_id: int | None = None, cp: int = 100) -> StreamSetup:
    ecm = stream if ecm_id is None else ecm_id
    return StreamSetup(ecm_channel_id=channel, ecm_stream_id=stream, ecm_id=ecm, nominal_cp_duration=cp)


def stream_status(stream: int = 1, channel: int = 1, ecm_id: int | None = None) -> StreamStatus:
    ecm = stream if ecm_id is None else ecm_id
    return StreamStatus(ecm_channel_id=channel, ecm_stream_id=stream, ecm_id=ecm, access_criteria_transfer_mode=1)


def channel_error(status: ErrorStatus, channel: int = 1, blame: int | None = None) -> ChannelError:
    information = () if blame is None else (blame.to_bytes(2, "big"),)
    return ChannelError(ecm_channel_id=channel, error_status=(int(status),), error_information=information)


def stream_error(status: ErrorStatus, stream: int = 1, channel: int = 1, blame: int | None = None) -> StreamError:
    information = () if blame is None else (blame.to_bytes(2, "big"),)
    return StreamError(
        ecm_channel_id=channel, ecm_stream_id=stream, error_status=(int(status),), error_information=information
    )


class EcmgDialogue:
    """One session and its clock. The scrambler's messages are spelled in `version`."""

    def __init__(
        self,
        *,
        version: int = 3,
        byte_by_byte: bool = False,
        ids: IdsInUse[EcmgSession] | None = None,
        maker: Any = None,
        **profile: Any,
    ) -> None:
        self.profile = EcmgProfile(**{"super_cas_ids": frozenset({SUPER_CAS_ID}), **profile})
        self.maker = maker or ScriptedMaker()
        self.now = 1000.0
        self.version = version
        self.session = EcmgSession(self.profile, IdsInUse() if ids is None else ids, self.maker, self.now)
        self.versions_said: set[int] = set()
        self._byte_by_byte = byte_by_byte
        self._events: list[EcmgEvent] = []

    def hears(self, *messages: Message) -> None:
        self.hears_bytes(b"".join(ECMG_SCS.encode(message, self.version) for message in messages))

    def hears_bytes(self, data: bytes) -> None:
        step = 1 if self._byte_by_byte else max(len(data), 1)
        for start in range(0, len(data), step):
            self.session.receive(data[start : start + step], self.now)

    def says(self, *messages: Message) -> None:
        """Exactly these messages have been sent since the last look."""
        assert self.sent() == list(messages)

    def sent(self) -> list[Message]:
        splitter = MessageSplitter()
        decoded = [ECMG_SCS.decode(message) for message in splitter.feed(self.session.data_to_send())]
        assert splitter.pending == 0
        self.versions_said = {one.protocol_version for one in decoded}
        return [one.message for one in decoded]

    def opens(self, *streams: int, channel: int = 1) -> None:
        """The scrambler sets up its channel and these streams."""
        self.hears(channel_setup(channel))
        self.says(self.profile.channel_status(channel))
        for stream in streams:
            self.hears(stream_setup(stream, channel))
            self.says(stream_status(stream, channel))

    def happened(self, kind: type[EventT]) -> list[EventT]:
        """The events of this kind since the session began."""
        self._events += self.session.events()
        return [event for event in self._events if isinstance(event, kind)]

    def waits(self, seconds: float) -> None:
        """Let time pass, calling the timer when it is due."""
        until = self.now + seconds
        while (due := self.session.timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
        self.now = until

    def ended(self) -> SessionClosed:
        assert self.session.closed
        return self.happened(SessionClosed)[0]
