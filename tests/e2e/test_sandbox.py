"""C2, C6: `cad demo --portal`, with the shipped client, down to the cards: a month in a minute; paired and unpaired.

Also with the broker that comes along where mosquitto is not installed.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from cad.portal.client import PortalClient
from cad.portal.settings import PortalSettings
from protocol import card_number, receiver_number
from protocol.portal.commands.cards import CardAssign, CardPair
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.subscriptions import SubscriptionPut

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EMBEDDED = """
import sys
import cad.demo.sandbox
cad.demo.sandbox.find_mosquitto = lambda: None
from cad.cli.main import main
sys.argv = ["cad", "demo", "--portal", "--json"]
main()
"""


class Sandbox:
    """A sandbox as a process, and what it tells on its own topics."""

    def __init__(self, facts: dict[str, Any], client: aiomqtt.Client) -> None:
        self.facts = facts
        self.client = client
        self.port = facts["broker"]["port"]
        self.clock: dict[str, Any] = {}
        self.opens: dict[str, list[str]] = {}
        self.receivers: dict[str, tuple[str, str | None]] = {}
        self.history: list[tuple[str, str, list[str]]] = []

    async def listen(self) -> None:
        async for message in self.client.messages:
            said = json.loads(bytes(message.payload))
            if str(message.topic) == self.facts["topics"]["clock"]:
                self.clock = said
            else:
                self.opens[said["card"]] = said["opens"]
                self.receivers[said["card"]] = (said["receiver"], said["paired_with"])
                self.history.append((said["at"], said["card"], said["opens"]))

    async def set_clock(self, **how: object) -> None:
        await self.client.publish(self.facts["topics"]["set_clock"], json.dumps(how).encode(), qos=1)

    async def until(self, card: str, opens: list[str], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while self.opens.get(card, []) != opens:
                await asyncio.sleep(0.02)

    def now(self) -> datetime:
        return datetime.fromisoformat(self.clock["now"])


@asynccontextmanager
async def running(folder: Path, *command: str) -> AsyncIterator[Sandbox]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command), stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(folder)}
    )
    assert process.stdout is not None
    async with asyncio.timeout(90):
        facts = json.loads(await process.stdout.readline())
    async with aiomqtt.Client("127.0.0.1", facts["broker"]["port"], protocol=aiomqtt.ProtocolVersion.V5) as client:
        one = Sandbox(facts, client)
        await client.subscribe("cad/sandbox/clock")
        await client.subscribe("cad/sandbox/card/+")
        listening = asyncio.create_task(one.listen())
        yield one
        listening.cancel()
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 128 + signal.SIGTERM
    assert list(folder.glob("cad-sandbox-*")) == []


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with running(tmp_path, "-m", "cad", "demo", "--portal", "--json") as one:
        yield one


async def test_c02_a_month_in_a_minute(sandbox: Sandbox, tmp_path: Path) -> None:
    card, other = sandbox.facts["receivers"][:2]
    settings = PortalSettings(
        operator="demo-telco", outbox=tmp_path / "outbox.db", host="127.0.0.1", port=sandbox.port, repeat_after_s=2
    )
    async with PortalClient(settings) as portal:
        async with asyncio.timeout(20):
            while not sandbox.clock:
                await asyncio.sleep(0.02)
            began = sandbox.now()
            ends = int((began + timedelta(days=30)).timestamp())
            address = card_number.parse(card)
            ids = await portal.send_all(
                [
                    OfferPut(offer="sport", rev=1, kind="package", names={"en": "Sport"}, products=("sport",)),
                    OfferPut(offer="film", rev=1, kind="channel", names={"en": "Film"}, products=("film",)),
                    CardAssign(card=address, rev=1, subscriber="customer-1"),
                    SubscriptionPut(subscription="s-1", rev=1, card=address, offer="sport"),
                    SubscriptionPut(subscription="s-2", rev=1, card=address, offer="film", ends_at=ends),
                ]
            )
            assert {(await portal.answer(one)).code for one in ids} == {"ok"}
        await sandbox.until(card, ["sport-1", "sport-2", "film-1"])
        await sandbox.set_clock(rate=43_200)
        # The month is over after forty seconds or so: one right has ended by itself, the other was renewed meanwhile.
        await sandbox.until(card, ["sport-1", "sport-2"], 75)
        ended = datetime.fromisoformat(sandbox.history[-1][0])
        assert timedelta(days=30) <= ended - began < timedelta(days=33)
        await sandbox.set_clock(rate=1, advance_s=0)
        seen = [opens for _, number, opens in sandbox.history if number == card]
        assert all(
            {"sport-1", "sport-2"} <= set(opens) for opens in seen[seen.index(["sport-1", "sport-2", "film-1"]) :]
        )
        assert not sandbox.opens.get(other)
        await sandbox.set_clock(advance_s=3_600, rate="fast")
        async with asyncio.timeout(10):
            while "error" not in sandbox.clock:
                await asyncio.sleep(0.01)
        assert sandbox.clock["error"] == "rate is a number"


async def test_c06_a_card_is_paired_and_unpaired_in_its_receiver(sandbox: Sandbox, tmp_path: Path) -> None:
    card = sandbox.facts["receivers"][0]
    address = card_number.parse(card)
    settings = PortalSettings(
        operator="demo-telco", outbox=tmp_path / "outbox.db", host="127.0.0.1", port=sandbox.port, repeat_after_s=2
    )
    async with PortalClient(settings) as portal:
        await portal.send_all(
            [
                OfferPut(offer="sport", rev=1, kind="package", names={"en": "Sport"}, products=("sport",)),
                CardAssign(card=address, rev=1, subscriber="customer-1"),
                SubscriptionPut(subscription="s-1", rev=1, card=address, offer="sport"),
            ]
        )
        await sandbox.until(card, ["sport-1", "sport-2"])
        mine, _ = sandbox.receivers[card]
        elsewhere = receiver_number.of_serial(7)
        await portal.order(CardPair(card=address, rev=2, receiver=elsewhere))
        await sandbox.until(card, [])
        assert sandbox.receivers[card] == (mine, receiver_number.spell(elsewhere))
        await portal.order(CardPair(card=address, rev=3, receiver=receiver_number.parse(mine)))
        await sandbox.until(card, ["sport-1", "sport-2"])
        assert sandbox.receivers[card] == (mine, None)


async def test_an_order_opens_a_card_on_the_broker_that_comes_along(tmp_path: Path) -> None:
    async with running(tmp_path, "-c", EMBEDDED) as one:
        assert one.facts["broker"]["name"] == "embedded broker (iotcore, MQTT 5 only)"
        card = one.facts["receivers"][0]
        address = card_number.parse(card)
        settings = PortalSettings(
            operator="demo-telco", outbox=tmp_path / "outbox.db", host="127.0.0.1", port=one.port, repeat_after_s=2
        )
        async with PortalClient(settings) as portal:
            ids = await portal.send_all(
                [
                    OfferPut(offer="sport", rev=1, kind="package", names={"en": "Sport"}, products=("sport",)),
                    CardAssign(card=address, rev=1, subscriber="customer-1"),
                    SubscriptionPut(subscription="s-1", rev=1, card=address, offer="sport"),
                ]
            )
            async with asyncio.timeout(60):
                assert {(await portal.answer(each)).code for each in ids} == {"ok"}
        await one.until(card, ["sport-1", "sport-2"], 60)
        old = aiomqtt.Client("127.0.0.1", one.port, protocol=aiomqtt.ProtocolVersion.V311, timeout=5)
        with pytest.raises(aiomqtt.MqttError):
            await old.__aenter__()
