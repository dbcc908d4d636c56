"""C7, M5: a card made from a vendor's chip lies in stock, is assigned like any other, and opens what is ordered."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cad import keystore
from cad.cli.shell.client import DaemonClient
from cad.stock.batch_file import BatchOrder
from cad.stock.desk import DaemonNumbers
from cad.stock.journal import Journal
from cad.stock.maker import Keys, MadeCard, Maker
from cards.application import DEFAULT_AID
from cards.globalplatform.chip import Chip
from config.load import load
from protocol import card_number
from tests.support.chip_viewer import ChipViewer
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal
from tests.support.stock import chip_in, delivery

pytestmark = pytest.mark.integration


@pytest.fixture
def chips(tmp_path: Path) -> Iterator[list[Chip]]:
    made = [chip_in(tmp_path, number) for number in range(2)]
    yield made
    for chip in made:
        chip.close()


def make(one: Headend, chip: Chip) -> MadeCard:
    """As `cad card batch` does, by the daemon's own socket and the key store of its settings."""
    order = BatchOrder.model_validate(
        {"batch": "box-1", "operator": "kaisa", "count": 2, "transport_keys": "unused"}, strict=False
    )
    master = keystore.load(load(one.config).keys)
    client = DaemonClient(one.folder / "s")
    try:
        with Journal.open(one.folder / "journal", lambda: "") as journal:
            keys = Keys(master, delivery(2, master), os.urandom)
            maker = Maker(order, DEFAULT_AID, keys, DaemonNumbers(client), journal)
            maker.begin()
            return maker.make(chip.process, "reader")
    finally:
        client.close()


async def committed(kaisa: Portal, resource: str, verb: str, **body: Any) -> dict[str, Any]:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply
    return reply


async def test_from_the_vendors_chip_to_an_opened_channel(tmp_path: Path, chips: list[Chip]) -> None:
    async with headend(tmp_path) as running:
        await running.start()
        made = await asyncio.to_thread(make, running, chips[0])
        assert made.address == FIRST["kaisa"]
        said = (await running.ask(f"/v1/explain/{made.number}")).json()["error"]["text"]
        assert "is in stock since" in said
        assert "batch box-1 of kaisa" in said
        running.kill()
        await running.start()
        second = await asyncio.to_thread(make, running, chips[1])
        assert second.address == FIRST["kaisa"] + 1
        mine, other = ChipViewer(running, chips[0]), ChipViewer(running, chips[1])
        assert (mine.number, other.number) == (made.number, second.number)
        async with portal(running.broker, "kaisa") as kaisa:
            await committed(
                kaisa, "offer", "put", offer="sport", rev=1, kind="channel", names={"fi": "Urheilu"}, products=["sport"]
            )
            for card in (mine, other):
                await committed(kaisa, "card", "assign", card=card.number, rev=1, subscriber="customer")
            await committed(kaisa, "subscription", "put", subscription="s-1", rev=1, card=mine.number, offer="sport")
            await running.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
            assert not other.opens("sport-1", time.time())
        (batch,) = (await running.ask("/v1/stock")).json()["batches"]
        assert (batch["first"], batch["made"], batch["assigned"]) == (card_number.spell(FIRST["kaisa"]), 2, 2)
        audit = (await running.ask("/v1/audit/export")).text
        assert audit.count('"card-made"') == 2
        assert audit.count('"stock-reserved"') == 1
        assert (await running.ask("/v1/audit/verify")).status_code == 200
