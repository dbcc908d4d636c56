"""A full disk: orders are not acknowledged and not answered until there is room, then each is carried out once."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.card_number import spell
from tests.support.broker import Mosquitto, running
from tests.support.portal_client import portal

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


class Desk:
    """An order desk in a process of its own, whose files can be kept from growing."""

    def __init__(self, state: Path, broker: Mosquitto) -> None:
        cert_file, key_file = broker.authority.issue("_cad")
        arguments = [state, broker.port, broker.authority.ca_file, cert_file, key_file]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.run_order_desk", *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, object]] = []

    def limit(self, size: int) -> None:
        """Let no file of the process grow beyond a size: writes fail as on a disk that is full."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    async def until(self, event: str) -> dict[str, object]:
        """Read the process's log until a line with this event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while True:
                line = await asyncio.to_thread(self.process.stdout.readline)
                assert line, "the process ended"
                self.log.append(json.loads(line))
                if self.log[-1]["event"] == event:
                    return self.log[-1]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


async def test_orders_wait_while_the_disk_is_full_and_are_carried_out_once_when_there_is_room(
    broker: Mosquitto, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    desk = Desk(state, broker)
    try:
        await desk.until("ready")
        async with portal(broker, "karjaa") as karjaa:
            first = {"card": spell(1), "rev": 1, "subscriber": "a"}
            await karjaa.reply(await karjaa.order("card", "assign", first), "committed")

            desk.limit(4096)
            for number in range(2, 50):
                body = {"card": spell(number), "rev": 1, "subscriber": "a" * 60}
                await karjaa.order("card", "assign", body, f"order-{number}")
            failed = await desk.until("orders wait for the ledger")
            assert "make room" in str(failed["reason"]) or "mend it" in str(failed["reason"])
            await asyncio.sleep(2)
            unanswered = [number for number in range(2, 50) if not karjaa.replies(f"order-{number}")]
            assert unanswered

            desk.limit(-1)
            await desk.until("ledger is usable again")
            for number in range(2, 50):
                await karjaa.reply(f"order-{number}", timeout_s=30)
            again = {"card": spell(2), "rev": 1, "subscriber": "b"}
            refused = await karjaa.reply(await karjaa.order("card", "assign", again), "rejected")
            assert refused.payload["code"] == "stale_rev"
    finally:
        desk.end()
    assert "corrupt" not in json.dumps(desk.log)
