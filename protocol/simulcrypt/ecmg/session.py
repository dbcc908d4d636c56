"""The ECMG's end of ECMG⇔SCS, without I/O: one session per TCP connection, one channel, many streams."""

from collections import deque
from typing import Any, Final

from protocol.simulcrypt.ecmg.conversation import (
    CHANNEL_TRANSITIONS,
    OUT_OF_TURN,
    STREAM_TRANSITIONS,
    ChannelState,
    Role,
    StreamState,
    after_channel,
    after_stream,
)
from protocol.simulcrypt.ecmg.cw_provision import read_cw_provision, write_ecm_response
from protocol.simulcrypt.ecmg.events import ChannelDown, ChannelUp, EcmgEvent, Refused
from protocol.simulcrypt.ecmg.ids import IdsInUse
from protocol.simulcrypt.ecmg.profile import EcmgProfile
from protocol.simulcrypt.ecmg.streams import EcmMaker, Stream, ids_in
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import (
    ECM_CHANNEL_ID,
    ECM_STREAM_ID,
    ECMG_SCS,
    NOMINAL_CP_DURATION,
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
    CwProvision,
    ErrorStatus,
    StreamCloseRequest,
    StreamCloseResponse,
    StreamError,
    StreamSetup,
    StreamStatus,
    StreamTest,
)
from protocol.simulcrypt.frame import HEADER_SIZE, MessageSplitter
from protocol.simulcrypt.schema import Message, MessageError
from protocol.simulcrypt.session_events import PeerError, SessionClosed

# Peers close at the third message in a row that they cannot read; so do we.
FAULTS_IN_A_ROW_MAX: Final = 3
ERROR_MESSAGES: Final = frozenset({ChannelError.message_type, StreamError.message_type})
# Clause 5.5.3, access_criteria_transfer_mode 1: access criteria come with every CW_provision.
AC_WITH_EVERY_CW: Final = 1


class EcmgSession:
    """Serve one SCS: answer set-ups, tests and orders for ECMs.

    Feed it with `receive`, call `handle_timer` at `timer()`; after each call send `data_to_send()` and handle
    `events()`. Time is any clock that rises, in seconds. When `closed`, send what is left and close the connection.
    What a peer says never raises; what `maker` raises besides OrderRefusedError does.
    """

    def __init__(self, profile: EcmgProfile, ids: "IdsInUse[EcmgSession]", maker: EcmMaker, now: float) -> None:
        self.profile = profile
        self.state = ChannelState.CONNECTED
        self.channel: ChannelSetup | None = None
        self.protocol_version = max(profile.versions)
        self.ecms = 0
        self._ids = ids
        self._maker = maker
        self._streams: dict[int, Stream] = {}
        self._splitter = MessageSplitter(profile.message_bytes_max)
        self._outgoing: list[bytes] = []
        self._events: deque[EcmgEvent] = deque()
        self._faults_in_a_row = 0
        self._heard = now
        self._deadline: float | None = now + profile.setup_timeout_s
        self._asked = False

    def __repr__(self) -> str:
        channel = None if self.channel is None else self.channel.ecm_channel_id
        return f"<EcmgSession channel={channel} streams={len(self._streams)} {self.state.value}>"

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self.state is ChannelState.CLOSED

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def receive(self, data: bytes, now: float) -> None:
        """Take in bytes from the SCS, in pieces of any size."""
        for whole in self._splitter.feed(data):
            if self.state is ChannelState.CLOSED:
                return
            self._heard = now
            if self._asked:
                self._asked, self._deadline = False, None
            read = read_cw_provision(whole, self.profile.versions)
            if read is not None:
                self._faults_in_a_row = 0
                self._on_order(read[1], now)
            else:
                self._read(whole, now)

    def data_to_send(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        if not self._outgoing:
            return b""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    @property
    def eventful(self) -> bool:
        """Whether `events` has something to tell; the end of the session is an event."""
        return bool(self._events)

    def events(self) -> list[EcmgEvent]:
        """Return what has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def prepare(self) -> None:
        """Let the maker work ahead; call it when `data_to_send()` is on its way."""
        self._maker.prepare()

    def timer(self) -> float | None:
        """Return when `handle_timer` must be called at the latest; None: not at all."""
        if self.closed:
            return None
        return self._heard + self.profile.test_interval_s if self._deadline is None else self._deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due: give up on a silent peer, ask whether it is still there."""
        if self.closed:
            return
        if self._deadline is None:
            if now >= self._heard + self.profile.test_interval_s:
                self.probe(now)
        elif now >= self._deadline:
            waited = self.profile.answer_timeout_s if self._asked else self.profile.setup_timeout_s
            what = "answer to channel_test" if self._asked else "channel_setup"
            self.end(f"no {what} within {waited:g} s", "look whether the scrambler hangs or the network is interrupted")

    def probe(self, now: float) -> None:
        """Ask the SCS whether it is still there, unless asked already; without an answer the session ends."""
        if self.channel is None or self._asked or self.closed:
            return
        self._asked, self._deadline = True, now + self.profile.answer_timeout_s
        self._say(ChannelTest(ecm_channel_id=self.channel.ecm_channel_id))

    def close(self, reason: str = "closed by us") -> None:
        """End in an orderly way: the channel is closed towards the SCS."""
        if self.channel is not None and not self.closed:
            self._say(ChannelClose(ecm_channel_id=self.channel.ecm_channel_id))
        self.end(reason, orderly=True)

    def connection_lost(self, reason: str = "the scrambler closed the connection") -> None:
        """Take note that the connection is gone; orderly where no channel was open any more."""
        self.end(reason, "it does so when it restarts or is set up anew: look at its log", self.channel is None)

    def end(self, reason: str, advice: str = "", orderly: bool = False) -> None:
        """End the session, and give back its ids."""
        if not self.closed:
            self._drop_channel()
            self.state = ChannelState.CLOSED
            self._events.append(SessionClosed(reason, advice, orderly))

    def _read(self, whole: bytes, now: float) -> None:
        """Judge any message by the declaration and act on it."""
        if len(whole) < HEADER_SIZE + int.from_bytes(whole[3:HEADER_SIZE], "big"):
            what = f"a message is longer than {self.profile.message_bytes_max} bytes"
            self._fault(whole, what, ErrorStatus.MESSAGE_TOO_LONG, (), self.protocol_version)
            return
        try:
            decoded = ECMG_SCS.decode(whole)
            if decoded.protocol_version not in self.profile.versions:
                self._refuse_version(whole)
                return
        except MessageError as error:
            if error.error_status == ErrorStatus.INV_PROTO_VERSION:
                self._refuse_version(whole)
                return
            status = ErrorStatus(error.error_status)
            self._fault(whole, str(error), status, error.error_information, self.protocol_version)
            return
        self._faults_in_a_row = 0
        message: Any = decoded.message
        if isinstance(message, ChannelError | StreamError):
            self._events.append(PeerError(message.message_name, message.error_status, message.error_information))
        elif hasattr(message, "ecm_stream_id"):
            self._on_stream_message(message, now)
        else:
            self._on_channel_message(message, decoded.protocol_version, now)

    def _refuse_version(self, whole: bytes) -> None:
        spoken = ", ".join(map(str, sorted(self.profile.versions)))
        what = f"protocol version {whole[0]} is not spoken here, but {spoken}: set it in the scrambler"
        self._fault(whole, what, ErrorStatus.INV_PROTO_VERSION, (), self.profile.answer_version(whole[0]))

    def _fault(
        self, whole: bytes, what: str, status: ErrorStatus, information: tuple[bytes, ...], version: int
    ) -> None:
        """Answer a message that cannot be read; the third in a row ends the session."""
        self._faults_in_a_row += 1
        # An error is never answered with an error: two ends would never stop.
        if int.from_bytes(whole[1:3], "big") not in ERROR_MESSAGES:
            ids = ids_in(whole)
            channel_id = ids.get(ECM_CHANNEL_ID.parameter_type, self.channel_id)
            stream_id = ids.get(ECM_STREAM_ID.parameter_type)
            self._say_error(channel_id, stream_id, status, information, version)
            self._events.append(Refused(what, status, stream_id))
        if self._faults_in_a_row >= FAULTS_IN_A_ROW_MAX:
            self.end(
                f"{FAULTS_IN_A_ROW_MAX} messages in a row could not be read; the last one: {what}",
                "check that this is the scrambler's ECMG connection, and its protocol version",
            )

    def _on_channel_message(self, message: Any, version: int, now: float) -> None:
        said = type(message)
        if (Role.SCS, said) not in CHANNEL_TRANSITIONS[self.state]:
            status = OUT_OF_TURN.get((self.state, said), ErrorStatus.INV_MESSAGE)
            self._refuse(f"{said.message_name} came while: {self.state.value}", status, message)
        elif self.channel is not None and message.ecm_channel_id != self.channel.ecm_channel_id:
            what = f"{said.message_name} came for channel {message.ecm_channel_id}, not {self.channel.ecm_channel_id}"
            self._refuse(what, ErrorStatus.INV_ECM_CHANNEL_ID, message)
        else:
            self.state = after_channel(self.state, Role.SCS, said)
            if said is ChannelSetup:
                self._on_channel_setup(message, version, now)
            elif said is ChannelTest:
                self._say(self.profile.channel_status(message.ecm_channel_id))
            elif said is ChannelClose:
                self._events.append(ChannelDown(message.ecm_channel_id))
                self._drop_channel()
                self._asked, self._deadline = False, now + self.profile.setup_timeout_s

    def _on_channel_setup(self, setup: ChannelSetup, version: int, now: float) -> None:
        self.protocol_version = version
        holder = self._ids.channel_holder(setup.ecm_channel_id)
        if setup.super_cas_id not in self.profile.super_cas_ids:
            known = ", ".join(f"0x{one:08X}" for one in sorted(self.profile.super_cas_ids))
            what = f"Super_CAS_id 0x{setup.super_cas_id:08X} is not ours ({known}): set it in the scrambler"
            self._refuse(what, ErrorStatus.INV_SUPER_CAS_ID, setup)
        elif holder is not None:
            # The holder may be the other end's own earlier connection, broken without a word.
            holder.probe(now)
            what = f"channel {setup.ecm_channel_id} is in use on another connection"
            self._refuse(what, ErrorStatus.CHANNEL_ID_IN_USE, setup)
        else:
            self.channel, self._deadline = setup, None
            self._ids.take_channel(setup.ecm_channel_id, self)
            self._events.append(ChannelUp(setup.ecm_channel_id, setup.super_cas_id, version))
            self._say(self.profile.channel_status(setup.ecm_channel_id))

    def _on_stream_message(self, message: Any, now: float) -> None:
        said = type(message)
        if self.channel is None or message.ecm_channel_id != self.channel.ecm_channel_id:
            what = f"{said.message_name} came for channel {message.ecm_channel_id}, which is not open here"
            self._refuse(what, ErrorStatus.INV_ECM_CHANNEL_ID, message)
            return
        stream = self._streams.get(message.ecm_stream_id)
        state = StreamState.NOT_OPEN if stream is None else stream.state
        if (Role.SCS, said) not in STREAM_TRANSITIONS[state]:
            status = OUT_OF_TURN.get((state, said), ErrorStatus.INV_MESSAGE)
            self._refuse(f"{said.message_name} came for a stream that is: {state.value}", status, message)
        elif stream is None:
            self._on_stream_setup(message, now)
        elif said is StreamTest:
            self._say_stream(stream, self._stream_status(message.ecm_stream_id, stream))
        elif said is StreamCloseRequest:
            stream.state = after_stream(state, Role.SCS, said)
            self._drop_stream(message.ecm_stream_id)
            ids = {"ecm_channel_id": message.ecm_channel_id, "ecm_stream_id": message.ecm_stream_id}
            self._say_stream(stream, StreamCloseResponse(**ids))

    def _on_stream_setup(self, setup: StreamSetup, now: float) -> None:
        assert self.channel is not None
        super_cas_id = self.channel.super_cas_id
        holder = self._ids.ecm_holder(super_cas_id, setup.ecm_id)
        shortest = self.profile.min_cp_duration
        if len(self._streams) >= self.profile.streams_max:
            what = f"the channel has {len(self._streams)} streams already"
            self._refuse(what, ErrorStatus.TOO_MANY_STM_CHAN, setup)
        elif self._ids.full:
            what = f"all channels together have {self._ids.streams} streams already"
            self._refuse(what, ErrorStatus.TOO_MANY_STM_ECMG, setup)
        elif setup.nominal_cp_duration < shortest:
            what = f"a crypto-period of {setup.nominal_cp_duration / 10:g} s is shorter than {shortest / 10:g} s"
            self._refuse(what, ErrorStatus.INV_PARAM_VALUE, setup, NOMINAL_CP_DURATION.parameter_type)
        elif holder is not None:
            if holder is not self:
                holder.probe(now)
            self._refuse(f"ECM_id {setup.ecm_id} is in use by another stream", ErrorStatus.ECM_ID_IN_USE, setup)
        else:
            self._ids.take_stream(super_cas_id, setup.ecm_id, self)
            stream = Stream(setup.ecm_id, after_stream(StreamState.NOT_OPEN, Role.SCS, StreamSetup))
            self._streams[setup.ecm_stream_id] = stream
            self._say_stream(stream, self._stream_status(setup.ecm_stream_id, stream))

    def _on_order(self, order: CwProvision, now: float) -> None:
        """Answer a CW_provision with its ECM: the way that must be fast.

        By the table neither the order nor its answer moves an open stream (`STAYS_OPEN`): it is not asked each time.
        """
        stream = self._streams.get(order.ecm_stream_id)
        channel = self.channel
        if stream is None or channel is None or order.ecm_channel_id != channel.ecm_channel_id:
            self._on_stream_message(order, now)
            return
        try:
            words = stream.words(order, self.profile)
            ecm = self._maker.make(order.cp_number, words, stream.criteria(order))
        except OrderRefusedError as error:
            self._refuse(error.what, error.error_status, order, error.parameter_type)
            return
        self.ecms += 1
        self._outgoing.append(
            write_ecm_response(self.protocol_version, channel.ecm_channel_id, order.ecm_stream_id, order.cp_number, ecm)
        )

    def _drop_channel(self) -> None:
        if self.channel is not None:
            for stream_id in list(self._streams):
                self._drop_stream(stream_id)
            self._ids.give_channel(self.channel.ecm_channel_id, self)
            self.channel = None

    def _drop_stream(self, stream_id: int) -> None:
        assert self.channel is not None
        self._ids.give_stream(self.channel.super_cas_id, self._streams.pop(stream_id).ecm_id, self)

    def _stream_status(self, stream_id: int, stream: Stream) -> StreamStatus:
        return StreamStatus(
            ecm_channel_id=self.channel_id,
            ecm_stream_id=stream_id,
            ecm_id=stream.ecm_id,
            access_criteria_transfer_mode=AC_WITH_EVERY_CW,
        )

    @property
    def channel_id(self) -> int:
        """The id of the channel, 0 while there is none."""
        return 0 if self.channel is None else self.channel.ecm_channel_id

    def _refuse(self, what: str, status: ErrorStatus, about: Any, parameter_type: int | None = None) -> None:
        """Answer a message that was understood with an error, in the words of the standard and in ours."""
        stream_id: int | None = getattr(about, "ecm_stream_id", None)
        information = () if parameter_type is None else (parameter_type.to_bytes(2, "big"),)
        self._say_error(about.ecm_channel_id, stream_id, status, information, self.protocol_version)
        self._events.append(Refused(what, status, stream_id))

    def _say_error(
        self, channel_id: int, stream_id: int | None, status: ErrorStatus, information: tuple[bytes, ...], version: int
    ) -> None:
        error: Message
        if stream_id is None:
            self.state = after_channel(self.state, Role.ECMG, ChannelError)
            error = ChannelError(ecm_channel_id=channel_id, error_status=(int(status),), error_information=information)
        else:
            error = StreamError(
                ecm_channel_id=channel_id,
                ecm_stream_id=stream_id,
                error_status=(int(status),),
                error_information=information,
            )
        self._outgoing.append(ECMG_SCS.encode(error, version))

    def _say(self, message: ChannelStatus | ChannelTest | ChannelClose) -> None:
        self.state = after_channel(self.state, Role.ECMG, type(message))
        self._outgoing.append(ECMG_SCS.encode(message, self.protocol_version))

    def _say_stream(self, stream: Stream, message: StreamStatus | StreamCloseResponse) -> None:
        stream.state = after_stream(stream.state, Role.ECMG, type(message))
        self._outgoing.append(ECMG_SCS.encode(message, self.protocol_version))
