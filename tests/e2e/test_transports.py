"""D8: data over TCP or UDP, in sections or TS packets: each from the order to the card, paced, readable by others."""

import asyncio
import re
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emm.message import parse_emm
from emm.pacer import cost_bits
from tests.support import pcap
from tests.support.headend import FIRST, Headend, headend
from tests.support.multiplexer import StrictMultiplexer
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

KBPS = 40
PACKET_BITS = 188 * 8
CARDS = 30
WAYS = [("tcp", "section"), ("tcp", "packet"), ("udp", "section"), ("udp", "packet")]


@pytest.fixture(params=WAYS, ids="-".join)
async def way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Headend, str, str]]:
    transport, mode = request.param
    async with headend(tmp_path, multiplexers=1, kbps=KBPS) as one:
        port = f"port = {one.multiplexers[0].port}\n"
        more = f'mode = "{mode}"\ntransport = "{transport}"\n'
        if transport == "udp":
            more += f"udp_port = {one.multiplexers[0].udp_port}\n"
        one.write_settings(lambda text: text.replace(port, port + more))
        await one.start()
        yield one, transport, mode


async def order_for_many(one: Headend, kaisa: Portal) -> list[int]:
    """The sport offer for CARDS cards; returns their addresses when all is on the air."""
    names = {"fi": "Urheilu"}
    commands = [
        await kaisa.order(
            "offer", "put", {"offer": "sport", "rev": 1, "kind": "channel", "names": names, "products": ["sport"]}
        )
    ]
    cards = [one.card(FIRST["kaisa"] + number) for number in range(CARDS)]
    for card in cards:
        commands.append(await kaisa.order("card", "assign", {"card": card.number, "rev": 1, "subscriber": "customer"}))
    for number, card in enumerate(cards):
        wish = {"subscription": f"s-{number}", "rev": 1, "card": card.number, "offer": "sport"}
        commands.append(await kaisa.order("subscription", "put", wish))
    for command in commands:
        assert (await kaisa.reply(command)).payload["status"] == "committed"
    return [card.address for card in cards]


def cost(datagram: bytes, mode: str) -> int:
    return PACKET_BITS * len(datagram) // 188 if mode == "packet" else cost_bits(len(datagram), "packed")


async def sent_bits(one: Headend) -> int:
    found = re.search(
        r'^cad_sent_bits_total\{multiplex="mux-0"\} (\S+)$', (await one.ask("/metrics")).text, re.MULTILINE
    )
    return int(float(found.group(1))) if found else 0


def decode(mux: StrictMultiplexer, tmp_path: Path) -> tuple[str, str]:
    """What tshark makes of TCP and of UDP: (complaints, types of message)."""
    tcp, udp = tmp_path / "tcp.pcap", tmp_path / "udp.pcap"
    pcap.write_tcp(tcp, mux.conversation, mux.port)
    pcap.write_udp(udp, mux.udp_messages, mux.udp_port)
    bad, types = "", ""
    for capture, port in ((tcp, f"tcp.port=={mux.port}"), (udp, f"udp.port=={mux.udp_port}")):
        command = ["tshark", "-r", str(capture), "-d", f"{port},simulcrypt"]
        for options in (
            ["-Y", "_ws.malformed || _ws.expert.severity >= 0x600000"],
            ["-T", "fields", "-e", "simulcrypt.message.type"],
        ):
            out = subprocess.run([*command, *options], check=True, capture_output=True, text=True, timeout=60).stdout
            bad, types = (bad + out, types) if "-Y" in options else (bad, types + out)
    return bad, types


async def test_an_order_arrives_whole_and_in_its_rate(way: tuple[Headend, str, str], tmp_path: Path) -> None:
    one, transport, mode = way
    mux = one.multiplexers[0]
    async with portal(one.broker, "kaisa") as kaisa:
        addresses = await order_for_many(one, kaisa)
        mine, stranger = one.card(addresses[0]), one.card(FIRST["kaisa"] + CARDS)
        await one.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
        assert not stranger.opens("sport-1", time.time())

        def newest() -> set[int]:
            headers = [parse_emm(section).header for section in mux.whole_sections]
            return {header.address for header in headers if header.version.revision >= 2}

        await one.until(lambda: newest() == set(addresses), "every card's right")

    async def all_arrived() -> bool:
        return await sent_bits(one) == sum(cost(datagram, mode) for datagram in mux.sections)

    await one.until(all_arrived, "a moment at which all that was sent has arrived")
    assert {arrival.over for arrival in mux.arrivals} == {transport}
    assert {datagram[0] == 0x47 for datagram in mux.sections} == {mode == "packet"}
    assert mux.worst_second_bps(lambda datagram: cost(datagram, mode)) <= KBPS * 1000
    assert await one.stop() == 0
    assert mux.faults == []
    complaints, types = await asyncio.to_thread(decode, mux, tmp_path)
    assert complaints == ""
    assert types.count("0x0211") >= CARDS / 7
