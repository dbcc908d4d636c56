"""The MUX session: answers, allocation, silence on state errors, channel_error on syntax errors; both ends as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import LocalProtocolError
from protocol.simulcrypt.emmg_mux import (
    EMMG_MUX,
    ChannelClose,
    ChannelError,
    ChannelSetup,
    ChannelStatus,
    ChannelTest,
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
from protocol.simulcrypt.emmg_session import EmmgSession, EmmgSettings
from protocol.simulcrypt.mux_session import MuxSession
from protocol.simulcrypt.schema import Message
from protocol.simulcrypt.session import Session
from protocol.simulcrypt.session_events import (
    BandwidthAllocated,
    BandwidthAsked,
    ChannelOpened,
    DataReceived,
    PeerError,
    SessionClosed,
    StreamOpened,
    VersionChanged,
)
from tests.support.dialogue import Dialogue
from tests.support.simulcrypt_strategies import messages, mutated

CHANNEL = {"client_id": 0x4AE60001, "data_channel_id": 5}
STREAM = {**CHANNEL, "data_stream_id": 6}
SETUP = ChannelSetup(**CHANNEL, section_tspkt_flag=0)
STREAM_SETUP = StreamSetup(**STREAM, data_id=7, data_type=0)
DATA = DataProvision(**STREAM, data_id=7, datagram=(b"one", b"two"))
SECTION = b"\x82\x70\x0d" + bytes(13)


class Mux(Dialogue):
    """A MUX session, talking to an EMMG that is us."""

    session: MuxSession

    def __init__(self, kbps: int = 100, versions: tuple[int, ...] = (1, 2, 3, 4, 5), peer_version: int = 2) -> None:
        super().__init__(MuxSession(kbps, versions), peer_version)

    def with_stream(self) -> "Mux":
        self.hears(SETUP, STREAM_SETUP)
        self.sent()
        return self


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_it_answers_set_up_request_and_close_in_the_version_it_was_spoken_to(version: int) -> None:
    mux = Mux(kbps=100, peer_version=version)
    mux.hears(SETUP)
    mux.says(ChannelStatus(**CHANNEL, section_tspkt_flag=0))
    assert mux.versions_said() == {version}
    mux.hears(STREAM_SETUP)
    mux.says(StreamStatus(**STREAM, data_id=7, data_type=0))
    mux.hears(StreamBandwidthRequest(**STREAM, bandwidth=300))
    mux.says(StreamBandwidthAllocation(**STREAM, bandwidth=100))
    mux.hears(DATA)
    assert mux.happened(DataReceived).datagrams == (b"one", b"two")
    mux.hears(StreamCloseRequest(**STREAM))
    mux.says(StreamCloseResponse(**STREAM))
    mux.hears(ChannelClose(**CHANNEL))
    assert mux.ended().orderly
    assert mux.happened(ChannelOpened).protocol_version == version
    assert mux.happened(StreamOpened).setup == STREAM_SETUP
    assert mux.happened(BandwidthAsked).bandwidth_kbps == 300


def test_tests_are_answered_and_can_be_asked() -> None:
    mux = Mux().with_stream()
    mux.hears(ChannelTest(**CHANNEL), StreamTest(**STREAM))
    mux.says(ChannelStatus(**CHANNEL, section_tspkt_flag=0), StreamStatus(**STREAM, data_id=7, data_type=0))
    mux.session.test()
    mux.says(StreamTest(**STREAM))
    mux.hears(StreamStatus(**STREAM, data_id=7, data_type=0))
    mux.says_nothing()


def test_the_allocation_can_be_changed_while_there_is_a_stream() -> None:
    mux = Mux()
    with pytest.raises(LocalProtocolError):
        mux.session.allocate(50)
    mux.with_stream()
    mux.session.allocate(50)
    mux.says(StreamBandwidthAllocation(**STREAM, bandwidth=50))
    mux.hears(StreamBandwidthRequest(**STREAM, bandwidth=300))
    mux.says(StreamBandwidthAllocation(**STREAM, bandwidth=50))
    mux.hears(StreamBandwidthRequest(**STREAM))
    mux.says(StreamBandwidthAllocation(**STREAM, bandwidth=50))


def test_a_stream_can_be_set_up_again_after_its_close() -> None:
    mux = Mux().with_stream()
    mux.hears(StreamCloseRequest(**STREAM), StreamSetup(**CHANNEL, data_stream_id=9, data_id=7, data_type=0))
    mux.says(StreamCloseResponse(**STREAM), StreamStatus(**CHANNEL, data_stream_id=9, data_id=7, data_type=0))


@pytest.mark.parametrize(
    "message",
    [
        DataProvision(**STREAM, data_id=8, datagram=(b"x",)),
        DataProvision(client_id=1, data_id=7, datagram=(b"x",)),
        SETUP,
        STREAM_SETUP,
        StreamTest(**CHANNEL, data_stream_id=9),
        StreamCloseResponse(**STREAM),
    ],
)
def test_state_errors_and_wrong_ids_end_in_silence(message: Message) -> None:
    mux = Mux().with_stream()
    mux.hears(message)
    assert mux.session.closed
    mux.says_nothing()


@pytest.mark.parametrize("message", [STREAM_SETUP, DATA, ChannelTest(**CHANNEL)])
def test_nothing_comes_before_channel_setup(message: Message) -> None:
    mux = Mux()
    mux.hears(message)
    assert mux.session.closed
    mux.says_nothing()


def test_in_packet_mode_wrong_sync_bytes_end_the_session() -> None:
    mux = Mux()
    mux.hears(ChannelSetup(**CHANNEL, section_tspkt_flag=1), STREAM_SETUP)
    packets = (b"\x47" + bytes(187)) * 2
    mux.hears(DataProvision(**STREAM, data_id=7, datagram=(packets,)))
    assert mux.happened(DataReceived).datagrams == (packets,)
    mux.hears(DataProvision(**STREAM, data_id=7, datagram=(bytes(188),)))
    assert mux.session.closed


def test_syntax_errors_get_channel_error_with_client_id_0_and_the_third_closes() -> None:
    mux = Mux().with_stream()
    for _ in range(3):
        assert not mux.session.closed
        mux.hears_bytes(bytes.fromhex("02 0112 0000"))
        mux.says(
            ChannelError(
                client_id=0,
                data_channel_id=5,
                error_status=(ErrorStatus.MISSING_PARAM,),
                error_information=(b"\x00\x01",),
            )
        )
    assert mux.session.closed


@pytest.mark.parametrize("version", [4, 9])
def test_a_foreign_version_is_refused_in_a_version_of_its_own(version: int) -> None:
    mux = Mux(versions=(2, 3))
    mux.hears_bytes(bytes([version]) + EMMG_MUX.encode(SETUP, 2)[1:])
    mux.says(ChannelError(client_id=0, data_channel_id=0, error_status=(2,)))
    assert mux.versions_said() == {3}
    mux.hears(SETUP)
    mux.says(ChannelStatus(**CHANNEL, section_tspkt_flag=0))


def test_errors_are_noted_and_never_answered() -> None:
    mux = Mux().with_stream()
    mux.hears(StreamError(**STREAM, error_status=(0x7000,)))
    assert mux.happened(PeerError).error_status == (0x7000,)
    mux.says_nothing()


def test_data_over_udp_is_taken_for_the_open_stream_only() -> None:
    mux = Mux()
    data = EMMG_MUX.encode(DataProvision(client_id=0x4AE60001, data_id=7, datagram=(b"x",)), 2)
    mux.session.receive_datagram(data)
    mux.with_stream()
    mux.session.receive_datagram(data[:-1])
    mux.session.receive_datagram(EMMG_MUX.encode(DataProvision(client_id=1, data_id=7, datagram=(b"y",)), 2))
    mux.session.receive_datagram(data)
    assert mux.happened(DataReceived).datagrams == (b"x",)
    assert not mux.session.closed


def shuttle(emmg: EmmgSession, mux: MuxSession, now: float) -> None:
    """Carry bytes both ways, one by one, until both are silent."""
    while (up := emmg.data_to_send()) or (down := mux.data_to_send()):
        for byte in up:
            mux.receive(bytes([byte]), now)
        if not up:
            for byte in down:
                emmg.receive(bytes([byte]), now)


@pytest.mark.parametrize("mux_versions", [(1,), (2,), (3,), (4,), (5,), (2, 3)])
@pytest.mark.parametrize("own", [1, 2, 5])
def test_both_ends_understand_each_other_in_every_pair_of_versions(own: int, mux_versions: tuple[int, ...]) -> None:
    settings = EmmgSettings(**STREAM, data_id=7, bandwidth_kbps=200, protocol_version=own)
    emmg, mux = EmmgSession(settings), MuxSession(120, mux_versions)
    emmg.start(0)
    shuttle(emmg, mux, 0)
    assert emmg.ready
    assert emmg.protocol_version in mux_versions
    events = emmg.events()
    assert BandwidthAllocated(120) in events
    assert any(isinstance(event, VersionChanged) for event in events) is (own not in mux_versions)
    for message in emmg.provision([SECTION] * 3):
        mux.receive(message, 1)
    assert DataReceived((SECTION,) * 3) in mux.events()
    emmg.close(2)
    shuttle(emmg, mux, 2)
    assert mux.closed
    assert SessionClosed("closed by us", orderly=True) in emmg.events()


@pytest.mark.slow
@given(st.data())
def test_no_dialogue_makes_a_session_raise(data: st.DataObject) -> None:
    now = 0.0
    settings = EmmgSettings(**STREAM, data_id=7, bandwidth_kbps=200, protocol_version=data.draw(st.integers(1, 5)))
    emmg = EmmgSession(settings)
    session: Session = data.draw(st.sampled_from((emmg, MuxSession(100))))
    if session is emmg:
        emmg.start(now)
    usual = [
        SETUP,
        STREAM_SETUP,
        ChannelStatus(**CHANNEL, section_tspkt_flag=0),
        StreamStatus(**STREAM, data_id=7, data_type=0),
        StreamBandwidthAllocation(**STREAM, bandwidth=100),
        StreamBandwidthRequest(**STREAM, bandwidth=100),
        DATA,
        ChannelTest(**CHANNEL),
        StreamTest(**STREAM),
        StreamCloseRequest(**STREAM),
        ChannelError(client_id=0, data_channel_id=0, error_status=(2,)),
        ChannelError(client_id=0, data_channel_id=0, error_status=(0x0C,)),
    ]
    for _ in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.sampled_from((0.0, 1.0, 40.0)))
        message, version = data.draw(
            st.tuples(st.sampled_from(usual), st.integers(1, 5)) | messages(EMMG_MUX), label="peer says"
        )
        whole = EMMG_MUX.encode(message, version)
        session.receive(data.draw(st.just(whole) | mutated(whole)), now)
        if session is emmg:
            emmg.handle_timer(now)
            if data.draw(st.sampled_from((False, False, False, True))):
                emmg.close(now)
        session.data_to_send()
    closed = [event for event in session.events() if isinstance(event, SessionClosed)]
    assert len(closed) == int(session.closed)
