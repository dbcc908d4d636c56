"""M6: a scrambler gets ECMs from the daemon that open for the card of the order alone; reload, kill -9, orderly end."""

import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cards.errors import CardRefusedError
from tests.support.broker import free_port
from tests.support.headend import CA_SYSTEM_ID, FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal
from tests.support.scrambler import CHANNEL_CLOSE, EcmgError, StrictScrambler

pytestmark = pytest.mark.integration

SPORT = bytes.fromhex("01 0001 0001 0065")
FILM = bytes.fromhex("01 0001 0001 0066")
WORDS = {7: b"canary-1", 8: b"canary-2"}
ECMG = """
[ecmg]
listen = "127.0.0.1:{port}"
[[ecmg.clients]]
id = "lab"
address = "127.0.0.1"
[[networks]]
"""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def running(tmp_path: Path, port: int) -> AsyncIterator[Headend]:
    async with headend(tmp_path) as one:
        one.write_settings(lambda text: text.replace("[[networks]]", ECMG.format(port=port), 1))
        await one.start()
        yield one


def scrambler(port: int, **more: Any) -> StrictScrambler:
    return StrictScrambler("127.0.0.1", port, CA_SYSTEM_ID << 16, **more)


async def order(kaisa: Portal, resource: str, verb: str, **body: Any) -> None:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply


async def subscribe(running: Headend, card: Viewer, other: Viewer) -> None:
    """One card of two gets sport, and both have heard their EMMs."""
    async with portal(running.broker, "kaisa") as kaisa:
        offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}
        await order(kaisa, "offer", "put", **offer)
        for number in (card.number, other.number):
            await order(kaisa, "card", "assign", card=number, rev=1, subscriber="customer")
        await order(kaisa, "subscription", "put", subscription="s-1", rev=1, card=card.number, offer="sport")


def opened(card: Viewer, ecm: bytes) -> list[bytes] | None:
    card.listen()
    try:
        return list(card.session.process_ecm(ecm).words)
    except CardRefusedError:
        return None


async def test_the_scramblers_ecm_opens_for_the_card_of_the_order(running: Headend, port: int) -> None:
    card, other = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    async with scrambler(port) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        await scs.open_stream(2)
        assert opened(card, await scs.order(1, 7, WORDS, SPORT)) is None
        await subscribe(running, card, other)
        sport: list[bytes] = []

        async def opens() -> bool:
            sport[:] = [await scs.order(1, 7, WORDS, SPORT)]
            return opened(card, sport[0]) == list(WORDS.values())

        await running.until(opens, "the channel to open")
        assert opened(other, sport[0]) is None
        assert opened(card, await scs.order(2, 7, WORDS, FILM)) is None
        status = (await running.ask("/v1/status")).json()["ecmg"]
        assert (status["listen"], status["streams"]) == (f"127.0.0.1:{port}", 2)
        assert [row["scrambler"] for row in status["scramblers"]] == ["lab"]
        # I8: control words stand nowhere but in the ECM and on the wire.
        text = running.log.read_text() + (await running.ask("/v1/status")).text
        for word in WORDS.values():
            assert word.decode() not in text
            assert word.hex() not in text.lower()


async def test_a_reload_changes_what_a_service_is_for_and_keeps_the_connection(running: Headend, port: int) -> None:
    async with scrambler(port) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        await scs.order(1, 7, WORDS, FILM)

        def without_film(text: str) -> str:
            text = text.replace("[[networks]]", ECMG.format(port=port), 1)
            return text.replace('services = ["film-1"]', 'services = ["sport-1"]')

        running.write_settings(without_film)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)

        async def refused() -> bool:
            try:
                await scs.order(1, 7, WORDS, FILM)
            except EcmgError as error:
                return error.status == 0x11
            return False

        await running.until(refused, "film to be in no product")
        conditions = (await running.ask("/v1/status")).json()["health"]["conditions"]
        (told,) = [one for one in conditions if one["name"] == "scrambler"]
        assert (told["subject"], told["ok"]) == ("lab", False)
        assert "in no product" in told["text"]

        # Another address needs a restart: the daemon says so, and goes on where it is.
        running.write_settings(lambda text: text.replace("[[networks]]", ECMG.format(port=free_port()), 1))
        running.process.send_signal(signal.SIGHUP)
        await running.until(
            lambda: any("ecmg.listen" in str(event) for event in running.events()), "the reload to be refused"
        )
        assert await scs.order(1, 7, WORDS, SPORT)


async def test_after_kill_9_the_scrambler_comes_back_to_the_same_keys(running: Headend, port: int) -> None:
    card, other = running.card(FIRST["kaisa"]), running.card(FIRST["kaisa"] + 1)
    await subscribe(running, card, other)
    async with scrambler(port) as scs:
        await scs.open_channel()
        await scs.open_stream(1)

        async def opens() -> bool:
            return opened(card, await scs.order(1, 7, WORDS, SPORT)) is not None

        await running.until(opens, "the channel to open")
        running.kill()
        assert await scs.ended()
    await running.start()
    async with scrambler(port) as scs:
        await scs.open_channel()
        await scs.open_stream(1)
        assert opened(card, await scs.order(1, 8, {8: WORDS[8], 9: WORDS[7]}, SPORT)) == [WORDS[8], WORDS[7]]


async def test_the_orderly_end_closes_the_channel(running: Headend, port: int) -> None:
    async with scrambler(port) as scs:
        await scs.open_channel()
        assert await running.stop() == 0
        assert (await scs.hear())[0] == CHANNEL_CLOSE
        assert await scs.ended()
    assert [event for event in running.events() if event.get("step") == "scramblers" and event["event"] == "stopped"]


async def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path, port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        async with headend(tmp_path) as one:
            one.write_settings(lambda text: text.replace("[[networks]]", ECMG.format(port=port), 1))
            one.spawn()
            assert one.process is not None
            assert one.process.wait(timeout=30) == 7
            one.process = None
            assert f"cannot listen on 127.0.0.1:{port} (ecmg.listen)" in one.log.read_text()
