"""No black frame at a change of epoch: a card that heard one EMM in the overlap opens every ECM around it."""

import pytest

from cards.errors import CardRefusedError
from cards.session import CardSession
from emm.calendar import ECM_AHEAD_S
from emm.ecm import parse_ecm
from emm.plan import Right
from tests.support.cards import CALENDAR, blank_card, emm
from tests.support.clock import ManualClock
from tests.support.ecmg import FILM, SPORT, running_ecmg
from tests.support.scrambler import section_in

EPOCH = 700
CHANGE = CALENDAR.epoch_start(EPOCH)
CRYPTO_PERIOD_S = 10
OVERLAP = CALENDAR.period(CHANGE - 1)


def word(period: int) -> bytes:
    return b"CW" + period.to_bytes(6, "big")


def card_with(*sections: bytes) -> CardSession:
    session = CardSession(blank_card().process)
    for section in sections:
        session.process_emm(section)
    return session


@pytest.mark.parametrize("mode", ["section", "packet"])
async def test_every_ecm_opens_before_across_and_after(mode: str) -> None:
    clock = ManualClock(CHANGE - 6 * CRYPTO_PERIOD_S + 3)
    card = card_with(*emm(Right(1, CHANGE - 900_000), period=OVERLAP))
    epochs = []
    async with running_ecmg(clock=clock, mode=mode) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        for cp in range(65_530, 65_542):
            number = cp % 65_536
            following = (number + 1) % 65_536
            ecm = await scs.order(1, number, {number: word(number), following: word(following)}, SPORT)
            section = ecm if mode == "section" else section_in(ecm)
            assert list(card.process_ecm(section).words) == [word(number), word(following)]
            header = parse_ecm(section).header
            assert header.time == int(clock.now())
            epochs.append(header.epoch)
            # The scrambler goes on working while time does: its next order is its sign of life.
            await clock.advance(CRYPTO_PERIOD_S)
    assert epochs == [EPOCH - 1] * 3 + [EPOCH] * 9


async def test_the_next_epochs_key_is_taken_some_seconds_ahead() -> None:
    ahead = CHANGE - ECM_AHEAD_S
    clock = ManualClock(ahead - 1)
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        for moment, epoch in ((ahead - 1, EPOCH - 1), (ahead - 0.001, EPOCH - 1), (ahead, EPOCH), (CHANGE, EPOCH)):
            clock.set(moment)
            parsed = parse_ecm(await scs.order(1, 7, {7: word(7), 8: word(8)}, SPORT))
            assert (parsed.header.time, parsed.header.epoch) == (int(moment), epoch)


async def test_the_first_emm_of_the_new_epoch_does_not_close_the_last_ecm_before_it() -> None:
    clock = ManualClock(CHANGE - 2 * CRYPTO_PERIOD_S)
    right = Right(1, CHANGE - 900_000)
    card = card_with(*emm(right, period=OVERLAP))
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        while clock.now() < CHANGE:
            last = await scs.order(1, 7, {7: word(7), 8: word(8)}, SPORT)
            assert list(card.process_ecm(last).words) == [word(7), word(8)]
            await clock.advance(CRYPTO_PERIOD_S / 2)
    for section in emm(right, period=OVERLAP + 1):
        card.process_emm(section)
    assert list(card.process_ecm(last).words) == [word(7), word(8)]


async def test_a_card_that_heard_nothing_in_the_overlap_or_has_no_right_stays_dark() -> None:
    clock = ManualClock(CHANGE - ECM_AHEAD_S - 5)
    deaf = card_with(*emm(Right(1, CHANGE - 900_000), period=OVERLAP - 1))
    without = card_with(*emm(Right(1, CHANGE - 900_000), period=OVERLAP))
    async with running_ecmg(clock=clock) as ecmg, ecmg.scrambler() as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        before = await scs.order(1, 7, {7: word(7), 8: word(8)}, SPORT)
        assert list(deaf.process_ecm(before).words) == [word(7), word(8)]
        clock.set(CHANGE + 5)
        after = await scs.order(1, 8, {8: word(8), 9: word(9)}, SPORT)
        with pytest.raises(CardRefusedError):
            deaf.process_ecm(after)
        film = await scs.order(1, 8, {8: word(8), 9: word(9)}, FILM)
        with pytest.raises(CardRefusedError):
            without.process_ecm(film)
