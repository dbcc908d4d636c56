"""The EMMG's end of EMMG/PDG ⇔ MUX, without I/O: one session per TCP connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import EncodeError, LocalProtocolError, RemoteProtocolError
from protocol.simulcrypt.conversation import Role, State
from protocol.simulcrypt.emmg_mux import (
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
    DataForm,
    DataProvision,
    DataType,
    ErrorStatus,
    StreamBandwidthAllocation,
    StreamBandwidthRequest,
    StreamCloseRequest,
    StreamCloseResponse,
    StreamError,
    StreamSetup,
    StreamStatus,
    StreamTest,
)
from protocol.simulcrypt.error_advice import advice, fatal, spell
from protocol.simulcrypt.frame import MESSAGE_MAX
from protocol.simulcrypt.provision import ProvisionFramer
from protocol.simulcrypt.schema import ALL_VERSIONS, Decoded, Message, MessageError
from protocol.simulcrypt.session import Session
from protocol.simulcrypt.session_events import (
    BandwidthAllocated,
    ChannelOpened,
    PeerError,
    StreamOpened,
    VersionChanged,
)

# The largest UDP payload that an Ethernet frame carries unfragmented: 1500 - 20 (IP) - 8 (UDP).
UDP_MESSAGE_MAX: Final = 1472
# Which versions to try after a refusal that does not name another: the usual ones first.
_FALLBACK: Final = (2, 3, 1, 4, 5)


@dataclass(frozen=True, kw_only=True)
class EmmgSettings:
    """What an EMMG must know of its multiplexer. Rates in kbit/s (1..65535), times in seconds, sizes in bytes."""

    client_id: int
    data_channel_id: int
    data_stream_id: int
    data_id: int
    bandwidth_kbps: int
    protocol_version: int = 2
    form: DataForm = DataForm.SECTION
    data_type: DataType = DataType.EMM
    data_over_udp: bool = False
    datagrams_per_message: int = 7
    message_bytes_max: int = MESSAGE_MAX
    test_interval_s: float = 30.0
    answer_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.bandwidth_kbps <= 0xFFFF:
            # A MUX that is asked for nothing may put in one packet and then none.
            raise EncodeError("bandwidth_kbps must be 1..65535")
        if self.data_over_udp and self.protocol_version == 1:
            raise EncodeError("protocol version 1 has no data over UDP: choose version 2 or later, or TCP")


class EmmgSession(Session):
    """Set up channel and stream, ask for bandwidth, keep the connection tested, close politely.

    Call `start` once connected, `receive` with what comes, `handle_timer` at `timer()`. The stream may carry data when
    `ready`; then `provision` spells datagrams as messages, to be sent on the same connection behind `data_to_send()`,
    or over UDP. The rate sent is the owner's business: `allocated_kbps` says what is allowed (I11).
    """

    def __init__(self, settings: EmmgSettings) -> None:
        super().__init__(Role.EMMG, settings.protocol_version)
        self.settings = settings
        self.allocated_kbps: int | None = None
        self._refused_versions: set[int] = set()
        self._deadlines: dict[type[Message], float] = {}
        self._next_test: float | None = None
        self._closing = False
        self._with_data_id = settings.protocol_version > 1
        self._framer: ProvisionFramer | None = None

    @property
    def ready(self) -> bool:
        """Whether data may be sent: the stream is open, a bandwidth above 0 is allocated, nobody is closing."""
        return self.state is State.STREAM_OPEN and bool(self.allocated_kbps) and not self._closing

    def start(self, now: float) -> None:
        """Begin the set-up; the connection has just been made."""
        own = self.settings
        setup = ChannelSetup(
            client_id=own.client_id, data_channel_id=own.data_channel_id, section_tspkt_flag=int(own.form)
        )
        self._ask(setup, ChannelStatus, now)

    def provision(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Return data_provision messages with these datagrams.

        Raises LocalProtocolError while not `ready`, EncodeError for a datagram that is not exactly one section (or not
        whole TS packets, in packet mode) or does not fit a message.
        """
        if not self.ready or self._framer is None:
            raise LocalProtocolError("no data before the stream is open and has a bandwidth")
        return self._framer.messages(datagrams)

    def request_bandwidth(self, now: float) -> None:
        """Ask again for the bandwidth of the settings."""
        self._ask(
            StreamBandwidthRequest(**self._stream_ids(), bandwidth=self.settings.bandwidth_kbps),
            StreamBandwidthAllocation,
            now,
        )

    def close(self, now: float) -> None:
        """Begin the orderly close: stream_close_request, then channel_close. Ends by SessionClosed(orderly=True)."""
        if self._closing or self.closed:
            return
        self._closing = True
        self._deadlines.clear()
        self._next_test = None
        if self.state is State.STREAM_OPEN:
            self._ask(StreamCloseRequest(**self._stream_ids()), StreamCloseResponse, now)
        else:
            self._close_channel()

    def timer(self) -> float | None:
        """Return when `handle_timer` must be called at the latest; None: not at all."""
        due = list(self._deadlines.values())
        if self._next_test is not None:
            due.append(self._next_test)
        return None if self.closed or not due else min(due)

    def handle_timer(self, now: float) -> None:
        """Do what is due: give up on an answer that did not come, test the connection."""
        if self.closed:
            return
        overdue = [answer for answer, deadline in self._deadlines.items() if deadline <= now]
        if overdue and self._closing:
            self._close_channel()
        elif overdue:
            self._end(
                f"no {overdue[0].message_name} within {self.settings.answer_timeout_s:g} s",
                "the multiplexer may serve another EMMG already, or hang: look at its EMMG inputs",
            )
        elif self._next_test is not None and self._next_test <= now:
            self._test(now)

    def _test(self, now: float) -> None:
        if self.state is State.STREAM_OPEN:
            self._ask(ChannelTest(**self._channel_ids()), ChannelStatus, now)
            self._ask(StreamTest(**self._stream_ids()), StreamStatus, now)
            if not self.allocated_kbps:
                self.request_bandwidth(now)
        self._next_test = now + self.settings.test_interval_s

    def _handle(self, decoded: Decoded, before: State, now: float) -> None:
        received = decoded.message
        self._deadlines.pop(type(received), None)
        if self._next_test is not None:
            self._next_test = now + self.settings.test_interval_s
        if isinstance(received, ChannelError | StreamError):
            self._on_error(received, decoded.protocol_version, before, now)
            return
        self._check_ids(received)
        match received:
            case ChannelStatus() if before is State.CHANNEL_SETUP:
                self._on_channel_open(received, now)
            case StreamStatus() if before is State.STREAM_SETUP:
                self._on_stream_open(now)
            case StreamBandwidthAllocation():
                self._on_allocation(received)
            case StreamCloseResponse():
                self._close_channel()
            case ChannelTest():
                self._send(ChannelStatus(**self._channel_ids(), section_tspkt_flag=int(self.settings.form)))
            case StreamTest():
                self._send(StreamStatus(**self._stream_ids(), **self._stream_data()))
            case ChannelClose():
                self._end("the multiplexer closed the channel", "it does so when it is reconfigured or restarted")
            case _:
                pass

    def _on_channel_open(self, status: ChannelStatus, now: float) -> None:
        own = self.settings
        if status.section_tspkt_flag != int(own.form):
            mode = DataForm(status.section_tspkt_flag).name
            raise RemoteProtocolError(f"the multiplexer wants {mode} mode: set the mode of this multiplex to it")
        setup = ChannelSetup(**self._channel_ids(), section_tspkt_flag=int(own.form))
        self._events.append(ChannelOpened(self.protocol_version, setup))
        self._ask(StreamSetup(**self._stream_ids(), **self._stream_data()), StreamStatus, now)

    def _on_stream_open(self, now: float) -> None:
        own = self.settings
        self._events.append(StreamOpened(StreamSetup(**self._stream_ids(), **self._stream_data())))
        named = self._channel_ids() if own.data_over_udp else self._stream_ids()
        if own.data_over_udp:
            del named["data_channel_id"]
        self._framer = ProvisionFramer(
            DataProvision(**named, data_id=own.data_id if self._with_data_id else None, datagram=(b"",)),
            self.protocol_version,
            own.form,
            own.datagrams_per_message,
            min(own.message_bytes_max, UDP_MESSAGE_MAX) if own.data_over_udp else own.message_bytes_max,
        )
        self._next_test = now + own.test_interval_s
        self.request_bandwidth(now)

    def _on_allocation(self, allocation: StreamBandwidthAllocation) -> None:
        if self._closing:
            return
        stated = allocation.bandwidth is not None
        if allocation.bandwidth is not None:
            self.allocated_kbps = allocation.bandwidth
        elif self.allocated_kbps is None:
            # A MUX that allocates without a figure has accepted what it was asked for.
            self.allocated_kbps = self.settings.bandwidth_kbps
        self._events.append(BandwidthAllocated(self.allocated_kbps or 0, stated))

    def _on_error(self, error: ChannelError | StreamError, version: int, before: State, now: float) -> None:
        self._events.append(PeerError(error.message_name, error.error_status, error.error_information))
        if self._closing:
            self._close_channel()
        elif before is State.CHANNEL_SETUP and ErrorStatus.INV_PROTO_VERSION in error.error_status:
            self._fall_back(version, now)
        elif self._wants_data_id(error, before):
            self._with_data_id = True
            self._ask(StreamSetup(**self._stream_ids(), **self._stream_data()), StreamStatus, now)
        elif before is not State.STREAM_OPEN or any(fatal(status) for status in error.error_status):
            said = ", ".join(spell(status) for status in error.error_status)
            self._end(f"{error.message_name}: {said}", advice(error.error_status[0]))

    def _wants_data_id(self, error: ChannelError | StreamError, before: State) -> bool:
        """Tell whether this is a version 1 peer that wants data_id, which version 1 does not have."""
        missing = ErrorStatus.MISSING_PARAM in error.error_status
        return missing and before is State.STREAM_SETUP and not self._with_data_id

    def _fall_back(self, offered: int, now: float) -> None:
        refused = self.protocol_version
        self._refused_versions.add(refused)
        usable = ALL_VERSIONS - self._refused_versions - ({1} if self.settings.data_over_udp else set[int]())
        following = next((version for version in (offered, *_FALLBACK) if version in usable), None)
        if following is None:
            self._end("the multiplexer refuses every protocol version", advice(ErrorStatus.INV_PROTO_VERSION))
            return
        self.protocol_version = following
        self._with_data_id = following > 1
        self._events.append(VersionChanged(refused, following))
        self.start(now)

    def _fault_answer(self, error: MessageError) -> Message | None:
        if self.state is State.CONNECTED:
            return None
        return ChannelError(
            **self._channel_ids(), error_status=(error.error_status,), error_information=error.error_information
        )

    def _close_channel(self) -> None:
        if self.state not in (State.CONNECTED, State.CHANNEL_SETUP, State.CLOSED):
            self._send(ChannelClose(**self._channel_ids()))
        self._end("closed by us", orderly=True)

    def _ask(self, question: Message, answer: type[Message], now: float) -> None:
        self._send(question)
        self._deadlines[answer] = now + self.settings.answer_timeout_s

    def _check_ids(self, received: Message) -> None:
        for name, own in self._stream_ids().items():
            theirs: int = getattr(received, name, own)
            if theirs != own:
                raise RemoteProtocolError(f"{received.message_name} came with {name} {theirs} instead of {own}")

    def _channel_ids(self) -> dict[str, int]:
        return {"client_id": self.settings.client_id, "data_channel_id": self.settings.data_channel_id}

    def _stream_ids(self) -> dict[str, int]:
        return {**self._channel_ids(), "data_stream_id": self.settings.data_stream_id}

    def _stream_data(self) -> dict[str, int]:
        data_type = {"data_type": int(self.settings.data_type)}
        return {"data_id": self.settings.data_id, **data_type} if self._with_data_id else data_type
