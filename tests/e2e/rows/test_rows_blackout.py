"""C8 through daemon, broker, multiplexer and scrambler: a reload blacks a programme out in a region, and ends it."""

import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cards.errors import CardRefusedError
from cards.status_word import StatusWord
from tests.support.broker import free_port
from tests.support.headend import CA_SYSTEM_ID, FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal
from tests.support.scrambler import StrictScrambler

pytestmark = pytest.mark.integration

SPORT = bytes.fromhex("01 0001 0001 0065")
WORDS = {7: b"word-007", 8: b"word-008"}
ECMG = """
[ecmg]
listen = "127.0.0.1:{port}"
[[ecmg.clients]]
id = "lab"
address = "127.0.0.1"
[[networks]]
"""
REGIONS = """
[[networks.regions]]
id = "coast"
name = "Coast"
number = 7
[[networks.regions]]
id = "inland"
name = "Inland"
number = 8
{blackout}
[[operators]]
"""
BLACKOUT = """
[[networks.blackouts]]
service = "sport-1"
regions = ["coast"]
starts_at = {starts_at}
ends_at = {ends_at}
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def running(tmp_path: Path, port: int) -> AsyncIterator[Headend]:
    async with headend(tmp_path, multiplexers=1) as one:
        write(one, port)
        await one.start()
        yield one


def write(running: Headend, port: int, blackout: str = "") -> None:
    """Write settings with regions, and with that blackout."""

    def change(text: str) -> str:
        text = text.replace("[[networks]]", ECMG.format(port=port), 1)
        return text.replace("[[operators]]", REGIONS.format(blackout=blackout), 1)

    running.write_settings(change)


async def committed(kaisa: Portal, command: str, **body: Any) -> None:
    resource, verb = command.split()
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply


def answer(card: Viewer, ecm: bytes) -> int:
    card.listen()
    try:
        card.session.process_ecm(ecm)
    except CardRefusedError as refused:
        return refused.sw
    return StatusWord.OK


def spelt(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).isoformat()


async def test_c08_a_blackout_comes_and_goes_with_its_window(running: Headend, port: int) -> None:
    coast, inland = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    async with portal(running.broker, "kaisa") as kaisa, StrictScrambler("127.0.0.1", port, CA_SYSTEM_ID << 16) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        await committed(kaisa, "offer put", offer="s", rev=1, kind="channel", names={"fi": "s"}, products=["sport"])
        for card, region in ((coast, "coast"), (inland, "inland")):
            await committed(kaisa, "card assign", card=card.number, rev=1, subscriber=card.number, region=region)
            await committed(kaisa, "subscription put", subscription=card.number, rev=1, card=card.number, offer="s")

        async def seen() -> tuple[int, int]:
            ecm = await scs.order(1, 7, WORDS, SPORT)
            return answer(coast, ecm), answer(inland, ecm)

        async def both() -> bool:
            return await seen() == (StatusWord.OK, StatusWord.OK)

        async def inland_only() -> bool:
            return await seen() == (StatusWord.BLACKED_OUT, StatusWord.OK)

        await running.until(both, "the channel to open on both cards")
        ends = time.time() + 8
        window = {"starts_at": spelt(time.time() - 60), "ends_at": spelt(ends)}
        write(running, port, BLACKOUT.format(**window))
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        await running.until(inland_only, "the blackout")
        found = (await running.ask(f"/v1/explain/{coast.number}", channel="sport-1")).json()
        assert (found["region"], found["channel"]["code"]) == ("coast", "blacked_out")
        (wait,) = found["channel"]["needs"]
        assert (wait["code"], wait["at"]) == ("wait", spelt(ends).replace("+00:00", "Z"))
        assert any("networks built anew: none" in str(event) for event in running.events()), "streams go on"
        await running.until(both, "the end of the blackout")
        assert time.time() >= int(ends) - 1
