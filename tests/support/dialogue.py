"""Tests of a SimulCrypt session that read like a dialogue: `says` what it must send, `hears` what the peer sends."""

from typing import TypeVar

from protocol.simulcrypt.emmg_mux import EMMG_MUX
from protocol.simulcrypt.frame import MessageSplitter
from protocol.simulcrypt.schema import Message
from protocol.simulcrypt.session import Session
from protocol.simulcrypt.session_events import Event, SessionClosed

SessionT = TypeVar("SessionT", bound=Session)
EventT = TypeVar("EventT")


class Dialogue:
    """One session and its clock. The peer's messages are spelled in `peer_version`."""

    def __init__(self, session: Session, peer_version: int = 2, byte_by_byte: bool = False) -> None:
        self.session = session
        self.now = 1000.0
        self.peer_version = peer_version
        self._byte_by_byte = byte_by_byte
        self._said: list[tuple[int, Message]] = []
        self._events: list[Event] = []

    def hears(self, *messages: Message) -> None:
        """The peer sends these messages."""
        self.hears_bytes(b"".join(EMMG_MUX.encode(message, self.peer_version) for message in messages))

    def hears_bytes(self, data: bytes) -> None:
        """The peer sends these bytes."""
        step = 1 if self._byte_by_byte else max(len(data), 1)
        for start in range(0, len(data), step):
            self.session.receive(data[start : start + step], self.now)

    def says(self, *messages: Message) -> None:
        """Exactly these messages have been sent since the last look."""
        assert self.sent() == list(messages)

    def says_nothing(self) -> None:
        """Nothing has been sent since the last look."""
        assert self.sent() == []

    def sent(self) -> list[Message]:
        """What has been sent since the last look."""
        splitter = MessageSplitter()
        decoded = [EMMG_MUX.decode(message) for message in splitter.feed(self.session.data_to_send())]
        assert splitter.pending == 0
        self._said = [(one.protocol_version, one.message) for one in decoded]
        return [one.message for one in decoded]

    def versions_said(self) -> set[int]:
        """The protocol versions of the messages seen at the last look."""
        return {version for version, _ in self._said}

    def happened(self, kind: type[EventT]) -> EventT:
        """The one event of this kind since the session began; it is forgotten."""
        self._events += self.session.events()
        found = [event for event in self._events if isinstance(event, kind)]
        assert len(found) == 1, (kind, self._events)
        self._events = [event for event in self._events if event is not found[0]]
        return found[0]

    def happened_not(self, kind: type[object]) -> None:
        """No such event has happened."""
        self._events += self.session.events()
        assert not [event for event in self._events if isinstance(event, kind)]

    def ended(self) -> SessionClosed:
        """The session is over; why."""
        assert self.session.closed
        return self.happened(SessionClosed)

    def wait(self, seconds: float) -> None:
        """Let time pass, calling no timer."""
        self.now += seconds
