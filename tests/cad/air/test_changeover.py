"""Main and standby: changes keep coming, the main dies at any moment and in any way, and no change is left unsent."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from cad.air import broadcast
from cad.air.broadcast import Channel, resend_horizon_s
from cad.air.links import link_to, tasks_of
from cad.air.mux_pair import MAIN, STANDBY, MuxPair
from cad.air.outgoing import FirstAir, WaitingChange
from cad.air.roster import Roster, SectionCache
from cad.frame.clock import SystemClock
from cad.frame.metrics import Metrics
from cad.ledger.model import CardChange
from emm.calendar import Calendar
from emm.carousel import Carousel, CarouselPolicy
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import parse_emm
from emm.pacer import PACKET_BITS, cost_bits
from emm.plan import Right
from emm.seal import EmmSealer
from tests.support.arrivals import Arrival
from tests.support.eventually import eventually
from tests.support.multiplexer import StrictMultiplexer
from tests.support.multiplexer_pair import TwoMultiplexers, two_multiplexers

KBPS = 30
OLD_CARDS = 5000
"""They and the changes are more than the rate can carry: what arrives in time was put before the rest."""
HELD_BY_MUX_S = 0.3
LATE_BITS = 3000
WAYS = ("closes", "mid-message", "falls silent", "silent, with data over UDP", "in packets")
SETTINGS: dict[str, dict[str, object]] = {
    "falls silent": {"test_interval_s": 3},
    "silent, with data over UDP": {"test_interval_s": 3, "transport": "udp"},
    "in packets": {"mode": "packet"},
}


@dataclass
class Station:
    """A channel over a pair, with more to say than it can, and what became of each change."""

    two: TwoMultiplexers
    link: MuxPair
    channel: Channel
    roster: Roster
    aired: list[FirstAir]
    changed: dict[int, int] = field(default_factory=dict)  # address → its newest revision
    seqs: list[int] = field(default_factory=list)

    def change(self, address: int) -> None:
        clock, seq = SystemClock(), len(self.seqs) + 1
        rights = tuple(Right(product, 0) for product in range(1, 2 + seq % 9))
        change = CardChange(address, "op", False, seq, 1, rights, seq, clock.now(), "id")
        slot, _ = self.roster.apply(change)
        self.channel.change(slot, (100,), WaitingChange(seq, clock.now(), None))
        self.changed[address] = seq
        self.seqs.append(seq)

    async def keep_changing(self, rng: random.Random) -> None:
        """New cards, old cards, cards that changed just now, some ten a second."""
        for number in itertools.count():
            again = rng.choice(sorted(self.changed)) if self.changed and rng.random() < 0.3 else None
            self.change(number * 7 % (2 * OLD_CARDS) if again is None else again)
            await asyncio.sleep(rng.expovariate(10))


def heard(mux: StrictMultiplexer) -> dict[int, int]:
    """The newest revision of each card of which all parts have arrived."""
    parts: dict[tuple[int, int], set[int]] = {}
    newest: dict[int, int] = {}
    for section in mux.whole_sections:
        header = parse_emm(section).header
        address, revision = header.address, header.version.revision
        got = parts.setdefault((address, revision), set())
        got.add(header.part)
        if len(got) == header.last_part + 1:
            newest[address] = max(revision, newest.get(address, 0))
    return newest


def lacking(mux: StrictMultiplexer, wanted: dict[int, int]) -> set[int]:
    """The cards of which a multiplexer has not heard this revision, or a newer one."""
    found = heard(mux)
    return {address for address, revision in wanted.items() if found.get(address, -1) < revision}


def until_all(mux: StrictMultiplexer, wanted: dict[int, int]) -> list[int]:
    """The cards of the sections that came before the last of the wanted ones, in their order."""
    missing, before = set(wanted), list[int]()
    for section in mux.whole_sections:
        if not missing:
            break
        header = parse_emm(section).header
        before.append(header.address)
        if header.part == header.last_part and header.version.revision >= wanted.get(header.address, 1 << 32):
            missing.discard(header.address)
    return before


@asynccontextmanager
async def station(**changes: object) -> AsyncIterator[Station]:
    clock = SystemClock()
    async with two_multiplexers(KBPS) as two:
        settings = two.settings(0, bandwidth_kbps=KBPS, **changes)
        link = link_to(settings, 0x4AE6, clock)
        assert isinstance(link, MuxPair)
        roster, aired = Roster(), list[FirstAir]()
        cache = SectionCache(roster, Calendar(), EmmSealer(KeyLadder(LocalMasterKey(bytes(32)))))
        carousel = Carousel(CarouselPolicy(), resend_horizon_s=resend_horizon_s(settings))
        channel = Channel(settings, link, carousel, cache, clock, Metrics(), aired.extend)
        for address in range(OLD_CARDS):
            slot, _ = roster.apply(CardChange(address, "op", False, 0, 1, (Right(1, 0),), 0, clock.now(), "id"))
            carousel.add(slot, 100, clock.monotonic())
        tasks = [asyncio.ensure_future(run()) for run in tasks_of("mux-1", link).values()]
        tasks.append(asyncio.ensure_future(channel.run()))
        try:
            yield Station(two, link, channel, roster, aired)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def kill(main: StrictMultiplexer, way: str, rng: random.Random) -> None:
    """Let the main die so that nothing of what it is sent from now on counts."""
    if way in ("closes", "in packets"):
        main.die()
    elif way == "mid-message":
        main.misbehave.die_after_bytes = rng.randrange(1, 3000)
    else:
        main.go_dark()


def costs(arrival: Arrival, mode: str) -> int:
    return PACKET_BITS if mode == "packet" else cost_bits(len(arrival.data), "packed")


@pytest.fixture(autouse=True)
def a_multiplexer_that_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is sent again for the queue's sake does not hide what was lost otherwise."""
    monkeypatch.setattr(broadcast, "QUEUE_AT_MUX_S", HELD_BY_MUX_S)


async def lose_the_main(way: str, seed: int) -> None:
    rng = random.Random(seed)
    changes = dict(SETTINGS.get(way, {}))
    mode = str(changes.get("mode", "section"))
    async with station(**changes) as it:
        await eventually(lambda: it.link.ready)
        changing = asyncio.ensure_future(it.keep_changing(rng))
        await asyncio.sleep(rng.uniform(0.5, 2.5))
        kill(it.two.main, way, rng)
        await eventually(lambda: it.link.carrying == STANDBY and it.link.ready)
        changing.cancel()
        arrived = heard(it.two.main)
        lost = {address: seq for address, seq in it.changed.items() if arrived.get(address, -1) < seq}
        assert lost, "the main died with nothing to lose"
        await eventually(lambda: not lacking(it.two.standby, lost), 20)
        others = [one for one in until_all(it.two.standby, lost) if one not in it.changed]
        assert len(others) <= 5 + 0.4 * len(lost), "what was lost goes before what only repeats"
        await eventually(lambda: it.channel.waiting == 0)
        assert sorted(air.change_seq for air in it.aired) == it.seqs, "each first transmission is recorded once"
        assert {air.multiplex for air in it.aired} == {"mux-1"}
        assert it.two.standby.faults == []
        # Sent evenly, but seen when this process gets to it: what one burst may be late, the next second has more.
        seen = it.two.standby.worst_second_bps(lambda data: costs(Arrival(0, data, "", 0, 0), mode))
        assert seen <= KBPS * 1000 + LATE_BITS


@pytest.mark.slow
@pytest.mark.parametrize("way", ["closes", "mid-message", "in packets"])
async def test_no_change_is_left_unsent_when_the_main_dies(way: str) -> None:
    await lose_the_main(way, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
@pytest.mark.parametrize("way", WAYS)
async def test_no_change_is_left_unsent_whenever_the_main_dies(way: str, seed: int) -> None:
    await lose_the_main(way, seed)


@pytest.mark.slow
async def test_nothing_is_lost_when_the_operator_moves_the_stream() -> None:
    rng = random.Random(5)
    async with station() as it:
        await eventually(lambda: it.link.ready)
        changing = asyncio.ensure_future(it.keep_changing(rng))
        for side in (STANDBY, MAIN, STANDBY):
            await asyncio.sleep(rng.uniform(0.2, 0.8))
            await it.link.switch(side)
        changing.cancel()
        await eventually(lambda: it.channel.waiting == 0)
        on_main = heard(it.two.main)
        rest = {address: seq for address, seq in it.changed.items() if on_main.get(address, -1) < seq}
        await eventually(lambda: not lacking(it.two.standby, rest))
        assert sorted(air.change_seq for air in it.aired) == it.seqs
        assert it.two.main.faults == it.two.standby.faults == []
