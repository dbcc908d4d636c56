"""The EMMG's session: set-up, bandwidth, tests, time-outs, faults, fall-back, orderly close, data."""

import dataclasses
from collections.abc import Callable

import pytest

from protocol.errors import EncodeError, LocalProtocolError
from protocol.simulcrypt.conversation import State
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
from protocol.simulcrypt.emmg_session import UDP_MESSAGE_MAX, EmmgSession, EmmgSettings
from protocol.simulcrypt.session_events import (
    BandwidthAllocated,
    ChannelOpened,
    MessageRefused,
    PeerError,
    StreamOpened,
    VersionChanged,
)
from tests.support.dialogue import Dialogue

SETTINGS = EmmgSettings(client_id=0x4AE60001, data_channel_id=5, data_stream_id=6, data_id=7, bandwidth_kbps=200)
CHANNEL = {"client_id": 0x4AE60001, "data_channel_id": 5}
STREAM = {**CHANNEL, "data_stream_id": 6}
SECTION = b"\x82\x70\x0d" + bytes(13)


class Emmg(Dialogue):
    """An EMMG session at a chosen stage, talking to a multiplexer that is us."""

    session: EmmgSession

    def __init__(self, byte_by_byte: bool = False, **changes: object) -> None:
        settings = dataclasses.replace(SETTINGS, **changes)
        super().__init__(EmmgSession(settings), settings.protocol_version, byte_by_byte)

    def started(self) -> "Emmg":
        self.session.start(self.now)
        self.says(ChannelSetup(**CHANNEL, section_tspkt_flag=int(self.session.settings.form)))
        return self

    def with_channel(self) -> "Emmg":
        self.started()
        self.hears(ChannelStatus(**CHANNEL, section_tspkt_flag=int(self.session.settings.form)))
        data_id = None if self.session.protocol_version == 1 else 7
        self.says(StreamSetup(**STREAM, data_id=data_id, data_type=0))
        return self

    def with_stream(self) -> "Emmg":
        self.with_channel()
        self.hears(StreamStatus(**STREAM, data_id=7, data_type=0))
        self.says(StreamBandwidthRequest(**STREAM, bandwidth=200))
        return self

    def ready(self, kbps: int = 150) -> "Emmg":
        self.with_stream()
        self.hears(StreamBandwidthAllocation(**STREAM, bandwidth=kbps))
        return self

    def passes(self, seconds: float) -> None:
        """Time passes; the timer is called when it is due, as an owner does."""
        until = self.now + seconds
        while (due := self.session.timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.session.handle_timer(self.now)
        self.now = until


STAGES: list[Callable[[Emmg], Emmg]] = [Emmg.started, Emmg.with_channel, Emmg.with_stream, Emmg.ready]


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_set_up_always_ends_with_a_bandwidth_request(version: int, byte_by_byte: bool) -> None:
    emmg = Emmg(byte_by_byte, protocol_version=version).ready(kbps=150)
    assert emmg.happened(ChannelOpened).protocol_version == version
    assert emmg.happened(StreamOpened).setup.data_stream_id == 6
    assert emmg.happened(BandwidthAllocated) == BandwidthAllocated(150)
    assert emmg.session.ready


def test_nothing_is_provided_before_a_bandwidth_is_allocated() -> None:
    emmg = Emmg().with_stream()
    with pytest.raises(LocalProtocolError, match="bandwidth"):
        emmg.session.provision([SECTION])
    emmg.hears(StreamBandwidthAllocation(**STREAM, bandwidth=1))
    assert len(emmg.session.provision([SECTION])) == 1


def test_bytes_behind_a_message_are_kept_for_the_next() -> None:
    emmg = Emmg().started()
    status = EMMG_MUX.encode(ChannelStatus(**CHANNEL, section_tspkt_flag=0), 2)
    following = EMMG_MUX.encode(StreamStatus(**STREAM, data_id=7, data_type=0), 2)
    emmg.hears_bytes(status + following[:7])
    assert emmg.session.state is State.STREAM_SETUP
    emmg.hears_bytes(following[7:])
    assert emmg.session.state is State.STREAM_OPEN


@pytest.mark.parametrize("stage", STAGES[:3])
def test_an_answer_that_does_not_come_ends_the_session(stage: Callable[[Emmg], Emmg]) -> None:
    emmg = stage(Emmg(answer_timeout_s=5))
    emmg.passes(4.9)
    assert not emmg.session.closed
    emmg.passes(0.2)
    closed = emmg.ended()
    assert "within 5 s" in closed.reason
    assert "another EMMG" in closed.advice
    assert emmg.session.timer() is None


def test_a_quiet_stream_is_tested_and_a_silent_multiplexer_is_given_up() -> None:
    emmg = Emmg(test_interval_s=30).ready()
    emmg.passes(29.9)
    emmg.says_nothing()
    emmg.passes(0.2)
    emmg.says(ChannelTest(**CHANNEL), StreamTest(**STREAM))
    emmg.hears(ChannelStatus(**CHANNEL, section_tspkt_flag=0), StreamStatus(**STREAM, data_id=7, data_type=0))
    emmg.passes(29)
    emmg.says_nothing()
    emmg.passes(2)
    emmg.says(ChannelTest(**CHANNEL), StreamTest(**STREAM))
    emmg.passes(5)
    assert "no channel_status" in emmg.ended().reason


def test_the_multiplexers_tests_are_answered_at_any_stage() -> None:
    emmg = Emmg().with_channel()
    emmg.hears(ChannelTest(**CHANNEL))
    emmg.says(ChannelStatus(**CHANNEL, section_tspkt_flag=0))
    emmg = Emmg().ready()
    emmg.hears(ChannelTest(**CHANNEL), StreamTest(**STREAM))
    emmg.says(ChannelStatus(**CHANNEL, section_tspkt_flag=0), StreamStatus(**STREAM, data_id=7, data_type=0))


def test_the_allocation_may_change_at_any_time() -> None:
    emmg = Emmg().ready(kbps=150)
    emmg.happened(BandwidthAllocated)
    emmg.hears(StreamBandwidthAllocation(**STREAM, bandwidth=20))
    assert emmg.happened(BandwidthAllocated).bandwidth_kbps == 20
    emmg.hears(StreamBandwidthAllocation(**STREAM, bandwidth=0))
    assert emmg.happened(BandwidthAllocated).bandwidth_kbps == 0
    assert not emmg.session.ready
    assert not emmg.session.closed


def test_with_nothing_allocated_it_asks_again_at_every_test() -> None:
    emmg = Emmg(test_interval_s=30).ready(kbps=0)
    emmg.passes(30)
    emmg.says(ChannelTest(**CHANNEL), StreamTest(**STREAM), StreamBandwidthRequest(**STREAM, bandwidth=200))


def test_an_allocation_without_a_figure_means_what_was_asked_or_what_was_known() -> None:
    emmg = Emmg().with_stream()
    emmg.hears(StreamBandwidthAllocation(**STREAM))
    assert emmg.happened(BandwidthAllocated) == BandwidthAllocated(200, stated=False)
    emmg.hears(StreamBandwidthAllocation(**STREAM, bandwidth=80))
    emmg.happened(BandwidthAllocated)
    emmg.hears(StreamBandwidthAllocation(**STREAM))
    assert emmg.happened(BandwidthAllocated) == BandwidthAllocated(80, stated=False)


def test_a_refused_version_is_followed_by_the_one_the_multiplexer_speaks() -> None:
    emmg = Emmg(protocol_version=4).started()
    emmg.peer_version = 3
    emmg.hears(ChannelError(client_id=0, data_channel_id=0, error_status=(2,)))
    assert emmg.happened(VersionChanged) == VersionChanged(4, 3)
    emmg.says(ChannelSetup(**CHANNEL, section_tspkt_flag=0))
    assert emmg.versions_said() == {3}
    emmg.hears(ChannelStatus(**CHANNEL, section_tspkt_flag=0))
    assert emmg.happened(ChannelOpened).protocol_version == 3


def test_every_version_is_tried_once_and_then_it_gives_up() -> None:
    emmg = Emmg(protocol_version=2).started()
    tried = [2]
    for _ in range(4):
        emmg.hears(ChannelError(client_id=0, data_channel_id=0, error_status=(2,)))
        emmg.sent()
        tried += emmg.versions_said()
    assert sorted(tried) == [1, 2, 3, 4, 5]
    emmg.hears(ChannelError(client_id=0, data_channel_id=0, error_status=(2,)))
    assert "every protocol version" in emmg.ended().reason


def test_data_over_udp_never_falls_back_to_version_1() -> None:
    emmg = Emmg(protocol_version=2, data_over_udp=True).started()
    emmg.peer_version = 1
    emmg.hears(ChannelError(client_id=0, data_channel_id=0, error_status=(2,)))
    assert emmg.happened(VersionChanged).protocol_version != 1


def test_a_version_1_peer_that_wants_data_id_gets_it() -> None:
    emmg = Emmg(protocol_version=1).with_channel()
    emmg.hears(ChannelError(client_id=0, data_channel_id=5, error_status=(0x0C,), error_information=(b"\0\x08",)))
    emmg.says(StreamSetup(**STREAM, data_id=7, data_type=0))
    emmg.hears(ChannelError(client_id=0, data_channel_id=5, error_status=(0x0C,)))
    assert "missing_param" in emmg.ended().reason


@pytest.mark.parametrize("status", [7, 0x0E, 0x11, 0x7001, 0x1234])
def test_an_error_during_set_up_ends_the_session_with_advice(status: int) -> None:
    emmg = Emmg().started()
    emmg.hears(ChannelError(client_id=0, data_channel_id=5, error_status=(status,)))
    assert emmg.happened(PeerError).error_status == (status,)
    closed = emmg.ended()
    assert f"0x{status:04X}" in closed.reason
    assert closed.advice
    emmg.says_nothing()


@pytest.mark.parametrize(
    ("error", "over"),
    [
        (StreamError(**STREAM, error_status=(ErrorStatus.EXCEEDED_BW,)), False),
        (ChannelError(client_id=0, data_channel_id=0, error_status=(ErrorStatus.MESSAGE_TOO_LONG,)), False),
        (StreamError(**STREAM, error_status=(ErrorStatus.INV_DATA_STREAM_ID,)), True),
        (StreamError(**STREAM, error_status=(ErrorStatus.EXCEEDED_BW, ErrorStatus.UNRECOVERABLE)), True),
    ],
)
def test_an_open_stream_outlives_errors_about_messages_and_rate_only(
    error: ChannelError | StreamError, over: bool
) -> None:
    emmg = Emmg().ready()
    emmg.hears(error)
    assert emmg.happened(PeerError).error_status == error.error_status
    assert emmg.session.closed is over
    emmg.says_nothing()


def test_a_message_that_cannot_be_read_is_answered_with_its_error_status() -> None:
    emmg = Emmg().ready()
    emmg.hears_bytes(bytes.fromhex("02 0999 0000"))
    emmg.says(ChannelError(**CHANNEL, error_status=(ErrorStatus.INV_MESSAGE_TYPE,)))
    assert emmg.happened(MessageRefused).error_status == ErrorStatus.INV_MESSAGE_TYPE
    assert not emmg.session.closed


@pytest.mark.parametrize("message_type", ["0015", "0116"])
def test_an_unreadable_error_is_never_answered(message_type: str) -> None:
    emmg = Emmg().ready()
    emmg.hears_bytes(bytes.fromhex(f"02 {message_type} 0000"))
    emmg.says_nothing()
    assert emmg.happened(MessageRefused).error_status == ErrorStatus.MISSING_PARAM


def test_the_third_unreadable_message_in_a_row_ends_the_session() -> None:
    bad = bytes.fromhex("02 0999 0000")
    emmg = Emmg().ready()
    emmg.hears_bytes(bad * 2)
    emmg.hears(StreamTest(**STREAM))
    emmg.hears_bytes(bad * 2)
    assert not emmg.session.closed
    emmg.hears_bytes(bad)
    assert "3 messages in a row" in emmg.ended().reason


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Emmg.started, StreamStatus(**STREAM, data_id=7, data_type=0)),
        (Emmg.ready, StreamCloseResponse(**STREAM)),
        (Emmg.ready, ChannelSetup(**CHANNEL, section_tspkt_flag=0)),
        (Emmg.ready, DataProvision(**STREAM, data_id=7, datagram=(b"",))),
        (Emmg.ready, StreamBandwidthAllocation(**CHANNEL, data_stream_id=9, bandwidth=100)),
        (Emmg.ready, ChannelTest(client_id=0x4AE60001, data_channel_id=9)),
    ],
)
def test_what_the_state_forbids_and_foreign_ids_end_the_session(
    stage: Callable[[Emmg], Emmg], message: ChannelTest
) -> None:
    emmg = stage(Emmg())
    emmg.hears(message)
    assert message.message_name in emmg.ended().reason
    emmg.says_nothing()


def test_a_multiplexer_in_the_other_mode_is_named_as_such() -> None:
    emmg = Emmg().started()
    emmg.hears(ChannelStatus(**CHANNEL, section_tspkt_flag=1))
    assert "wants TS_PACKET mode" in emmg.ended().reason


def test_the_orderly_close_closes_stream_and_channel() -> None:
    emmg = Emmg().ready()
    emmg.session.close(emmg.now)
    emmg.says(StreamCloseRequest(**STREAM))
    assert not emmg.session.ready
    emmg.hears(StreamBandwidthAllocation(**STREAM, bandwidth=10), StreamCloseResponse(**STREAM))
    emmg.says(ChannelClose(**CHANNEL))
    assert emmg.ended().orderly


def test_the_orderly_close_does_not_wait_for_ever() -> None:
    emmg = Emmg(answer_timeout_s=5).ready()
    emmg.session.close(emmg.now)
    emmg.says(StreamCloseRequest(**STREAM))
    emmg.passes(5)
    emmg.says(ChannelClose(**CHANNEL))
    assert emmg.ended().orderly


@pytest.mark.parametrize("stage", STAGES)
def test_it_can_be_closed_at_every_stage(stage: Callable[[Emmg], Emmg]) -> None:
    emmg = stage(Emmg())
    emmg.session.close(emmg.now)
    emmg.session.close(emmg.now)
    emmg.passes(10)
    assert emmg.ended().orderly


def test_a_close_by_the_multiplexer_is_taken_note_of() -> None:
    emmg = Emmg().ready()
    emmg.hears(ChannelClose(**CHANNEL))
    assert "closed the channel" in emmg.ended().reason


def test_a_lost_connection_ends_the_session_once() -> None:
    emmg = Emmg().ready()
    emmg.session.connection_lost()
    emmg.session.connection_lost()
    assert not emmg.ended().orderly
    emmg.hears(ChannelTest(**CHANNEL))
    emmg.says_nothing()


def test_data_over_udp_leaves_out_the_ids_of_channel_and_stream() -> None:
    emmg = Emmg(data_over_udp=True).ready()
    (message,) = emmg.session.provision([SECTION])
    assert EMMG_MUX.decode(message).message == DataProvision(client_id=0x4AE60001, data_id=7, datagram=(SECTION,))


def test_a_message_over_udp_fits_one_ethernet_frame() -> None:
    emmg = Emmg(data_over_udp=True, datagrams_per_message=200).ready()
    sizes = [len(message) for message in emmg.session.provision([SECTION] * 200)]
    assert max(sizes) <= UDP_MESSAGE_MAX
    assert len(sizes) > 1


def test_version_1_names_channel_and_stream_and_no_data_id() -> None:
    emmg = Emmg(protocol_version=1).ready()
    (message,) = emmg.session.provision([SECTION])
    assert EMMG_MUX.decode(message).message == DataProvision(**STREAM, datagram=(SECTION,))


def test_packet_mode_takes_ts_packets_only() -> None:
    emmg = Emmg(form=DataForm.TS_PACKET).ready()
    packet = b"\x47" + bytes(187)
    assert len(emmg.session.provision([packet, packet * 7])) == 1
    for wrong in (b"", packet[:-1], bytes(188), packet + b"\x46" + bytes(187), SECTION):
        with pytest.raises(EncodeError, match=r"TS packet"):
            emmg.session.provision([wrong])


def test_section_mode_takes_exactly_one_section_in_a_datagram() -> None:
    emmg = Emmg().ready()
    for wrong in (b"", b"\x82\x70", SECTION + SECTION, SECTION[:-1]):
        with pytest.raises(EncodeError, match="one section"):
            emmg.session.provision([wrong])


@pytest.mark.parametrize("changes", [{"bandwidth_kbps": 0}, {"data_over_udp": True, "protocol_version": 1}])
def test_settings_that_cannot_work_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(EncodeError):
        dataclasses.replace(SETTINGS, **changes)
