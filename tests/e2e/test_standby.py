"""C9: the main multiplexer dies, an order reaches its card through the standby, and the operator moves it back."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Headend]:
    """A daemon with one multiplex on the first multiplexer, the second one being its standby."""
    async with headend(tmp_path, multiplexers=2) as one:
        main, standby = one.multiplexers
        entry = one.config.read_text()
        second = entry.index('[[networks.multiplexes]]\nid = "mux-1"')
        rest = entry.index("[[networks.services]]")
        table = f'[networks.multiplexes.standby]\nhost = "127.0.0.1"\nport = {standby.port}\ntakeover_s = 5\n'
        one.config.write_text(entry[:second] + table + entry[rest:])
        one.spawn()
        await one.until(one.is_ready, "the daemon to be ready", 60)
        await main.until(lambda: main.streaming, 20)
        yield one


async def committed(kaisa: Portal, resource: str, verb: str, **body: Any) -> None:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply


async def carried_by(one: Headend) -> str:
    status = (await one.ask("/v1/status")).json()
    return str(status["networks"][0]["multiplexes"][0]["carried_by"])


async def switch(one: Headend, to: str) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(one.folder / "s"))
    async with httpx.AsyncClient(transport=transport, base_url="http://cad", timeout=30) as client:
        return await client.post(f"/v1/multiplexes/mux-0/switch/{to}")


async def test_an_order_takes_the_standby_and_the_operator_moves_it_back(one: Headend) -> None:
    main, standby = one.multiplexers
    mine = one.card(FIRST["kaisa"])
    names = {"fi": "Urheilu"}
    async with portal(one.broker, "kaisa") as kaisa:
        await committed(kaisa, "offer", "put", offer="sport", rev=1, kind="channel", names=names, products=["sport"])
        await committed(kaisa, "card", "assign", card=mine.number, rev=1, subscriber="customer")
        assert await carried_by(one) == "main"
        assert standby.connections == 0
        await main.stop()
        await committed(kaisa, "subscription", "put", subscription="s", rev=1, card=mine.number, offer="sport")
        await one.until(lambda: mine.opens("sport-1", time.time(), 1), "the channel to open through the standby", 40)
        assert await carried_by(one) == "standby"

        async def told() -> bool:
            conditions = (await one.ask("/v1/status")).json()["health"]["conditions"]
            return any(c["name"] == "standby" and not c["ok"] and "cannot connect" in c["text"] for c in conditions)

        await one.until(told, "the condition")
        metrics = (await one.ask("/metrics")).text
        assert 'cad_link_on_standby{multiplex="mux-0"} 1.0' in metrics
        assert 'cad_link_changeovers_total{multiplex="mux-0"} 1.0' in metrics
        refused = await switch(one, "main")
        assert refused.status_code == 500
        assert "the standby goes on" in refused.json()["error"]["text"]
        assert (await switch(one, "sideways")).status_code == 404
        await main.listen()
        before = len(main.sections)
        assert (await switch(one, "main")).json() == {"multiplex": "mux-0", "carried_by": "main"}
        await main.until(lambda: len(main.sections) > before)
        events = [e for e in kaisa.heard if e.topic.endswith("/on-air") and e.payload["revision"] == 2]
        assert len(events) == 1, "on the air once, whoever carries it"
    assert main.faults == standby.faults == []
