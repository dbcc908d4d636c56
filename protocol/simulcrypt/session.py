"""What both ends of EMMG/PDG ⇔ MUX do alike: take bytes in, judge messages, answer faults, collect bytes and events."""

from abc import ABC, abstractmethod
from collections import deque
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.simulcrypt.conversation import Conversation, Role, State
from protocol.simulcrypt.emmg_mux import EMMG_MUX, ChannelError, StreamError
from protocol.simulcrypt.frame import MessageSplitter
from protocol.simulcrypt.schema import Decoded, Message, MessageError
from protocol.simulcrypt.session_events import Event, MessageRefused, SessionClosed

# Peers close at the third message in a row that they cannot read; so do we.
FAULTS_IN_A_ROW_MAX: Final = 3
ERROR_MESSAGES: Final = frozenset({ChannelError.message_type, StreamError.message_type})


class Session(ABC):
    """One connection, without I/O. Subclasses say what a message means.

    Feed it with `receive`; after every call send `data_to_send()` and handle `events()`. Time is any clock that rises,
    in seconds. When `closed`, send what is left and close the connection.
    """

    def __init__(self, role: Role, protocol_version: int) -> None:
        self.protocol_version = protocol_version
        self._conversation = Conversation(role)
        self._splitter = MessageSplitter()
        self._outgoing = bytearray()
        self._events: deque[Event] = deque()
        self._faults_in_a_row = 0
        self._ended = False

    @property
    def state(self) -> State:
        """Where the conversation stands."""
        return self._conversation.state

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._ended

    def receive(self, data: bytes, now: float) -> None:
        """Take in bytes from the peer, in pieces of any size. Never raises on what a peer may send."""
        for whole in self._splitter.feed(data):
            if self.closed:
                return
            try:
                decoded = EMMG_MUX.decode(whole)
            except MessageError as error:
                self._refuse(error)
            else:
                self._take(decoded, now)

    def data_to_send(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def connection_lost(self, reason: str = "the peer closed the connection", advice: str = "") -> None:
        """Take note that the connection is gone."""
        self._end(reason, advice)

    def _take(self, decoded: Decoded, now: float) -> None:
        self._faults_in_a_row = 0
        before = self.state
        try:
            self._conversation.received(decoded.message)
            self._handle(decoded, before, now)
        except RemoteProtocolError as error:
            self._end(str(error), "the two ends disagree about the state; the next connection starts afresh")

    @abstractmethod
    def _handle(self, decoded: Decoded, before: State, now: float) -> None:
        """Act on a message that the table allows. Raises RemoteProtocolError to end the session."""

    @abstractmethod
    def _fault_answer(self, error: MessageError) -> Message | None:
        """Return the message that tells the peer about its fault."""

    def _refuse(self, error: MessageError) -> None:
        self._events.append(MessageRefused(str(error), error.error_status))
        self._faults_in_a_row += 1
        # An error is never answered with an error: two ends would never stop.
        if error.message_type not in ERROR_MESSAGES and (answer := self._fault_answer(error)) is not None:
            self._outgoing += EMMG_MUX.encode(answer, self.protocol_version)
        if self._faults_in_a_row >= FAULTS_IN_A_ROW_MAX:
            self._end(
                f"{FAULTS_IN_A_ROW_MAX} messages in a row could not be read; the last one: {error}",
                "check that host and port are those of the multiplexer's EMMG input, and the protocol version",
            )

    def _send(self, message: Message) -> None:
        """Queue a message. Raises LocalProtocolError when the table forbids it, EncodeError when it cannot be said."""
        data = EMMG_MUX.encode(message, self.protocol_version)
        self._conversation.sent(message)
        self._outgoing += data

    def _end(self, reason: str, advice: str = "", orderly: bool = False) -> None:
        if not self._ended:
            self._ended = True
            self._conversation.close()
            self._events.append(SessionClosed(reason, advice, orderly))
