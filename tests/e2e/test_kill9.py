"""M4, X7, I1, I2, I3: kill -9 at random moments, with orders going on all the while. A failure prints the seed."""

import asyncio
import collections
import contextlib
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from emm.message import Version, parse_emm
from protocol import card_number
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

ROUNDS = 40
CARDS = 12
SEED = 20261122


class Desk:
    """A portal that keeps every command until it is answered, and sends again what is not, under the same id."""

    def __init__(self, kaisa: Portal, rng: random.Random) -> None:
        self.kaisa = kaisa
        self.rng = rng
        self.sent: dict[str, tuple[str, str, dict[str, Any]]] = {}
        self.answers: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        self.revs: collections.Counter[str] = collections.Counter()
        self.enough = False
        self._read = 0

    async def order_until_told(self) -> None:
        # Not cancelled: a cancelled `asyncio.wait_for` of Python 3.11 may swallow it, and orders would go on unseen.
        while not self.enough:
            await self.order_something()
            await asyncio.sleep(self.rng.uniform(0, 0.02))

    async def order_something(self) -> None:
        number = card_number.spell(FIRST["kaisa"] + self.rng.randrange(CARDS))
        if self.rng.random() < 0.8:
            name = f"{number}-{self.rng.randrange(2)}"
            self.revs[name] += 1
            offer = self.rng.choice(["sport", "film"])
            body = {"subscription": name, "rev": self.revs[name], "card": number, "offer": offer}
            await self.send("subscription", "put", body)
        else:
            self.revs[number] += 1
            verb = self.rng.choice(["suspend", "reopen"])
            await self.send("card", verb, {"card": number, "rev": self.revs[number]})

    async def send(self, resource: str, verb: str, body: dict[str, Any]) -> str:
        command = f"{len(self.sent):06d}-{resource}"
        self.sent[command] = (resource, verb, body)
        await self.kaisa.order(resource, verb, body, command)
        return command

    def read(self) -> None:
        """Take note of the replies that have come."""
        for heard in self.kaisa.heard[self._read :]:
            if "/rep/" in heard.topic:
                self.answers[heard.payload["id"]].append(heard.payload)
        self._read = len(self.kaisa.heard)

    def unanswered(self) -> list[str]:
        self.read()
        return [command for command in self.sent if not self.answers[command]]

    async def settle(self) -> None:
        """Send again what was not answered, until all is."""
        for _ in range(20):
            missing = self.unanswered()
            if not missing:
                return
            for command in missing:
                await self.kaisa.order(*self.sent[command], command)
            with contextlib.suppress(TimeoutError):
                await self.kaisa.reply(missing[-1], timeout_s=10)
            await asyncio.sleep(0.2)
        raise AssertionError(f"never answered: {self.unanswered()[:5]}")


async def test_kill_9_loses_nothing_doubles_nothing_and_lets_no_version_fall(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    async with headend(tmp_path, multiplexers=1, kbps=1000) as one:
        await one.start()
        async with portal(one.broker, "kaisa") as kaisa:
            desk = Desk(kaisa, rng)
            for offer in ("sport", "film"):
                names = {"fi": offer}
                await desk.send(
                    "offer", "put", {"offer": offer, "rev": 1, "kind": "channel", "names": names, "products": [offer]}
                )
            for address in range(FIRST["kaisa"], FIRST["kaisa"] + CARDS):
                number = card_number.spell(address)
                desk.revs[number] = 1
                await desk.send("card", "assign", {"card": number, "rev": 1, "subscriber": f"c{address}"})
            await desk.settle()
            ordering = asyncio.create_task(desk.order_until_told())
            for _ in range(ROUNDS):
                if rng.random() < 0.25:
                    await asyncio.sleep(rng.uniform(0.0, 2.0))
                else:
                    await one.until(one.is_ready, "the daemon to be ready", 60)
                    await asyncio.sleep(rng.uniform(0.0, 0.6))
                one.kill()
                one.spawn()
            desk.enough = True
            await ordering
            await one.until(one.is_ready, "the daemon to be ready", 60)
            await desk.settle()
            await asyncio.sleep(1)
            verified = (await one.ask("/v1/audit/verify")).json()
            assert verified.get("records", 0) > 0, verified
            desk.read()
        assert await one.stop() == 0
    check_answers(desk)
    check_ledger(desk, tmp_path / "state" / "ledger.db")
    check_versions(one)


def committed(desk: Desk) -> dict[str, dict[str, Any]]:
    return {
        command: answers[0] for command, answers in desk.answers.items() if answers[0]["code"] in ("ok", "committed")
    }


def check_answers(desk: Desk) -> None:
    """The answer to one id is always the same, but for its status."""
    assert len(desk.sent) > ROUNDS
    for command, answers in desk.answers.items():
        content = [{**answer, "status": None} for answer in answers]
        assert all(one == content[0] for one in content), (command, answers)
        assert sum(answer["status"] == "committed" for answer in answers) >= 1, (command, answers)


def check_ledger(desk: Desk, path: Path) -> None:
    """I1: all that was answered is there. I2: and once."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM commands WHERE operator = 'kaisa'")]
        revs = dict(connection.execute("SELECT subscription, rev FROM subscriptions"))
        card_revs = dict(connection.execute("SELECT address, rev FROM cards"))
        changes = [row[0] for row in connection.execute("SELECT command_id FROM changes")]
    assert sorted(ids) == sorted(set(ids))
    assert set(committed(desk)) <= set(ids)
    assert max(collections.Counter(changes).values()) == 1, "one command changed a card twice"
    assert set(changes) <= set(desk.sent)
    wanted: dict[str, int] = {}
    for command in committed(desk):
        _, _, body = desk.sent[command]
        key = body.get("subscription") or body.get("card") or ""
        wanted[key] = max(wanted.get(key, 0), body["rev"])
    for key, rev in wanted.items():
        if key in revs:
            assert revs[key] == rev
        elif key.isdigit():
            assert card_revs[card_number.parse(key)] == rev
    assert len([key for key in wanted if key in revs]) > CARDS


def check_versions(one: Headend) -> None:
    """I3: on the wire a card's version never falls, and one version has one content."""
    highest: dict[int, Version] = {}
    content: dict[tuple[int, Version, int], bytes] = {}
    for section in one.multiplexers[0].sections:
        header = parse_emm(section).header
        assert header.version >= highest.get(header.address, header.version), (header.address, header.version)
        highest[header.address] = header.version
        assert content.setdefault((header.address, header.version, header.part), section) == section
    assert len(highest) == CARDS
    assert json.dumps(one.multiplexers[0].faults) == "[]"
