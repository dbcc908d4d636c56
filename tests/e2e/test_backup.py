"""I3, S11: `cad backup` under orders and `cad restore` under kill -9: through the real daemon down to the card."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from emm.message import parse_emm
from protocol import card_number
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CARD, LATER_CARD = (card_number.spell(FIRST["kaisa"] + number) for number in (1, 2))


def run(one: Headend, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cad", *arguments, "--config", str(one.config)]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)


async def order(kaisa: Portal, command: str, **body: Any) -> dict[str, Any]:
    resource, verb = command.split()
    return (await kaisa.reply(await kaisa.order(resource, verb, body), timeout_s=30)).payload


def highest_version(one: Headend, address: int) -> tuple[int, int]:
    headers = [parse_emm(section).header for section in one.multiplexers[0].whole_sections]
    return max((one.version.period, one.version.revision) for one in headers if one.address == address)


async def test_s11_i03_a_backup_taken_under_orders_is_put_back_and_cards_follow(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1, kbps=1000) as one:
        await one.start()
        first = one.card(FIRST["kaisa"] + 1)
        later = one.card(FIRST["kaisa"] + 2)
        async with portal(one.broker, "kaisa") as kaisa:
            await order(kaisa, "offer put", offer="sport", rev=1, kind="channel", names={"fi": "u"}, products=["sport"])
            await order(kaisa, "card assign", card=CARD, rev=1, subscriber="anna")
            await order(kaisa, "subscription put", subscription="s", rev=1, card=CARD, offer="sport")
            path = tmp_path / "backup.db"
            taking = asyncio.create_task(asyncio.to_thread(run, one, "backup", str(path), "--json"))
            answered = 0
            while not taking.done():
                reply = await order(kaisa, "card refresh", card=CARD)
                assert reply["status"] == "committed"
                answered += 1
            done = await taking
            assert done.returncode == 0, done.stderr
            facts = json.loads(done.stdout)
            assert answered > 1, "orders are taken while a backup is (S11)"
            assert run(one, "backup", str(path)).returncode == 12, "it overwrites nothing"

            await order(kaisa, "card assign", card=LATER_CARD, rev=1, subscriber="bert")
            await order(kaisa, "subscription put", subscription="t", rev=1, card=LATER_CARD, offer="sport")
            await one.until(lambda: first.opens("sport-1", time.time()) and later.opens("sport-1", time.time()), "both")
            refused = run(one, "restore", str(path), "--yes")
            assert (refused.returncode, "stop it first" in refused.stderr) == (7, True)
            assert await one.stop() == 0
            before = {number: highest_version(one, FIRST["kaisa"] + number) for number in (1, 2)}

            assert run(one, "restore", str(path)).returncode == 130, "without --yes and a terminal nothing is done"
            restored = run(one, "restore", str(path), "--yes", "--json", "--head", facts["audit_head"])
            assert restored.returncode == 0, restored.stderr
            assert json.loads(restored.stdout)["sum_compared"] is True
            await one.start()
            reply = await order(kaisa, "subscription end", subscription="s", rev=2)
            assert reply["code"] == "ok"
            await one.until(lambda: not first.opens("sport-1", time.time()), "the first card to follow")
            assert (await order(kaisa, "subscription end", subscription="t", rev=2))["code"] == "unknown_subscription"
            await order(kaisa, "card assign", card=LATER_CARD, rev=1, subscriber="bert")
            await one.until(lambda: not later.opens("sport-1", time.time()), "a card that the backup does not know")
            assert all(highest_version(one, FIRST["kaisa"] + number) > before[number] for number in (1, 2))
            verified = (await one.ask("/v1/audit/verify")).json()
            assert verified.get("records", 0) > 0, verified


async def test_a_restore_that_is_killed_leaves_the_old_ledger_or_the_new_one(tmp_path: Path) -> None:
    rng = Random(181)
    async with headend(tmp_path, multiplexers=1, kbps=1000) as one:
        await one.start()
        path = tmp_path / "backup.db"
        async with portal(one.broker, "kaisa") as kaisa:
            await order(kaisa, "card assign", card=CARD, rev=1, subscriber="anna")
            assert (await asyncio.to_thread(run, one, "backup", str(path))).returncode == 0
            await order(kaisa, "card assign", card=LATER_CARD, rev=1, subscriber="bert")
            assert await one.stop() == 0
        command = [sys.executable, "-m", "cad", "restore", str(path), "--yes", "--config", str(one.config)]
        for _ in range(6):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as restoring:
                # In the last part of its life it works on the disk; before that Python is still being loaded.
                draft = tmp_path / "state" / "ledger.db.restoring"
                while restoring.poll() is None and not draft.exists():
                    await asyncio.sleep(0.005)
                await asyncio.sleep(rng.uniform(0, 0.4))
                if restoring.poll() is None:
                    restoring.send_signal(signal.SIGKILL)
                restoring.wait(30)
            with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/state/ledger.db?mode=ro", uri=True)) as held:
                assert held.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert held.execute("SELECT count(*) FROM cards").fetchone() in ((1,), (2,))
        assert (await asyncio.to_thread(run, one, "restore", str(path), "--yes")).returncode == 0
        await one.start()
        async with portal(one.broker, "kaisa", "again") as kaisa:
            known = [(await order(kaisa, "card refresh", card=number))["code"] for number in (CARD, LATER_CARD)]
        assert known == ["ok", "unknown_card"]
        assert not list((tmp_path / "state").glob("*.restoring*"))
