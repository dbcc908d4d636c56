"""The daemon as a whole: broker with TLS, daemon, multiplexer, each its own process or socket, on the loopback."""

import asyncio
import json
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants
from config import load
from emm.message import parse_emm
from emm.pacer import cost_bits
from protocol import card_number
from tests.support.clock import ManualClock
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

AIMS: Final = {
    "publish_to_mux_ms_p50": (15.0, "max"),
    "publish_to_mux_ms_p99": (50.0, "max"),
    "durable_commands_per_s": (3000.0, "min"),
    "rss_mib_1m_cards": (1024.0, "max"),
    "start_s_1m_cards": (30.0, "max"),
    "sent_to_allocated_ratio": (0.98, "min"),
    "sent_to_allocated_worst_second": (1.0, "max"),
}

CHANGES_PER_S: Final = 200
CHANGES: Final = 2000
COMMANDS: Final = 12_000
CARDS: Final = 5000
MILLION: Final = 1_000_000
FAST_KBPS: Final = 2_000
PACED_KBPS: Final = 1000


def run() -> dict[str, float]:
    """Measure latency and rate of orders, pacing, memory and start with a million cards."""
    results: dict[str, float] = {}
    for measure in (_latency_and_rate, _pacing, _million):
        with tempfile.TemporaryDirectory(prefix="cad-bench-") as folder:
            results |= asyncio.run(measure(Path(folder)))
    return results


async def _latency_and_rate(folder: Path) -> dict[str, float]:
    async with headend(folder, multiplexers=1, kbps=FAST_KBPS) as one:
        await populate(one, CARDS)
        await one.start()
        async with portal(one.broker, "kaisa") as kaisa:
            # Enough of the rate is free for changes; the rest turns the base ring, as it does in a headend.
            await asyncio.sleep(2)
            delays = await _changes_at_a_rate(one, kaisa)
            assert await one.stop() == 0
            rate = await _commands_at_once(one, kaisa)
    quantiles = statistics.quantiles(delays, n=100)
    return {
        "publish_to_mux_ms_p50": 1000 * quantiles[49],
        "publish_to_mux_ms_p99": 1000 * quantiles[98],
        "durable_commands_per_s": rate,
    }


async def _changes_at_a_rate(one: Headend, kaisa: Portal) -> list[float]:
    """Seconds from the publication of each change to the arrival of its EMM at the multiplexer."""
    mux = one.multiplexers[0]
    published: dict[int, float] = {}
    loop = asyncio.get_running_loop()
    began = loop.time()
    before = len(mux.arrivals)
    for number in range(CHANGES):
        await asyncio.sleep(max(0.0, began + number / CHANGES_PER_S - loop.time()))
        address = FIRST["kaisa"] + 2 * number  # those that do not have it yet
        published[address] = time.monotonic()
        await _put(kaisa, address, "film", f"change-{number}")
    await asyncio.sleep(3)
    first: dict[int, float] = {}
    for arrival in mux.arrivals[before:]:
        header = parse_emm(arrival.data).header
        if header.version.revision > 1:
            first.setdefault(header.address, arrival.at)
    missing = set(published) - set(first)
    if missing:
        raise RuntimeError(f"{len(missing)} changes did not arrive within three seconds")
    return [first[address] - at for address, at in published.items()]


async def _commands_at_once(one: Headend, kaisa: Portal) -> float:
    """Commands committed a second, when the broker hands over as fast as the daemon takes them.

    They wait at the broker while the daemon is down, so that nobody else works while it is measured.
    """
    await _in_parallel([_flood(kaisa, number, f"flood-{number}") for number in range(COMMANDS)], 20)
    one.spawn()
    await one.until(one.is_ready, "the daemon to be ready", 60)
    first = await _until_committed(one, 1)
    end = await _until_committed(one, COMMANDS)
    return (end[1] - first[1]) / (end[0] - first[0])


async def _until_committed(one: Headend, wanted: int) -> tuple[float, int]:
    """When at least so many commands had been committed since the start, and how many then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        shown = (await one.ask("/metrics")).text
        count = sum(int(float(found)) for found in re.findall(r"(?m)^cad_commands_total\{.*\} (\S+)$", shown))
        if count >= wanted:
            return time.monotonic(), count
        await asyncio.sleep(0.1)
    raise RuntimeError(f"{wanted} commands were not committed within two minutes")


def _flood(kaisa: Portal, number: int, command: str) -> Callable[[], Awaitable[None]]:
    return lambda: _put(kaisa, FIRST["kaisa"] + number % CARDS, "sport", command, number // CARDS)


async def _put(kaisa: Portal, address: int, offer: str, command: str, rev: int = 0) -> None:
    body = {
        "subscription": f"{offer}-{address}",
        "rev": 10 + rev,
        "card": card_number.spell(address),
        "offer": offer,
    }
    await kaisa.order("subscription", "put", body, command)


async def _in_parallel(jobs: list[Callable[[], Awaitable[None]]], width: int) -> None:
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    await asyncio.gather(*(work() for _ in range(width)))


async def _pacing(folder: Path) -> dict[str, float]:
    async with headend(folder, multiplexers=1, kbps=PACED_KBPS) as one:
        await populate(one, CARDS)
        await one.start()
        mux = one.multiplexers[0]
        await asyncio.sleep(3)
        since = time.monotonic()
        await asyncio.sleep(15)
        until = time.monotonic()

    def cost(section: bytes) -> int:
        return cost_bits(len(section), "packed")

    allocated = PACED_KBPS * 1000
    return {
        "sent_to_allocated_ratio": mux.mean_bps(since, until, cost) / allocated,
        "sent_to_allocated_worst_second": mux.worst_second_bps(cost) / allocated,
    }


async def _million(folder: Path) -> dict[str, float]:
    async with headend(folder, multiplexers=1, kbps=PACED_KBPS) as one:
        one.write_settings(
            lambda text: text.replace(
                card_number.spell(FIRST["kaisa"] + 9999), card_number.spell(FIRST["kaisa"] + MILLION - 1)
            )
        )
        await populate(one, MILLION)
        began = time.monotonic()
        one.spawn()
        await one.until(one.is_ready, "the daemon to be ready", 300)
        await one.multiplexers[0].until(lambda: one.multiplexers[0].sections, 300)
        start_s = time.monotonic() - began
        await asyncio.sleep(5)
        assert one.process is not None
        return {"start_s_1m_cards": start_s, "rss_mib_1m_cards": _peak_mib(one.process.pid)}


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


async def populate(one: Headend, cards: int) -> None:
    """Put cards with one or two subscriptions each into the ledger, past the intake."""
    settings = load.load(one.config)
    settings.node.state_dir.mkdir(mode=0o700)
    path = settings.node.state_dir / "ledger.db"
    now = time.time()
    ledger = await Ledger.open(
        path, audit_key=one.ladder.audit_key(), grants=Grants.from_settings(settings), clock=ManualClock(now)
    )
    await ledger.close()
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO offers (id, operator, offer, rev, kind, names, products, changed_at)"
            " VALUES (?,?,?,1,'channel',?,?,?)",
            [
                (number, "kaisa", offer, json.dumps({"fi": offer}), json.dumps([offer]), now)
                for number, offer in enumerate(("sport", "film"), 1)
            ],
        )
        connection.executemany(
            "INSERT INTO cards (address, operator, state, subscriber, key_version, revision, rev, change_seq,"
            " assigned_at, changed_at) VALUES (?,'kaisa','active',?,1,1,1,0,?,?)",
            ((FIRST["kaisa"] + n, f"customer-{n}", now, now) for n in range(cards)),
        )
        connection.executemany(
            "INSERT INTO subscriptions (id, operator, subscription, rev, address, offer_id, starts_at, changed_at)"
            " VALUES (?,'kaisa',?,1,?,?,?,?)",
            (
                (
                    1 + 2 * n + extra,
                    f"{('sport', 'film')[extra]}-{FIRST['kaisa'] + n}",
                    FIRST["kaisa"] + n,
                    1 + extra,
                    int(now) - 86_400 * (n % 700),
                    now,
                )
                for n in range(cards)
                for extra in range(1 + n % 2)
            ),
        )
    connection.close()
