"""Very many cards at once: single orders during a mass change, and the turn of the period with a million cards."""

import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from bench.daemon import populate
from cad.demo.sandbox_clock import SandboxClock
from emm.message import parse_emm
from protocol import card_number
from tests.support.arrivals import Arrival
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

AIMS: Final = {
    "single_order_publish_to_air_s_p99_during_mass": (10.0, "max"),
    "single_order_promises_missed_during_mass": (0.0, "max"),
    "rollover_loop_stall_ms_max_1m_cards": (50.0, "max"),
}

CHANGED: Final = 100_000
MILLION: Final = 1_000_000
KBPS: Final = 500
ORDERS_PER_S: Final = 4
SINGLES: Final = 200
"""Single orders, by turns of the operator whose cards change and of another."""
SECONDS_AROUND: Final = 15.0
PERIOD_S: Final = 86_400 * 5
LAST: Final = FIRST["kaisa"] + MILLION + SINGLES


def run(seed: int = 1) -> dict[str, float]:
    """Measure both, each with a daemon of its own."""
    results: dict[str, float] = {}
    for measure in (_singles_during_mass, _rollover):
        with tempfile.TemporaryDirectory(prefix="cad-bench-") as folder:
            results |= asyncio.run(measure(Path(folder), random.Random(seed)))
    return results


@contextlib.asynccontextmanager
async def _running(folder: Path, cards: int) -> AsyncIterator[tuple[Headend, SandboxClock]]:
    """A daemon with so many cards of one operator, its loop metered."""
    async with headend(folder, multiplexers=1, kbps=KBPS) as one:
        last = card_number.spell(FIRST["kaisa"] + 9999)
        one.write_settings(lambda text: text.replace(last, card_number.spell(LAST)))
        await populate(one, cards)
        clock = SandboxClock.start(folder / "clock.json", 1.0)
        _spawn(one)
        await one.until(one.is_ready, "the daemon to be ready", 300)
        await one.multiplexers[0].until(lambda: one.multiplexers[0].sections, 300)
        yield one, clock


def _spawn(one: Headend) -> None:
    """Start the daemon with its meter, and do not wait for it."""
    with one.log.open("ab") as log:
        one.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench._metered_daemon"),
                *(one.config, one.folder / "clock.json", one.folder / "stalls"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


async def _singles_during_mass(folder: Path, chance: random.Random) -> dict[str, float]:
    async with (
        _running(folder, CHANGED) as (one, _),
        portal(one.broker, "kaisa") as kaisa,
        portal(one.broker, "other") as other,
    ):
        singles = [
            (portal_of, FIRST[name] + offset + number)
            for number in range(SINGLES // 2)
            for portal_of, name, offset in ((kaisa, "kaisa", MILLION), (other, "other", 0))
        ]
        await _assign(singles, other)
        mux = one.multiplexers[0]
        heard = len(mux.arrivals)
        began = time.monotonic()
        mass = {"offer": "sport", "rev": 2, "kind": "channel", "names": {"fi": "sport"}, "products": ["sport", "film"]}
        await kaisa.order("offer", "put", mass, "mass")
        published, answered_s = await asyncio.gather(_order(singles, chance), _answered(kaisa, "mass"))
        await asyncio.sleep(15)
        first = _first_heard(mux.arrivals[heard:], published)
        delays = [first[address] - at for address, at in published.items()]
        still = (await one.ask("/v1/carousel")).json()["multiplexes"][0]["waiting_changes"]
        still += await _left(one)
        await one.until(lambda: _none_left(one), "all cards to follow", 600)
        followed_s = time.monotonic() - began
    quantiles = statistics.quantiles(delays, n=100)
    if still < CHANGED // 10:
        raise RuntimeError(f"only {still} of the mass change waited at the end: the singles did not run beside it")
    return {
        "single_order_publish_to_air_s_p50_during_mass": quantiles[49],
        "single_order_publish_to_air_s_p99_during_mass": quantiles[98],
        "single_order_promises_missed_during_mass": float(_promises_missed(first, [kaisa, other])),
        "mass_change_answered_s": answered_s,
        "mass_change_followed_by_all_cards_s": followed_s,
        "mass_loop_stall_ms_max": max((wall for _, wall, _ in _stalls(folder)), default=0.0),
    }


async def _left(one: Headend) -> int:
    """How many cards have not followed yet."""
    return sum(row["cards_left"] for row in (await one.ask("/v1/status")).json()["rollouts"])


async def _none_left(one: Headend) -> bool:
    return await _left(one) == 0


async def _assign(singles: list[tuple[Portal, int]], other: Portal) -> None:
    film = {"offer": "film", "rev": 1, "kind": "channel", "names": {"fi": "film"}, "products": ["film"]}
    await other.order("offer", "put", film, "film")
    for portal_of, address in singles:
        card = {"card": card_number.spell(address), "rev": 1, "subscriber": "single"}
        await portal_of.order("card", "assign", card, f"assign-{address}")
    for portal_of, address in singles:
        assert (await portal_of.reply(f"assign-{address}", "committed", 60)).payload["code"] == "ok"
    await asyncio.sleep(3)


async def _order(singles: list[tuple[Portal, int]], chance: random.Random) -> dict[int, float]:
    """Order for one card after the other, at moments that have nothing to do with the daemon's own rhythm."""
    began = time.monotonic()
    published: dict[int, float] = {}
    for number, (portal_of, address) in enumerate(singles):
        await asyncio.sleep(max(0.0, began + (number + chance.random()) / ORDERS_PER_S - time.monotonic()))
        published[address] = time.monotonic()
        body = {"subscription": f"film-{address}", "rev": 2, "card": card_number.spell(address), "offer": "film"}
        await portal_of.order("subscription", "put", body, f"single-{address}")
    return published


async def _answered(kaisa: Portal, command: str) -> float:
    """Seconds until the answer to a command that is committed."""
    began = time.monotonic()
    reply = await kaisa.reply(command, "committed", 120)
    assert reply.payload["code"] == "ok", reply.payload
    return time.monotonic() - began


def _first_heard(arrivals: list[Arrival], addresses: Iterable[int]) -> dict[int, float]:
    """When each card's change arrived at the multiplexer: assigned under revision 1, ordered under 2."""
    wanted, first = set(addresses), dict[int, float]()
    for arrival in arrivals:
        header = parse_emm(arrival.data).header
        if header.address in wanted and header.version.revision > 1:
            first.setdefault(header.address, arrival.at)
    if missing := wanted - set(first):
        raise RuntimeError(f"{len(missing)} single orders were not sent within 15 s")
    return first


def _promises_missed(first: dict[int, float], portals: list[Portal]) -> int:
    """How many single orders came later than their reply said."""
    to_unix = time.time() - time.monotonic()
    missed = 0
    for one in portals:
        for heard in one.heard:
            command, _, address = heard.payload.get("id", "").partition("-")
            if command == "single" and "/rep/" in heard.topic:
                by = datetime.fromisoformat(heard.payload["on_air_by"]).timestamp()
                missed += first[int(address)] + to_unix > by
    return missed


async def _rollover(folder: Path, chance: random.Random) -> dict[str, float]:
    async with _running(folder, MILLION) as (one, clock):
        await asyncio.sleep(5)
        before = await _period(one)
        boundary = -(-clock.now() // PERIOD_S) * PERIOD_S
        clock.set(advance_s=boundary - clock.now() - SECONDS_AROUND)
        await asyncio.sleep(2 * SECONDS_AROUND + chance.random())
        if await _period(one) != before + 1:
            raise RuntimeError("the period has not turned")
        around = [stall for stall in _stalls(folder) if abs(stall[0] - boundary) < SECONDS_AROUND - 2]
    return {
        "rollover_loop_stall_ms_max_1m_cards": max((wall for _, wall, _ in around), default=0.0),
        "rollover_loop_cpu_ms_max_1m_cards": max((spent for _, _, spent in around), default=0.0),
    }


async def _period(one: Headend) -> int:
    return int((await one.ask("/v1/status")).json()["period"])


def _stalls(folder: Path) -> Iterator[tuple[float, float, float]]:
    """Pauses of the daemon's loop: when (Unix seconds), how long, and how much of it was its own work (ms)."""
    for line in (folder / "stalls").read_text().splitlines():
        at, wall, spent = map(float, line.split())
        yield at, wall, spent
