"""S13: without a multiplexer: an order over MQTT opens a channel on a card that hears a multicast stream of ours."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from cad.demo.receiver import Receiver, card_filters
from protocol.mpegts.packet import CAT_PID
from tests.support.headend import CA_SYSTEM_ID, FIRST, Headend, Viewer, headend
from tests.support.portal_client import Portal, portal
from tests.support.ts_listening import Heard, UdpListener

pytestmark = pytest.mark.integration

GROUP = "239.255.80.1"
EMM_PID = 0x1F0
STREAM = """
[[networks.streams]]
id = "iptv-1"
host = "{group}"
port = {port}
interface = "lo"
multicast_ttl = 0
bandwidth_kbps = 200
"""


class MulticastViewer(Viewer):
    """A card in a receiver that has joined the group and finds the EMMs by the CAT."""

    def __init__(self, one: Headend, address: int, listener: UdpListener) -> None:
        super().__init__(one, address)
        self.listener = listener
        self.datagrams: list[tuple[float, bytes]] = []
        self._receiver = Receiver(CA_SYSTEM_ID, self.session.process_emm, filters=card_filters(address))

    def listen(self, multiplexer: int = 0) -> None:
        """Hear what has come since the last time."""
        for at, datagram in self.listener.take():
            self.datagrams.append((at, datagram))
            self._receiver.feed(datagram)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[tuple[Headend, UdpListener]]:
    listener = UdpListener(GROUP)
    with contextlib.closing(listener):
        async with headend(tmp_path, multiplexers=0) as one:
            stream = STREAM.format(group=GROUP, port=listener.port)
            one.write_settings(lambda text: text.replace('id = "net"\n', f'id = "net"\n{stream}'))
            await one.start()
            yield one, listener


async def order(kaisa: Portal, resource: str, verb: str, **body: object) -> tuple[str, dict[str, object]]:
    command = await kaisa.order(resource, verb, body)
    reply = (await kaisa.reply(command)).payload
    assert reply["status"] == "committed", reply
    return command, reply


async def test_s13_an_order_opens_the_channel_over_multicast_and_a_restart_loses_nothing(
    running: tuple[Headend, UdpListener],
) -> None:
    one, listener = running
    mine = MulticastViewer(one, FIRST["kaisa"], listener)
    link = await one.until(lambda: linked(one), "the stream to be sent")
    assert (link["multiplex"], link["allocated_bps"]) == ("iptv-1", 200_000)
    async with portal(one.broker, "kaisa") as kaisa:
        names = {"fi": "Urheilu"}
        await order(kaisa, "offer", "put", offer="sport", rev=1, kind="channel", names=names, products=["sport"])
        await order(kaisa, "card", "assign", card=mine.number, rev=1, subscriber="customer")
        assert not mine.opens("sport-1", time.time())
        body = {"subscription": "s-1", "rev": 1, "card": mine.number, "offer": "sport"}
        command, reply = await order(kaisa, "subscription", "put", **body)
        event = await kaisa.until(
            lambda said: said.topic.endswith("/card/on-air") and said.payload["command"] == command
        )
        assert event.payload["multiplex"] == "iptv-1"
        on_air_by = datetime.fromisoformat(str(reply["on_air_by"])).timestamp()
        assert datetime.fromisoformat(event.payload["at"]).timestamp() <= on_air_by
        await one.until(lambda: mine.opens("sport-1", time.time()), "the channel to open")
        assert not mine.opens("film-1", time.time())
        for end in (one.stop, one.kill):
            ended = end()
            if ended is not None:
                assert await ended == 0
            before = len(mine.datagrams)
            await one.start()
            later = MulticastViewer(one, FIRST["kaisa"], listener)
            await one.until(lambda later=later: later.opens("sport-1", time.time()), "the channel after a restart")
            mine.datagrams += later.datagrams
            assert len(mine.datagrams) > before
    heard = Heard(mine.datagrams)
    # The receiver takes none of the three beginnings for packets lost; kill -9 may cut an EMM short.
    for pid in (EMM_PID, CAT_PID):
        marked = [packet for _, packet in heard.packets[pid] if packet.discontinuity]
        assert len(marked) == 3
        assert heard.jumps(pid) <= 2
    assert heard.busiest_second(EMM_PID) <= 200_000


async def linked(one: Headend) -> dict[str, object] | None:
    found = (await one.ask("/v1/carousel")).json()["multiplexes"]
    return next((each for each in found if each["connected"]), None)
