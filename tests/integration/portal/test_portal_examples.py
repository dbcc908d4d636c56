"""The examples in docs/portal/examples order a channel from a real headend, as they stand there."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from tests.support.broker import HOST
from tests.support.headend import FIRST, Headend, headend
from tests.support.node import FOLDER as NPM
from tests.support.node import node

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[3] / "docs" / "portal" / "examples"
PROGRAMS = {
    "with_client.py": [sys.executable],
    "with_aiomqtt.py": [sys.executable],
    "with_mosquitto.sh": ["bash"],
    "with_node.mjs": ["node"],
}
SHOWN_ONLY = {"with_php.php"}


async def run(one: Headend, name: str, card: str, folder: Path) -> tuple[int, str]:
    cert_file, key_file = one.broker.authority.issue("kaisa")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "NODE_PATH": str(NPM / "node_modules"),
        "OPERATOR": "kaisa",
        "CARD": card,
        "BROKER": HOST,
        "PORT": str(one.broker.port),
        "CA": str(one.broker.authority.ca_file),
        "CERT": str(cert_file),
        "KEY": str(key_file),
        "OUTBOX": str(folder / "outbox.db"),
    }
    program = [node()] if name.endswith(".mjs") else PROGRAMS[name]
    process = await asyncio.create_subprocess_exec(
        *program,
        str(EXAMPLES / name),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_each_example_orders_a_channel_and_says_so(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1) as one:
        await one.start()
        for place, name in enumerate(PROGRAMS):
            card = one.card(FIRST["kaisa"] + place)
            for expected in ("committed", "duplicate"):
                code, output = await run(one, name, card.number, tmp_path)
                assert code == 0, f"{name}:\n{output}"
                # The shipped client has the answer in its outbox; all others ask the headend again.
                said = "committed" if name == "with_client.py" else expected
                assert said in output.splitlines()[-2 if name == "with_client.py" else -1], f"{name}:\n{output}"
            await one.until(lambda card=card: card.opens("sport-1", time.time()), f"{name} to open the channel")


def test_every_example_is_executed_or_named_as_shown_only() -> None:
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == PROGRAMS.keys() | SHOWN_ONLY
