"""The ECMG's session: who may say what when, what is answered to whom, and what stays open."""

from typing import Any

import pytest

from protocol.errors import EncodeError
from protocol.simulcrypt.ecmg.conversation import (
    CHANNEL_TRANSITIONS,
    OUT_OF_TURN,
    STAYS_OPEN,
    STREAM_TRANSITIONS,
    ChannelState,
    Role,
    StreamState,
)
from protocol.simulcrypt.ecmg.events import ChannelDown, ChannelUp, Refused
from protocol.simulcrypt.ecmg.ids import IdsInUse
from protocol.simulcrypt.ecmg.profile import EcmgProfile
from protocol.simulcrypt.ecmg.session import EcmgSession
from protocol.simulcrypt.ecmg_scs import (
    ChannelClose,
    ChannelError,
    ChannelStatus,
    ChannelTest,
    EcmResponse,
    ErrorStatus,
    StreamCloseRequest,
    StreamCloseResponse,
    StreamTest,
)
from protocol.simulcrypt.session_events import PeerError
from tests.support.ecmg_dialogue import (
    CRITERIA,
    SUPER_CAS_ID,
    EcmgDialogue,
    channel_error,
    channel_setup,
    provision,
    response,
    stream_error,
    stream_setup,
    stream_status,
)


@pytest.mark.parametrize("byte_by_byte", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_whole_conversation(version: int, byte_by_byte: bool) -> None:
    scs = EcmgDialogue(version=version, byte_by_byte=byte_by_byte)
    scs.hears(channel_setup())
    scs.says(scs.profile.channel_status(1))
    scs.hears(stream_setup(7))
    scs.says(stream_status(7))
    for cp in (5, 6, 7):
        scs.hears(provision(cp, stream=7))
        scs.says(response(cp, stream=7))
    scs.hears(ChannelTest(ecm_channel_id=1), StreamTest(ecm_channel_id=1, ecm_stream_id=7))
    scs.says(scs.profile.channel_status(1), stream_status(7))
    assert scs.versions_said == {version}
    scs.hears(StreamCloseRequest(ecm_channel_id=1, ecm_stream_id=7))
    scs.says(StreamCloseResponse(ecm_channel_id=1, ecm_stream_id=7))
    scs.hears(ChannelClose(ecm_channel_id=1))
    scs.says()
    assert scs.happened(ChannelUp) == [ChannelUp(1, SUPER_CAS_ID, version)]
    assert scs.happened(ChannelDown) == [ChannelDown(1)]
    assert scs.happened(Refused) == []
    assert scs.session.ecms == 3
    assert not scs.session.closed


def test_the_channel_status_says_what_the_profile_says() -> None:
    scs = EcmgDialogue(
        section_tspkt_flag=1,
        delay_start=-250,
        delay_stop=50,
        min_cp_duration=70,
        streams_max=9,
        lead_cw=0,
        cw_per_msg=1,
    )
    scs.hears(channel_setup())
    (status,) = scs.sent()
    assert status == ChannelStatus(
        ecm_channel_id=1,
        section_tspkt_flag=1,
        ac_delay_start=-250,
        ac_delay_stop=50,
        delay_start=-250,
        delay_stop=50,
        transition_delay_start=-500,
        transition_delay_stop=0,
        ecm_rep_period=100,
        max_streams=9,
        min_cp_duration=70,
        lead_cw=0,
        cw_per_msg=1,
        max_comp_time=100,
    )


def test_requests_in_one_piece_are_answered_in_their_order() -> None:
    scs = EcmgDialogue()
    scs.hears(
        channel_setup(), stream_setup(1), stream_setup(2), *[provision(cp, stream=1 + cp % 2) for cp in range(50)]
    )
    scs.says(
        scs.profile.channel_status(1),
        stream_status(1),
        stream_status(2),
        *[response(cp, stream=1 + cp % 2) for cp in range(50)],
    )


def test_the_crypto_period_after_65535_is_0() -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(65535), provision(0))
    scs.says(response(65535, 65535, 0), response(0))


@pytest.mark.parametrize(
    ("lead_cw", "cw_per_msg", "sent", "used"),
    [
        (0, 1, [0], [0]),
        (1, 2, [0, 1], [0, 1]),
        (0, 2, [-1, 0], [0]),
        (1, 3, [-1, 0, 1], [0, 1]),
        (0, 3, [-2, -1, 0], [0]),
    ],
)
def test_every_declared_combination_of_words(lead_cw: int, cw_per_msg: int, sent: list[int], used: list[int]) -> None:
    scs = EcmgDialogue(lead_cw=lead_cw, cw_per_msg=cw_per_msg)
    scs.opens(1)
    for cp in (40_000, 40_001):
        scs.hears(provision(cp, *[cp + ahead for ahead in sent]))
        scs.says(response(cp, *[cp + ahead for ahead in used]))


def test_words_that_come_one_at_a_time_are_kept_for_the_next_ecm() -> None:
    scs = EcmgDialogue(lead_cw=1, cw_per_msg=1)
    scs.opens(1, 2)
    scs.hears(provision(65534, 65535), provision(65535, 0), provision(0, 1))
    scs.says(stream_error(ErrorStatus.NOT_ENOUGH_CW, blame=0x14), response(65535, 65535, 0), response(0, 0, 1))
    scs.hears(provision(0, 1, stream=2))
    scs.says(stream_error(ErrorStatus.NOT_ENOUGH_CW, stream=2, blame=0x14))


def test_words_are_not_kept_where_every_message_has_them_all() -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5), provision(6, 7))
    scs.says(response(5), stream_error(ErrorStatus.NOT_ENOUGH_CW, blame=0x14))
    assert scs.session._streams[1].kept == {}


@pytest.mark.parametrize("periods", [(5,), (6,), (4, 5), (7, 8)])
def test_too_few_or_other_words_are_refused(periods: tuple[int, ...]) -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5, *periods))
    scs.says(stream_error(ErrorStatus.NOT_ENOUGH_CW, blame=0x14))
    scs.hears(provision(5))
    scs.says(response(5))


def test_more_words_in_any_order_do_no_harm() -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5, 6, 4, 5, 7))
    scs.says(response(5))


def test_words_of_sixteen_bytes() -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5, size=16))
    scs.says(response(5, size=16))


@pytest.mark.parametrize("size", [0, 1, 7, 9, 15])
def test_words_of_no_known_size_are_refused(size: int) -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5, size=size))
    scs.says(stream_error(ErrorStatus.INV_PARAM_LENGTH, blame=0x14))


def test_encrypted_words_are_refused_and_never_sealed_as_they_are() -> None:
    scs = EcmgDialogue()
    scs.opens(1)
    scs.hears(provision(5, cw_encryption=b"\x01"))
    scs.says(stream_error(ErrorStatus.INV_PARAM_VALUE, blame=0x18))
    assert scs.maker.asked == []


class TestAccessCriteria:
    """An ECM is never made for anybody but those whom the scrambler has named."""

    def test_criteria_that_do_not_change_may_be_left_out(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(provision(5), provision(6, criteria=None))
        scs.says(response(5), response(6))
        assert {criteria for _, _, criteria in scs.maker.asked} == {CRITERIA}

    def test_without_any_there_is_no_ecm(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1, 2)
        scs.hears(provision(5), provision(5, stream=2, criteria=None))
        scs.says(response(5), stream_error(ErrorStatus.MISSING_PARAM, stream=2, blame=0x0D))

    def test_unknown_ones_are_refused_and_the_former_hold_no_more(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(provision(5), provision(6, criteria=b"other"), provision(7, criteria=None), provision(8))
        refused = stream_error(ErrorStatus.INV_PARAM_VALUE, blame=0x0D)
        scs.says(response(5), refused, refused, response(8))

    def test_a_stream_set_up_again_begins_without(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(provision(5), StreamCloseRequest(ecm_channel_id=1, ecm_stream_id=1), stream_setup(1))
        scs.hears(provision(6, criteria=None))
        assert scs.sent()[-1] == stream_error(ErrorStatus.MISSING_PARAM, blame=0x0D)


class TestOutOfTurn:
    """State errors are answered with what the standard has for them, and change nothing."""

    def test_data_before_the_channel(self) -> None:
        scs = EcmgDialogue()
        scs.hears(provision(5))
        scs.says(stream_error(ErrorStatus.INV_ECM_CHANNEL_ID))
        scs.hears(stream_setup(3))
        scs.says(stream_error(ErrorStatus.INV_ECM_CHANNEL_ID, stream=3))
        scs.hears(ChannelTest(ecm_channel_id=1))
        scs.says(channel_error(ErrorStatus.INV_ECM_CHANNEL_ID))
        scs.opens(1)

    def test_data_before_the_stream(self) -> None:
        scs = EcmgDialogue()
        scs.opens()
        scs.hears(provision(5), StreamTest(ecm_channel_id=1, ecm_stream_id=1))
        scs.says(stream_error(ErrorStatus.INV_ECM_STREAM_ID), stream_error(ErrorStatus.INV_ECM_STREAM_ID))
        scs.hears(StreamCloseRequest(ecm_channel_id=1, ecm_stream_id=1))
        scs.says(stream_error(ErrorStatus.INV_ECM_STREAM_ID))

    def test_a_second_channel_on_one_connection(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(channel_setup(2), channel_setup(1), provision(5))
        scs.says(
            channel_error(ErrorStatus.INV_ECM_CHANNEL_ID, channel=2),
            channel_error(ErrorStatus.INV_ECM_CHANNEL_ID),
            response(5),
        )

    def test_another_channel_id(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(provision(5, channel=2), ChannelTest(ecm_channel_id=2), ChannelClose(ecm_channel_id=2))
        scs.says(
            stream_error(ErrorStatus.INV_ECM_CHANNEL_ID, channel=2),
            channel_error(ErrorStatus.INV_ECM_CHANNEL_ID, channel=2),
            channel_error(ErrorStatus.INV_ECM_CHANNEL_ID, channel=2),
        )
        scs.hears(provision(5))
        scs.says(response(5))

    def test_a_stream_set_up_twice(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(stream_setup(1, ecm_id=9), provision(5))
        scs.says(stream_error(ErrorStatus.STREAM_ID_IN_USE), response(5))

    def test_an_ecm_for_us(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(EcmResponse(ecm_channel_id=1, ecm_stream_id=1, cp_number=1, ecm_datagram=b"?"))
        scs.says(stream_error(ErrorStatus.INV_MESSAGE))

    def test_after_a_channel_close_the_connection_can_be_used_again(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears(ChannelClose(ecm_channel_id=1), provision(5), channel_setup(8))
        scs.says(stream_error(ErrorStatus.INV_ECM_CHANNEL_ID), scs.profile.channel_status(8))

    def test_errors_are_never_answered(self) -> None:
        scs = EcmgDialogue()
        scs.hears(channel_error(ErrorStatus.UNKNOWN))
        scs.opens(1)
        scs.hears(channel_error(ErrorStatus.UNKNOWN), stream_error(ErrorStatus.OUT_OF_MEM, stream=99))
        scs.says()
        assert [event.error_status for event in scs.happened(PeerError)] == [(0x7000,), (0x7000,), (0x000C,)]


class TestMessagesThatCannotBeRead:
    """Each is answered with its error; the third in a row ends the connection, and none stops what is open before."""

    @pytest.mark.parametrize(
        ("hexadecimal", "answer"),
        [
            ("03 0999 0000", channel_error(ErrorStatus.INV_MESSAGE_TYPE)),
            ("03 0002 0000", channel_error(ErrorStatus.MISSING_PARAM, blame=0x0E)),
            ("03 0002 0007 000e 0003 000001", channel_error(ErrorStatus.INV_PARAM_LENGTH, blame=0x0E)),
            ("03 0002 0008 000e 0002 0001 000f", channel_error(ErrorStatus.INV_MESSAGE)),
            ("03 0002 000b 000e 0002 0001 0042 0001 00", channel_error(ErrorStatus.INV_PARAM_TYPE, blame=0x42)),
            (
                "03 0201 000c 000e 0002 0001 000f 0002 0005",
                stream_error(ErrorStatus.MISSING_PARAM, stream=5, blame=0x12),
            ),
            (
                "03 0102 000d 000e 0002 0001 000f 0003 000005",
                channel_error(ErrorStatus.INV_PARAM_LENGTH, blame=0x0F),
            ),
        ],
    )
    def test_the_error_of_the_standard(self, hexadecimal: str, answer: Any) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears_bytes(bytes.fromhex(hexadecimal))
        scs.says(answer)
        scs.hears(provision(5))
        scs.says(response(5))

    def test_user_defined_parameters_are_passed_over(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears_bytes(bytes.fromhex("03 0002 000c 000e 0002 0001 8001 0002 abcd"))
        scs.says(scs.profile.channel_status(1))

    def test_a_message_that_is_too_long_is_passed_over(self) -> None:
        scs = EcmgDialogue(byte_by_byte=True)
        scs.opens(1)
        scs.hears_bytes(b"\x03\x02\x01\xff\xff")
        scs.says(channel_error(ErrorStatus.MESSAGE_TOO_LONG))
        for _ in range(6):
            scs.session.receive(bytes(10_000), scs.now)
            assert scs.session._splitter.pending == 0
        scs.session.receive(bytes(5_535), scs.now)
        scs.hears(provision(5))
        scs.says(response(5))

    def test_the_third_in_a_row_ends_the_connection(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        bad = bytes.fromhex("03 0999 0000")
        scs.hears_bytes(bad * 2)
        scs.hears(provision(5))
        scs.hears_bytes(bad * 2)
        assert not scs.session.closed
        scs.hears_bytes(bad * 2)
        assert "3 messages in a row" in scs.ended().reason
        assert len(scs.sent()) == 6

    def test_an_error_that_cannot_be_read_is_not_answered_but_counts(self) -> None:
        scs = EcmgDialogue()
        scs.opens(1)
        scs.hears_bytes(bytes.fromhex("03 0005 0000") * 3)
        scs.says()
        scs.ended()


class TestVersions:
    """2 and 3 are spoken; another is refused in a version that the scrambler can fall back to."""

    @pytest.mark.parametrize(("asked", "offered"), [(1, 2), (4, 3), (5, 3), (9, 3)])
    def test_an_unknown_version_is_refused_in_ours(self, asked: int, offered: int) -> None:
        scs = EcmgDialogue()
        scs.hears_bytes(bytes([asked]) + bytes.fromhex("0001 000e 000e 0002 0001 0001 0004 4a750000"))
        scs.says(channel_error(ErrorStatus.INV_PROTO_VERSION))
        assert scs.versions_said == {offered}
        scs.opens(1)

    def test_only_the_versions_of_the_settings(self) -> None:
        scs = EcmgDialogue(versions=frozenset({2}))
        scs.hears(channel_setup())
        assert isinstance(scs.sent()[0], ChannelError)
        scs.version = 2
        scs.opens(1)

    def test_a_scrambler_that_mixes_its_versions_gets_answers_in_that_of_its_set_up(self) -> None:
        scs = EcmgDialogue(version=2)
        scs.opens(1)
        scs.version = 3
        scs.hears(provision(5))
        scs.says(response(5))
        assert scs.versions_said == {2}


class TestIds:
    """Super_CAS_id, channel ids, ECM ids, and how many of each."""

    def test_a_foreign_super_cas_id(self) -> None:
        scs = EcmgDialogue()
        scs.hears(channel_setup(super_cas_id=SUPER_CAS_ID + 1))
        scs.says(channel_error(ErrorStatus.INV_SUPER_CAS_ID))
        assert "0x4A750000" in scs.happened(Refused)[0].what
        scs.opens(1)

    def two(self, **profile: Any) -> tuple[EcmgDialogue, EcmgDialogue]:
        ids: IdsInUse[EcmgSession] = IdsInUse()
        return EcmgDialogue(ids=ids, **profile), EcmgDialogue(ids=ids, **profile)

    def test_a_second_connection_with_a_channel_id_in_use_is_refused(self) -> None:
        first, second = self.two()
        first.opens(1)
        second.hears(channel_setup())
        second.says(channel_error(ErrorStatus.CHANNEL_ID_IN_USE))
        first.says(ChannelTest(ecm_channel_id=1))
        first.hears(first.profile.channel_status(1), provision(5))
        first.says(response(5))
        first.waits(first.profile.answer_timeout_s + 1)
        assert not first.session.closed

    def test_a_holder_that_is_gone_without_a_word_is_found_out_by_that(self) -> None:
        first, second = self.two()
        first.opens(1)
        second.hears(channel_setup())
        second.says(channel_error(ErrorStatus.CHANNEL_ID_IN_USE))
        first.waits(10)
        assert "no answer to channel_test within 10 s" in first.ended().reason
        second.opens(1)

    def test_the_setting_that_tolerates_it(self) -> None:
        ids: IdsInUse[EcmgSession] = IdsInUse(tolerate=True)
        first, second = EcmgDialogue(ids=ids), EcmgDialogue(ids=ids)
        first.opens(1)
        second.opens(1)
        second.session.connection_lost()
        first.hears(provision(5))
        first.says(response(5))
        assert ids.streams == 1

    def test_an_ecm_id_in_use(self) -> None:
        first, second = self.two()
        first.opens(1)
        first.hears(stream_setup(2, ecm_id=1))
        first.says(stream_error(ErrorStatus.ECM_ID_IN_USE, stream=2))
        second.opens(channel=2)
        second.hears(stream_setup(1, channel=2))
        second.says(stream_error(ErrorStatus.ECM_ID_IN_USE, channel=2))
        first.hears(StreamCloseRequest(ecm_channel_id=1, ecm_stream_id=1))
        second.hears(stream_setup(1, channel=2))
        second.says(stream_status(1, channel=2))

    @pytest.mark.parametrize("how", ["close", "lost", "faults", "silence"])
    def test_whatever_ends_a_connection_gives_back_its_ids(self, how: str) -> None:
        first, second = self.two()
        first.opens(1, 2)
        match how:
            case "close":
                first.session.close()
                assert first.sent() == [ChannelClose(ecm_channel_id=1)]
                assert first.ended().orderly
            case "lost":
                first.session.connection_lost()
            case "faults":
                first.hears_bytes(bytes.fromhex("03 0999 0000") * 3)
            case _:
                first.waits(41)
        assert first.session.closed
        second.opens(1, 2)

    def test_streams_of_a_channel_and_of_all_channels_are_limited(self) -> None:
        ids: IdsInUse[EcmgSession] = IdsInUse(streams_max=3)
        first, second = EcmgDialogue(ids=ids, streams_max=2), EcmgDialogue(ids=ids, streams_max=2)
        first.opens(1, 2)
        first.hears(stream_setup(3))
        first.says(stream_error(ErrorStatus.TOO_MANY_STM_CHAN, stream=3))
        second.opens(channel=2)
        second.hears(stream_setup(11, channel=2), stream_setup(12, channel=2))
        second.says(stream_status(11, channel=2), stream_error(ErrorStatus.TOO_MANY_STM_ECMG, stream=12, channel=2))

    def test_a_crypto_period_below_the_declared_one(self) -> None:
        scs = EcmgDialogue(min_cp_duration=50)
        scs.opens()
        scs.hears(stream_setup(1, cp=49))
        scs.says(stream_error(ErrorStatus.INV_PARAM_VALUE, blame=0x10))
        scs.hears(stream_setup(1, cp=50))
        scs.says(stream_status(1))


class TestSilence:
    """A peer that says nothing does not hold a connection for ever."""

    def test_nobody_sets_up_a_channel(self) -> None:
        scs = EcmgDialogue(setup_timeout_s=10)
        scs.waits(9.9)
        assert not scs.session.closed
        scs.waits(0.2)
        assert "no channel_setup within 10 s" in scs.ended().reason

    def test_garbage_before_the_channel_does_not_prolong_it(self) -> None:
        scs = EcmgDialogue(setup_timeout_s=10)
        for _ in range(9):
            scs.waits(1)
            scs.hears(ChannelTest(ecm_channel_id=1))
        scs.waits(1.1)
        scs.ended()

    def test_a_channel_that_is_silent_is_tested_and_lives_when_it_answers(self) -> None:
        scs = EcmgDialogue(test_interval_s=30, answer_timeout_s=10)
        scs.opens(1)
        for _ in range(3):
            scs.waits(31)
            scs.says(ChannelTest(ecm_channel_id=1))
            scs.hears(scs.profile.channel_status(1))
        scs.waits(31)
        scs.says(ChannelTest(ecm_channel_id=1))
        scs.hears(provision(5))
        scs.waits(11)
        assert not scs.session.closed

    def test_a_channel_that_works_is_not_tested(self) -> None:
        scs = EcmgDialogue(test_interval_s=30)
        scs.opens(1)
        for cp in range(10):
            scs.waits(20)
            scs.hears(provision(cp))
            scs.says(response(cp))

    def test_bytes_that_make_no_message_are_no_sign_of_life(self) -> None:
        scs = EcmgDialogue(test_interval_s=30, answer_timeout_s=10)
        scs.opens(1)
        for _ in range(8):
            scs.waits(6)
            scs.session.receive(b"\x03", scs.now)
        assert scs.session.closed


@pytest.mark.slow
def test_a_thousand_streams_keep_apart() -> None:
    scs = EcmgDialogue()
    scs.opens(*range(1000))
    scs.hears(*[provision(7, stream=stream) for stream in range(1000)])
    scs.says(*[response(7, stream=stream) for stream in range(1000)])
    assert scs.session.streams == 1000


def test_what_a_maker_raises_by_mistake_is_not_hidden() -> None:
    class Broken:
        def make(self, *_: object) -> bytes:
            raise ZeroDivisionError

    scs = EcmgDialogue(maker=Broken())
    scs.opens(1)
    with pytest.raises(ZeroDivisionError):
        scs.hears(provision(5))


def test_no_control_word_in_any_repr() -> None:
    scs = EcmgDialogue(lead_cw=1, cw_per_msg=1)
    scs.opens(1)
    order = provision(5, 6)
    scs.hears(order)
    assert scs.session._streams[1].kept
    shown = repr(scs.session) + repr(scs.session._streams) + repr(order) + repr(scs.happened(Refused))
    assert "cw" not in shown.replace("cw_encryption", "").replace("_cw", "")


@pytest.mark.parametrize(
    "wrong", [{"versions": frozenset({1})}, {"versions": frozenset[int]()}, {"lead_cw": 2}, {"cw_per_msg": 4}]
)
def test_a_profile_that_cannot_be_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        EcmgProfile(**{"super_cas_ids": frozenset({1}), **wrong})


def test_the_table_says_that_orders_and_ecms_leave_a_stream_open() -> None:
    for step in STAYS_OPEN:
        assert [state for state, steps in STREAM_TRANSITIONS.items() if step in steps] == [StreamState.STREAM_OPEN]
        assert STREAM_TRANSITIONS[StreamState.STREAM_OPEN][step] is StreamState.STREAM_OPEN
    scs = EcmgDialogue()
    scs.opens(1)
    assert {stream.state for stream in scs.session._streams.values()} == {StreamState.STREAM_OPEN}


def test_every_message_of_a_scrambler_has_its_place_or_its_error() -> None:
    heard = {said for steps in (*CHANNEL_TRANSITIONS.values(), *STREAM_TRANSITIONS.values()) for who, said in steps}
    for state, said in OUT_OF_TURN:
        table: Any = CHANNEL_TRANSITIONS if isinstance(state, ChannelState) else STREAM_TRANSITIONS
        assert (Role.SCS, said) not in table[state]
        assert said in heard
    assert set(CHANNEL_TRANSITIONS) == set(ChannelState)
    assert set(STREAM_TRANSITIONS) == set(StreamState)
