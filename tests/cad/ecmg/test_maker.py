"""What goes into an ECM: time, epoch, parity, and a session key that never comes twice, made ahead or not."""

import pytest

from cad.ecmg.maker import STOCK_MAX, SealingMaker, in_packets
from cad.ecmg.services import ServiceBook
from emm.calendar import ECM_AHEAD_S
from emm.ecm import EcmSealer, open_ecm, parse_ecm
from protocol.access_criteria import ProductsCriteria, build
from protocol.simulcrypt.ecmg.words import OrderRefusedError
from protocol.simulcrypt.ecmg_scs import ErrorStatus
from tests.support.cards import CALENDAR, LADDER
from tests.support.clock import ManualClock
from tests.support.ecmg import FILM, NETWORK, SPORT
from tests.support.scrambler import check_ecm, section_in

EPOCH = 700
START = CALENDAR.epoch_start(EPOCH)
WORDS = [b"word--07", b"word--08"]


class Counting:
    """Session keys by number."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, size: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(size, "big")


def maker(now: float = START + 100.0, packets: bool = False) -> tuple[SealingMaker, ManualClock, Counting]:
    clock, random = ManualClock(now), Counting()
    book = ServiceBook([NETWORK])
    return SealingMaker(EcmSealer(LADDER), CALENDAR, clock, book, packets=packets, random=random), clock, random


def wrapped(section: bytes) -> tuple[bytes, ...]:
    return tuple(key.wrapped for key in parse_ecm(section).keys)


@pytest.mark.parametrize("ahead", [False, True])
def test_every_ecm_has_a_session_key_of_its_own(ahead: bool) -> None:
    making, _, random = maker()
    sections = []
    for cp in range(50):
        sections.append(making.make(cp, WORDS, SPORT if cp % 3 else FILM))
        for _ in range(cp % 3 if ahead else 0):
            making.prepare()
    assert len({wrapped(section) for section in sections}) == 50
    assert random.drawn >= 50
    for cp, section in enumerate(sections):
        check_ecm(section, 0, cp)
        assert list(open_ecm(parse_ecm(section), 2, LADDER.product_key(2, EPOCH))) == WORDS


def test_what_was_made_ahead_ends_with_its_epoch() -> None:
    making, clock, _ = maker(START - ECM_AHEAD_S - 0.5)
    before = parse_ecm(making.make(7, WORDS, SPORT))
    making.prepare()
    clock.set(START - ECM_AHEAD_S)
    after = parse_ecm(making.make(8, WORDS, SPORT))
    assert (before.header.epoch, after.header.epoch) == (EPOCH - 1, EPOCH)
    assert list(open_ecm(after, 1, LADDER.product_key(1, EPOCH))) == WORDS


def test_what_was_made_ahead_follows_the_settings() -> None:
    making, _, _ = maker()
    making.make(7, WORDS, SPORT)
    making.prepare()
    products = [{"id": "sport", "product_id": 1, "services": ["sport"]}]
    making._book.follow([NETWORK.model_validate(NETWORK.model_dump() | {"products": products})])
    assert parse_ecm(making.make(8, WORDS, SPORT)).product_ids == (1,)


@pytest.mark.slow
def test_the_stock_is_bounded() -> None:
    products = [{"id": f"p{number}", "product_id": number, "services": ["sport"]} for number in range(1, STOCK_MAX + 9)]
    making, _, _ = maker()
    making._book.follow([NETWORK.model_validate(NETWORK.model_dump() | {"products": products})])
    for number in range(1, STOCK_MAX + 9):
        making.make(7, WORDS, build(ProductsCriteria(101, (number,))))
        making.prepare()
        assert len(making._stock) <= STOCK_MAX


def test_nothing_is_made_ahead_before_the_first_ecm_or_after_a_refusal() -> None:
    making, _, random = maker()
    making.prepare()
    with pytest.raises(OrderRefusedError):
        making.make(7, WORDS, b"")
    making.prepare()
    assert random.drawn == 0


def test_a_time_that_no_ecm_can_say() -> None:
    making, _, _ = maker(2.0**32 + 5)
    with pytest.raises(OrderRefusedError) as refused:
        making.make(7, WORDS, SPORT)
    assert refused.value.error_status is ErrorStatus.UNRECOVERABLE


def test_words_for_csa_are_carried_as_they_come() -> None:
    making, _, _ = maker()
    words = [bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718")]
    section = parse_ecm(making.make(7, words, SPORT))
    assert list(open_ecm(section, 1, LADDER.product_key(1, EPOCH))) == words


@pytest.mark.parametrize("size", [3, 60, 183, 184, 185, 240, 256])
def test_sections_of_every_size_in_packets(size: int) -> None:
    section = bytes([0x80, 0x70, size - 3]) + bytes(size - 3)
    packets = in_packets(section)
    assert section_in(packets) == section
    assert len(packets) == 188 * (1 if size <= 183 else 2)
