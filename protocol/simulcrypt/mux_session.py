"""The MUX's end of EMMG/PDG ⇔ MUX, without I/O: one session per TCP connection, one channel, one stream."""

from collections.abc import Collection

from protocol.errors import RemoteProtocolError
from protocol.simulcrypt.conversation import Role, State
from protocol.simulcrypt.emmg_mux import (
    EMMG_MUX,
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
    DataForm,
    DataProvision,
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
from protocol.simulcrypt.provision import TS_PACKET_SIZE, TS_SYNC_BYTE
from protocol.simulcrypt.schema import ALL_VERSIONS, Decoded, Message, MessageError
from protocol.simulcrypt.session import Session
from protocol.simulcrypt.session_events import (
    BandwidthAsked,
    ChannelOpened,
    DataReceived,
    PeerError,
    StreamOpened,
)


class MuxSession(Session):
    """Serve one EMMG: answer set-ups and tests, allocate bandwidth up to a limit, hand out its data.

    `bandwidth_kbps` is the most that is allocated. A message in a version that is not in `versions` is answered with
    inv_proto_version in a version of ours. What the state forbids, and ids that are not those of the set-up, end the
    session without an answer, as multiplexers do.
    """

    def __init__(self, bandwidth_kbps: int, versions: Collection[int] = ALL_VERSIONS) -> None:
        super().__init__(Role.MUX, max(versions))
        self._bandwidth_max = bandwidth_kbps
        self._versions = frozenset(versions)
        self.channel: ChannelSetup | None = None
        self.stream: StreamSetup | None = None
        self.allocated_kbps = 0

    def allocate(self, bandwidth_kbps: int) -> None:
        """Change the allocation; EMMG is told. Raises LocalProtocolError while there is no stream."""
        self._send(StreamBandwidthAllocation(**self._stream_ids(), bandwidth=bandwidth_kbps))
        self._bandwidth_max = self.allocated_kbps = bandwidth_kbps

    def test(self) -> None:
        """Ask EMMG whether it is still there. Raises LocalProtocolError while there is no stream."""
        self._send(StreamTest(**self._stream_ids()))

    def receive_datagram(self, data: bytes) -> None:
        """Take in one UDP packet, which must hold one data_provision of the open stream; anything else is dropped."""
        try:
            received = EMMG_MUX.decode(data).message
        except MessageError:
            return
        if self.state is State.STREAM_OPEN and isinstance(received, DataProvision) and self._fits(received):
            self._events.append(DataReceived(received.datagram))

    def _take(self, decoded: Decoded, now: float) -> None:
        if self.state is State.CONNECTED and decoded.protocol_version not in self._versions:
            error = ChannelError(
                client_id=0, data_channel_id=0, error_status=(int(ErrorStatus.INV_PROTO_VERSION),), error_information=()
            )
            self._send(error)
            return
        super()._take(decoded, now)

    def _handle(self, decoded: Decoded, before: State, now: float) -> None:
        received = decoded.message
        if isinstance(received, ChannelError | StreamError):
            self._events.append(PeerError(received.message_name, received.error_status, received.error_information))
            return
        if before is not State.CONNECTED and not self._fits(received):
            raise RemoteProtocolError(f"{received.message_name} came with ids that were not set up")
        match received:
            case ChannelSetup():
                self._open_channel(received, decoded.protocol_version)
            case StreamSetup():
                self.stream = received
                self._events.append(StreamOpened(received))
                self._send(self._stream_status(received))
            case StreamBandwidthRequest():
                self._on_request(received)
            case DataProvision():
                self._events.append(DataReceived(received.datagram))
            case StreamCloseRequest():
                self._send(StreamCloseResponse(**self._stream_ids()))
                self.stream, self.allocated_kbps = None, 0
            case ChannelClose():
                self._end("closed by the EMMG", orderly=True)
            case _:
                self._answer_test(received)

    def _open_channel(self, setup: ChannelSetup, protocol_version: int) -> None:
        self.channel = setup
        self.protocol_version = protocol_version
        self._events.append(ChannelOpened(protocol_version, setup))
        self._send(self._channel_status(setup))

    def _on_request(self, request: StreamBandwidthRequest) -> None:
        if request.bandwidth is not None:
            self.allocated_kbps = min(request.bandwidth, self._bandwidth_max)
        self._events.append(BandwidthAsked(request.bandwidth))
        self._send(StreamBandwidthAllocation(**self._stream_ids(), bandwidth=self.allocated_kbps))

    def _answer_test(self, received: Message) -> None:
        if isinstance(received, ChannelTest) and self.channel is not None:
            self._send(self._channel_status(self.channel))
        elif isinstance(received, StreamTest) and self.stream is not None:
            self._send(self._stream_status(self.stream))

    def _fits(self, received: Message) -> bool:
        """Tell whether the ids are those of channel and stream, and the data what the channel carries."""
        for setup in (self.channel, self.stream):
            for name in ("client_id", "data_channel_id", "data_stream_id", "data_id"):
                own, theirs = getattr(setup, name, None), getattr(received, name, None)
                if own is not None and theirs is not None and own != theirs:
                    return False
        if (
            isinstance(received, DataProvision)
            and self.channel
            and self.channel.section_tspkt_flag == DataForm.TS_PACKET
        ):
            return all(
                len(datagram) % TS_PACKET_SIZE == 0 and set(datagram[::TS_PACKET_SIZE]) <= {TS_SYNC_BYTE}
                for datagram in received.datagram
            )
        return True

    def _fault_answer(self, error: MessageError) -> Message:
        # The ids of a message that cannot be read are not known: client_id is 0 in the answer.
        channel_id = 0 if self.channel is None else self.channel.data_channel_id
        return ChannelError(
            client_id=0,
            data_channel_id=channel_id,
            error_status=(error.error_status,),
            error_information=error.error_information,
        )

    def _stream_ids(self) -> dict[str, int]:
        stream = self.stream
        names = ("client_id", "data_channel_id", "data_stream_id")
        return {name: 0 if stream is None else getattr(stream, name) for name in names}

    @staticmethod
    def _channel_status(setup: ChannelSetup) -> ChannelStatus:
        return ChannelStatus(
            client_id=setup.client_id,
            data_channel_id=setup.data_channel_id,
            section_tspkt_flag=setup.section_tspkt_flag,
        )

    @staticmethod
    def _stream_status(setup: StreamSetup) -> StreamStatus:
        return StreamStatus(
            client_id=setup.client_id,
            data_channel_id=setup.data_channel_id,
            data_stream_id=setup.data_stream_id,
            data_id=setup.data_id,
            data_type=setup.data_type,
        )
