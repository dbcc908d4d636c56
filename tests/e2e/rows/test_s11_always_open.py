"""S11: orders are taken 24 hours a day: over reload, restart, a schema of an older release, backup, a multiplexer down.

The portal here repeats nothing: each order is published once, and must be answered once.
"""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command

from cad.ledger.tables import engine
from protocol import card_number
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


class Customers:
    """They order all the time, as long as the block lasts; who has ordered what is kept."""

    def __init__(self, kaisa: Portal) -> None:
        self.kaisa = kaisa
        self.sent: list[str] = []
        self._enough = False

    @contextlib.asynccontextmanager
    async def ordering(self) -> AsyncIterator[None]:
        at_first = len(self.sent)
        self._enough = False
        task = asyncio.create_task(self._order())
        try:
            yield
            async with asyncio.timeout(30):
                while len(self.sent) < at_first + 5:
                    await asyncio.sleep(0.02)
        finally:
            # Not cancelled: what is on its way out then may be published and not noted.
            self._enough = True
            await task
        for one in self.sent[at_first:]:
            reply = await self.kaisa.reply(one, timeout_s=60)
            assert (reply.payload["status"], reply.payload["code"]) == ("committed", "ok")
            assert len(self.kaisa.replies(one)) == 1

    async def _order(self) -> None:
        while not self._enough:
            number = card_number.spell(FIRST["kaisa"] + len(self.sent))
            body = {"card": number, "rev": 1, "subscriber": f"customer-{len(self.sent)}"}
            self.sent.append(await self.kaisa.order("card", "assign", body))
            await asyncio.sleep(0.1)


def make_ledger_of_an_older_release(path: Path) -> None:
    """An empty ledger with the tables of the first release, which the daemon has to bring up to date."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute(f"PRAGMA application_id = {engine.APPLICATION_ID}")
        made.commit()
    opened = engine.make_engine(path)
    with opened.connect() as connection, connection.begin():
        config = engine._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    opened.dispose()
    path.chmod(0o600)


async def test_s11_no_maintenance_stops_orders_from_being_taken(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1, kbps=500) as one:
        await one.start()
        async with portal(one.broker, "kaisa") as kaisa:
            customers = Customers(kaisa)
            async with customers.ordering():
                await reloaded(one)
            async with customers.ordering():
                await one.multiplexers[0].stop()
                await asyncio.sleep(0.5)
            async with customers.ordering():
                await one.multiplexers[0].listen()
            async with customers.ordering():
                backup = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "cad", "backup", str(tmp_path / "backup"), "--config", str(one.config))
                )
                assert await backup.wait() == 0
            async with customers.ordering():
                assert await one.stop() == 0
                await asyncio.sleep(0.5)
                one.spawn()
                await one.until(one.is_ready, "the daemon to be ready", 60)
            async with customers.ordering():
                assert await one.stop() == 0
                make_ledger_of_an_older_release(tmp_path / "state" / "ledger.db")
                await asyncio.sleep(0.5)
                one.spawn()
                await one.until(one.is_ready, "the daemon to have brought its tables up to date", 60)
            card = one.card(FIRST["kaisa"] + 9_000)
            await kaisa.committed(
                "offer put", offer="sport", rev=1, kind="channel", names={"fi": "Urheilu"}, products=["sport"]
            )
            await kaisa.committed("card assign", card=card.number, rev=1, subscriber="anna")
            assert not card.opens("sport-1")
            await kaisa.committed("subscription put", subscription="s", rev=1, card=card.number, offer="sport")
            await one.until(lambda: card.opens("sport-1"), "what is ordered after all that to open")


async def reloaded(one: Headend) -> None:
    """Have the daemon take changed settings."""
    assert one.process is not None
    one.config.write_text(one.config.read_text().replace('name = "Sport 1"', 'name = "Sport One"'))
    os.kill(one.process.pid, signal.SIGHUP)

    async def taken() -> bool:
        records = (await one.ask("/v1/audit/export")).text
        return '"kind":"reload"' in records.replace(" ", "")

    await one.until(taken, "the settings to be taken")
