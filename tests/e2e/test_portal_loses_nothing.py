"""M4 at the portal's end: twenty rounds of faults with the shipped client; no command is lost, doubled or overtaken."""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest

from tests.support.broker import Mosquitto
from tests.support.headend import Headend, headend
from tests.support.run_portal_client import CARDS, ORDERS, orders

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS = 20
QUEUE = 8
"""What the broker holds for one client; a round has more orders than that."""


class Portal:
    """The portal's process. What it printed is gathered over all its lives."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        broker.authority.issue("kaisa")
        self._command = [
            *(sys.executable, "-m", "tests.support.run_portal_client", str(folder / "outbox.db"), "kaisa"),
            *(str(broker.port), str(broker.authority.folder)),
        ]
        self._log = folder / "portal.log"
        self._process: asyncio.subprocess.Process | None = None
        self.put: set[int] = set()
        self.answers: dict[str, tuple[str, str]] = {}
        self.facts: Counter[str] = Counter()
        self.kills = 0
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"ready\n", self._log.read_text()
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    async def kill(self) -> None:
        """kill -9; what it said before is heard."""
        assert self._process is not None
        assert self._reading is not None
        self.kills += 1
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading

    async def order(self, number: int) -> None:
        """Have it put a round's orders, and wait until it says that they are on disk."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n".encode())
        async with asyncio.timeout(10):
            while number not in self.put:
                await asyncio.sleep(0.002)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            match line.decode().split():
                case ["put", number]:
                    self.put.add(int(number))
                case ["answer", command_id, status, code]:
                    self.answers[command_id] = status, code
                case ["fact", event_id]:
                    self.facts[event_id] += 1


class Rounds:
    """The faults. Each acts while the orders of its round are on their way."""

    def __init__(self, headend: Headend, portal: Portal, seed: int) -> None:
        self.headend = headend
        self.portal = portal
        self.random = Random(seed)

    async def broker_killed(self, number: int) -> None:
        await self.portal.order(number)
        await self.pause()
        self.headend.broker.kill()
        await self.pause()
        self.headend.broker.start()

    async def broker_with_lost_persistence(self, number: int) -> None:
        await self.portal.order(number)
        await self.pause()
        self.headend.broker.kill()
        self.headend.broker.forget()
        self.headend.broker.start()

    async def queue_overflow(self, number: int) -> None:
        """The broker acknowledges all, and drops what does not fit: first for the headend, then for the portal."""
        assert self.headend.process is not None
        self.headend.process.send_signal(signal.SIGSTOP)
        try:
            await self.portal.order(number)
            await asyncio.sleep(0.5)
        finally:
            self.headend.process.send_signal(signal.SIGCONT)

    async def portal_restarted(self, number: int) -> None:
        await self.portal.order(number)
        for _ in range(2):
            await self.pause()
            await self.portal.kill()
            await self.portal.start()

    async def replies_lost(self, number: int) -> None:
        """The portal dies when its orders are out, and the broker forgets the replies that wait for it."""
        await self.portal.order(number)
        await self.pause()
        await self.portal.kill()
        await asyncio.sleep(0.3)
        self.headend.broker.kill()
        self.headend.broker.forget()
        self.headend.broker.start()
        await self.portal.start()

    async def pause(self) -> None:
        await asyncio.sleep(self.random.uniform(0, 0.15))

    def fault(self, number: int) -> Callable[[int], object]:
        faults = [
            self.broker_killed,
            self.broker_with_lost_persistence,
            self.queue_overflow,
            self.portal_restarted,
            self.replies_lost,
        ]
        return faults[number % len(faults)]


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1, kbps=1000) as one:
        one.broker.kill()
        one.broker.configure(max_queued_messages=str(QUEUE), max_inflight_messages=str(QUEUE))
        one.broker.start()
        await one.start()
        yield one


@pytest.fixture
async def portal(whole: Headend, tmp_path: Path) -> AsyncIterator[Portal]:
    one = Portal(tmp_path, whole.broker)
    await one.start()
    yield one
    await one.kill()


async def test_twenty_rounds_of_faults(whole: Headend, portal: Portal) -> None:
    rounds = Rounds(whole, portal, seed=20)
    for number in range(ROUNDS):
        await rounds.fault(number)(number)
        wanted = {one.id for one in orders(number)}
        assert len(wanted) == 1 + CARDS * ORDERS > 2 * QUEUE
        await whole.until(lambda wanted=wanted: wanted <= portal.answers.keys(), f"the answers of round {number}", 30)

    expected = {one.id for number in range(ROUNDS) for one in orders(number)}
    assert portal.answers.keys() == expected
    # In order: a later command never overtook an earlier one on its resource, so none was stale.
    assert {code for _, code in portal.answers.values()} == {"ok"}
    assert {status for status, _ in portal.answers.values()} <= {"committed", "duplicate"}
    # Not doubled: the audit log has one commit for each id, and cards changed as often as they should.
    lines = (await whole.ask("/v1/audit/export")).text.splitlines()
    records = [record for record in map(json.loads, lines) if record["kind"] == "command"]
    committed = Counter(record["id"] for record in records if record["status"] == "committed")
    assert committed == dict.fromkeys(expected, 1)
    assert {record["status"] for record in records} == {"committed", "duplicate"}, "no round made anything come twice"
    # Facts come once, but for the one that was in the portal's hands when it was killed.
    assert portal.facts
    assert sum(portal.facts.values()) - len(portal.facts) <= portal.kills
