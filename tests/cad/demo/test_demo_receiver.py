"""The demo's receiver: what reaches the card, and what does not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.demo.receiver import Receiver, RepeatGuard, SectionFilter, card_filters
from cad.demo.stream import PlannedService, StreamComposer, StreamPlan
from protocol.mpegts.packet import NULL_PACKET, PACKET_SIZE, Packing, SectionPacketizer
from protocol.mpegts.psi import (
    CaDescriptor,
    ConditionalAccess,
    ElementaryStream,
    ProgramAssociation,
    ProgramMap,
    build_cat,
    build_pat,
    build_pmt,
)
from protocol.mpegts.section import ShortSection, build_section
from tests.support.mpegts_strategies import cut_lists, pieces

START = 1_800_000_000.0
CA, EMM_PID = 0x4ADC, 0x500
CARD, NEIGHBOUR, STRANGER = 0x0123456789, 0x01234567FF, 0x0999999999


def unique(address: int, body: bytes = b"body") -> bytes:
    return build_section(ShortSection(0x82, address.to_bytes(5, "big") + body))


def group(address: int) -> bytes:
    return build_section(ShortSection(0x84, address.to_bytes(5, "big")[:4] + b"to the group"))


GLOBAL = build_section(ShortSection(0x88, b"to all"))


class Box:
    """A receiver whose card keeps what it is given."""

    def __init__(self, address: int = CARD) -> None:
        self.emms: list[bytes] = []
        self.ecms: list[tuple[int, bytes]] = []
        self.receiver = Receiver(CA, self.emms.append, lambda *ecm: self.ecms.append(ecm), card_filters(address))


def on_pid(pid: int, *sections: bytes, counter: int = 0) -> bytes:
    packer = SectionPacketizer(pid, Packing.PER_SECTION, counter)
    return b"".join(packet for section in sections for packet in packer.push(section))


def cat(emm_pid: int = EMM_PID, ca_system_id: int = CA) -> bytes:
    return build_cat(ConditionalAccess((CaDescriptor(0x0B00, 0x30), CaDescriptor(ca_system_id, emm_pid))))


def composed(emms: list[bytes], seconds: float = 1.0) -> bytes:
    service = PlannedService(101, 0x100, 0x101, 0x102, lambda at: build_section(ShortSection(0x80, b"%d" % int(at))))
    composer = StreamComposer(StreamPlan(CA, EMM_PID, services=(service,)), START)
    composer.put_sections(emms)
    return composer.compose(START + seconds)


def test_the_card_gets_what_is_for_it_its_group_and_all_and_nothing_else() -> None:
    box = Box()
    box.receiver.feed(
        composed([unique(STRANGER), unique(CARD), unique(NEIGHBOUR), group(CARD), group(STRANGER), GLOBAL])
    )
    assert box.emms == [unique(CARD), group(CARD), GLOBAL]
    assert box.receiver.counts["EMMs for others"] == 3


def test_nothing_is_heard_before_the_cat_or_of_another_ca_system() -> None:
    box = Box()
    box.receiver.feed(on_pid(EMM_PID, unique(CARD)))
    box.receiver.feed(on_pid(1, cat(ca_system_id=CA + 1)))
    box.receiver.feed(on_pid(EMM_PID, unique(CARD), counter=1))
    assert (box.emms, box.receiver.emm_pid) == ([], None)
    box.receiver.feed(on_pid(1, cat(), counter=1) + on_pid(EMM_PID, unique(CARD), counter=2))
    box.receiver.feed(NULL_PACKET)
    assert box.emms == [unique(CARD)]


def test_emms_are_followed_when_they_move_to_another_pid() -> None:
    box = Box()
    box.receiver.feed(on_pid(1, cat(0x500), cat(0x501)) + on_pid(0x500, unique(CARD)) + on_pid(0x501, GLOBAL))
    box.receiver.feed(NULL_PACKET)
    assert box.emms == [GLOBAL]


@pytest.mark.parametrize("pid", [0, 1])
def test_a_cat_that_points_at_a_table_makes_no_receiver_deaf(pid: int) -> None:
    box = Box()
    box.receiver.feed(on_pid(1, cat(pid), cat()) + on_pid(EMM_PID, unique(CARD)) + NULL_PACKET)
    assert box.emms == [unique(CARD)]


def test_repeats_are_dropped_as_long_as_they_are_remembered() -> None:
    box = Box()
    box.receiver.feed(composed([unique(CARD), unique(CARD), unique(CARD, b"new"), unique(CARD)]))
    assert box.emms == [unique(CARD), unique(CARD, b"new")]
    assert box.receiver.counts["EMMs repeated"] == 2
    box.receiver.insert_card(card_filters(CARD))
    box.receiver.feed(composed([unique(CARD)]))
    assert box.emms[2:] == [unique(CARD)]


def test_thirty_two_sections_are_remembered() -> None:
    guard = RepeatGuard()
    assert not any(guard.is_repeat(b"%d" % number) for number in range(33))
    assert all(guard.is_repeat(b"%d" % number) for number in range(1, 33))
    assert not guard.is_repeat(b"0")


def test_ecms_of_the_tuned_service_come_once_each() -> None:
    box = Box()
    box.receiver.tune(101)
    box.receiver.feed(composed([], 1.0))
    assert box.ecms == [(101, build_section(ShortSection(0x80, b"%d" % int(START))))]
    box.receiver.tune(102)
    box.receiver.feed(composed([], 1.0))
    assert len(box.ecms) == 1
    assert box.receiver.ecm_pid is None


def test_the_ecm_pid_may_stand_with_a_component() -> None:
    box = Box()
    box.receiver.tune(101)
    component = ElementaryStream(0x02, 0x200, (CaDescriptor(CA, 0x300),))
    pat = build_pat(ProgramAssociation(1, ((100, 0x80), (101, 0x100))))
    box.receiver.feed(on_pid(0, pat) + on_pid(0x100, build_pmt(ProgramMap(101, (component,)))))
    box.receiver.feed(on_pid(0x300, b"\x80\x70\x01x") + NULL_PACKET)
    assert box.ecms == [(101, b"\x80\x70\x01x")]


@pytest.mark.slow
@given(cut_lists)
@settings(max_examples=40, deadline=None)
def test_a_stream_in_any_pieces_gives_the_same(cuts: list[int]) -> None:
    stream = composed([unique(CARD), group(CARD), GLOBAL], 0.2)
    box = Box()
    for piece in pieces(stream, cuts):
        box.receiver.feed(piece)
    assert box.emms == [unique(CARD), group(CARD), GLOBAL]


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_stream_raises_nothing_and_gives_nothing_of_others(data: st.DataObject) -> None:
    stream = bytearray(composed([unique(STRANGER), unique(CARD)] * 3, 0.1))
    for _ in range(data.draw(st.integers(1, 20))):
        position = data.draw(st.integers(0, len(stream) * 8 - 1))
        stream[position // 8] ^= 0x80 >> position % 8
    box = Box()
    box.receiver.tune(101)
    box.receiver.feed(bytes(stream))
    assert all(
        section[0] in (0x82, 0x84, 0x88) and any(f.passes(section) for f in card_filters(CARD)) for section in box.emms
    )
    # The first table after the damage may pass for a repeat of the damaged one: then an EMM is heard as it returns.
    for _ in range(2):
        box.receiver.feed(composed([unique(CARD, b"afterwards")], 1.0))
    assert unique(CARD, b"afterwards") in box.emms


@given(st.lists(st.binary(max_size=400) | st.binary(min_size=187, max_size=187).map(lambda rest: b"\x47" + rest)))
def test_arbitrary_bytes_raise_nothing(parts: list[bytes]) -> None:
    box = Box()
    box.receiver.tune(1)
    for part in parts:
        box.receiver.feed(part)


def test_filters_compare_as_hardware_does() -> None:
    only = SectionFilter(b"\x82\0\0\x01", b"\xff\0\0\x0f")
    assert only.passes(b"\x82\x70\x01\xf1")
    assert not only.passes(b"\x82\x70\x01\xf2")
    assert not only.passes(b"\x82\x70\x00")
    with pytest.raises(ValueError, match="at most 16 bytes"):
        SectionFilter(bytes(17), bytes(17))
    with pytest.raises(ValueError, match="one length"):
        SectionFilter(b"\x82", b"")


def test_the_packets_of_a_stream_are_whole() -> None:
    assert len(composed([])) % PACKET_SIZE == 0
