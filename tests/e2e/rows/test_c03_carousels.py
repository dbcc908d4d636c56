"""C3 through broker, daemon and multiplexer: every card within a cycle, changed ones each repeat, by what arrives."""

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from emm.message import parse_emm
from emm.pacer import cost_bits
from protocol import card_number
from tests.support.hand_headend import at
from tests.support.headend import FIRST, Headend, headend
from tests.support.multiplexer import StrictMultiplexer
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CARDS, CHANGED = 200, 20
KBPS, CYCLE_S, REPEAT_S = 45, 4.0, 1.0
"""The carousel needs four fifths of the rate; the square-root rule alone would leave most cards out for longer."""
IN_HAND_S = 0.1
"""What the daemon has at hand to send, and what goes out in one burst."""
BEGINS = at("2027-01-20 12:00")


class Air:
    """What a multiplexer receives from now on, timed by its bits: a second is what the rate sends in one.

    While a machine under load has no time for the daemon, and nothing is sent, no time passes here.
    """

    def __init__(self, mux: StrictMultiplexer) -> None:
        self._mux = mux
        self._begins = self._taken = len(mux.arrivals)
        self._now = 0.0
        self.times: dict[int, list[float]] = defaultdict(list)  # when EMMs of each card came, in seconds of the air

    def now(self) -> float:
        """How long has been listened, in seconds of the air."""
        for one in self._mux.arrivals[self._taken :]:
            self.times[parse_emm(one.data).header.address].append(self._now)
            self._now += cost_bits(len(one.data), "packed") / (KBPS * 1000)
            self._taken += 1
        return self._now

    def lost_s(self) -> float:
        """How much of the rate was not used: so much may be behind, to be caught up with."""
        heard = self._mux.arrivals[self._begins : self._taken]
        return max(0.0, heard[-1].at - heard[0].at - self._now)


def longest(times: list[float], since: float, until: float) -> float:
    """The longest time without an EMM between two moments."""
    moments = [since, *(one for one in times if one > since), until]
    return max(later - earlier for earlier, later in pairwise(moments))


def brief(text: str) -> str:
    table = f"[carousel]\ncycle_s = {CYCLE_S}\nfirst_hour_repeat_s = {REPEAT_S}\nmin_repeat_s = 0.2\n[[networks]]\n"
    return text.replace("[[networks]]\n", table, 1)


async def all_committed(kaisa: Portal, command: str, bodies: list[dict[str, Any]]) -> None:
    ids = [await kaisa.order(*command.split(), body) for body in bodies]
    for one in ids:
        await kaisa.reply(one, "committed", 60)


def put(address: int, offer: str) -> dict[str, Any]:
    return {"subscription": f"{offer}-{address}", "rev": 1, "card": card_number.spell(address), "offer": offer}


async def subscribers(kaisa: Portal, addresses: list[int]) -> None:
    for offer in ("sport", "film"):
        names = {"fi": offer}
        await kaisa.committed("offer put", offer=offer, rev=1, kind="channel", names=names, products=[offer])
    cards = [{"card": card_number.spell(one), "rev": 1, "subscriber": f"c-{one}"} for one in addresses]
    await all_committed(kaisa, "card assign", cards)
    await all_committed(kaisa, "subscription put", [put(one, "sport") for one in addresses])


async def multiplex(one: Headend) -> dict[str, Any]:
    return dict((await one.ask("/v1/carousel")).json()["multiplexes"][0])


async def all_sent(one: Headend) -> bool:
    return bool((await multiplex(one))["waiting_changes"] == 0)


async def all_in_the_base_ring(one: Headend) -> bool:
    """Whether no card is in its first hour, at the rate that the test is about."""
    found = await multiplex(one)
    cards = {each["ring"]: each["cards"] for each in found["rings"]}
    return found["allocated_bps"] == KBPS * 1000 and cards["base"] == sum(cards.values()) == CARDS


async def test_c03_every_card_within_a_cycle_and_changed_ones_at_each_repeat(tmp_path: Path) -> None:
    addresses = [FIRST["kaisa"] + place for place in range(CARDS)]
    changed, others = addresses[:CHANGED], addresses[CHANGED:]
    async with headend(tmp_path, multiplexers=1, kbps=2000, begins_at=BEGINS) as one:
        one.write_settings(brief)
        mux = one.multiplexers[0]
        await one.start()
        async with portal(one.broker, "kaisa") as kaisa:
            await subscribers(kaisa, addresses)
            await one.until(lambda: all_sent(one), "all to be sent", 120)
            # After two hours and a restart no card is in its first hour any more.
            assert await one.stop() == 0
            one.go_to(BEGINS + 7200)
            await one.start()
            mux.allocate(KBPS)
            await one.until(lambda: all_in_the_base_ring(one), "the rate to be taken")
            air, blank = Air(mux), one.card(others[-1])
            blank.forget()
            await all_committed(kaisa, "subscription put", [put(one, "film") for one in changed])
            await one.until(lambda: all_sent(one), "the changes to be sent", 120)
            since = air.now()
            await mux.until(lambda: air.now() >= since + 2 * CYCLE_S, 240)
        late_s = IN_HAND_S + air.lost_s()
        longest_s = {address: longest(air.times[address], since, air.now()) for address in addresses}
        assert max(longest_s[address] for address in others) <= CYCLE_S + late_s
        assert max(longest_s[address] for address in changed) <= REPEAT_S + late_s
        assert blank.opens("sport-1"), "by the cycle alone"
        assert not blank.opens("film-1")
        mine = one.card(changed[0])
        assert mine.opens("sport-1")
        assert mine.opens("film-1")
