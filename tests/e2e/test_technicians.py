"""A technician and the whole headend: what was ordered over MQTT gets into the card through the daemon's own port."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.broker import HOST, free_port
from tests.support.headend import FIRST, Headend, headend
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

TABLE = """
[technicians]
listen = "127.0.0.1:{port}"
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/headend.pem"
key_file = "{pki}/headend.key"
"""
ANNA = '[[technicians.people]]\nname = "anna"\noperator = "kaisa"\n'


async def committed(kaisa: Portal, resource: str, verb: str, **body: Any) -> None:
    reply = (await kaisa.reply(await kaisa.order(resource, verb, body))).payload
    assert reply["status"] == "committed", reply


def client(one: Headend, port: int) -> httpx.AsyncClient:
    context = one.broker.authority.context("anna")
    return httpx.AsyncClient(base_url=f"https://{HOST}:{port}", verify=context, timeout=10)


async def test_an_order_gets_into_the_card_from_the_laptop_and_who_left_is_out_after_a_reload(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=1) as one:
        port, pki = free_port(), one.broker.authority.folder
        one.broker.authority.issue("headend")
        table = TABLE.format(port=port, pki=pki)
        one.write_settings(lambda text: text + table + ANNA)
        await one.start()
        card = one.card(FIRST["kaisa"])
        async with portal(one.broker, "kaisa") as kaisa:
            offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}
            await committed(kaisa, "offer", "put", **offer)
            await committed(kaisa, "card", "assign", card=card.number, rev=1, subscriber="customer")
            await committed(kaisa, "subscription", "put", subscription="s-1", rev=1, card=card.number, offer="sport")
        async with client(one, port) as anna:
            challenge = (await anna.post(f"/v1/cards/{card.number}/challenge")).json()["challenge"]
            proof = card.session.authenticate(bytes.fromhex(challenge)).hex()
            answer = await anna.post(f"/v1/cards/{card.number}/proof", json={"challenge": challenge, "proof": proof})
            assert answer.json() == {"genuine": True}
            for section in (await anna.post(f"/v1/cards/{card.number}/emm")).json()["sections"]:
                card.session.process_emm(bytes.fromhex(section))
            assert [right.product_id for right in card.session.read_info().rights] == [7]
            listed = (await anna.get(f"/v1/cards/{card.number}")).json()
            assert [place["multiplex"] for place in listed["on_air"]] == ["mux-0"]
            one.write_settings(lambda text: text + table)
            assert one.process is not None
            one.process.send_signal(signal.SIGHUP)
            await one.until(lambda: _is_out(anna), "the technician to be out")
        export = (await one.ask("/v1/audit/export")).text.splitlines()
        acts = [json.loads(line) for line in export if '"kind":"technician"' in line.replace(" ", "")]
        assert [act["act"] for act in acts][:3] == ["prove", "emm", "look"]
        assert {act["who"] for act in acts} == {"anna"}
        assert (await one.ask("/v1/audit/verify")).status_code == 200


async def _is_out(anna: httpx.AsyncClient) -> bool:
    return (await anna.get("/v1/me")).status_code == 403


async def test_a_certificate_that_cannot_be_used_stops_the_start_with_words(tmp_path: Path) -> None:
    async with headend(tmp_path, multiplexers=0) as one:
        table = TABLE.format(port=free_port(), pki=tmp_path / "nowhere")
        one.write_settings(lambda text: text + table + ANNA)
        one.spawn()
        assert one.process is not None
        assert one.process.wait(30) != 0
        one.process = None
        assert "technicians.ca_file" in one.log_tail()
