"""I10: no operator reads or changes what belongs to another, by the broker's access list and by the ledger."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import pytest

from protocol.card_number import spell
from tests.support.broker import SHIPPED, Mosquitto, running
from tests.support.eventually import eventually
from tests.support.order_desk import OrderDesk, mqtt_settings, order_desk
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

KARJAA_CARD, KASPNET_CARD = spell(7), spell(1007)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


@pytest.fixture
async def desk(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[OrderDesk]:
    async with order_desk(tmp_path / "state", mqtt_settings(broker)) as one:
        yield one


@pytest.fixture
async def portals(broker: Mosquitto, desk: OrderDesk) -> AsyncIterator[tuple[Portal, Portal]]:
    async with portal(broker, "karjaa") as karjaa, portal(broker, "kaspnet") as kaspnet:
        yield karjaa, kaspnet


async def test_the_broker_lets_nobody_order_in_anothers_name(
    broker: Mosquitto, desk: OrderDesk, portals: tuple[Portal, Portal]
) -> None:
    body = {"id": "x", "card": KARJAA_CARD, "rev": 1, "subscriber": "mine", "reply_to": "web"}
    async with portal(broker, "karjaa", "thief", certificate="kaspnet", v5=False) as thief:
        await thief.client.publish("cad/v1/karjaa/cmd/card/assign", json.dumps(body).encode(), qos=1)
    await asyncio.sleep(0.3)
    assert desk.outcomes == []
    assert await desk.ledger.card_view(7) is None


async def test_the_broker_shows_nobody_anothers_replies_events_and_orders(
    broker: Mosquitto, portals: tuple[Portal, Portal]
) -> None:
    karjaa, kaspnet = portals
    for topic in ("#", "cad/v1/karjaa/#", "cad/v1/+/rep/+", "cad/v1/+/cmd/#"):
        await kaspnet.client.subscribe(topic, qos=1)
    body = {"card": KARJAA_CARD, "rev": 1, "subscriber": "mine"}
    await karjaa.reply(await karjaa.order("card", "assign", body), "committed")
    await karjaa.send("cad/v1/karjaa/cmd/card/assign", b"nonsense")
    await karjaa.until(lambda one: one.topic.endswith("/rej"))
    await asyncio.sleep(0.2)
    assert [one.topic for one in kaspnet.heard if "karjaa" in one.topic] == []


async def test_the_broker_lets_no_portal_speak_for_the_headend(
    broker: Mosquitto, portals: tuple[Portal, Portal]
) -> None:
    karjaa, kaspnet = portals
    lie = b'{"online": false}'
    own, others = "cad/v1/kaspnet/rep/web", ("cad/v1/karjaa/rep/web", "cad/v1/karjaa/evt/card/on-air")
    for topic in (own, *others, "cad/v1/_node/node-1/state"):
        with contextlib.suppress(aiomqtt.MqttError):  # some are thrown out for it
            async with portal(broker, "kaspnet", "liar", v5=False) as liar:
                await liar.client.publish(topic, lie, qos=1, retain=True)
    await asyncio.sleep(0.3)
    assert [one for one in (*karjaa.heard, *kaspnet.heard) if not one.payload.get("online", False)] == []


async def test_anothers_card_offer_and_subscription_do_not_exist(
    desk: OrderDesk, portals: tuple[Portal, Portal]
) -> None:
    karjaa, kaspnet = portals
    offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "U"}, "products": ["sport"]}
    await karjaa.reply(await karjaa.order("offer", "put", offer), "committed")
    body = {"card": KARJAA_CARD, "rev": 1, "subscriber": "mine"}
    await karjaa.reply(await karjaa.order("card", "assign", body), "committed")
    order = {"subscription": "s-1", "rev": 1, "card": KARJAA_CARD, "offer": "sport"}
    await karjaa.reply(await karjaa.order("subscription", "put", order), "committed")
    before = await desk.ledger.card_view(7)

    async def code(resource: str, verb: str, body: dict[str, object]) -> str:
        reply = await kaspnet.reply(await kaspnet.order(resource, verb, body), "rejected")
        return str(reply.payload["code"])

    assert await code("card", "assign", body | {"rev": 9}) == "unknown_card"
    assert await code("card", "suspend", {"card": KARJAA_CARD, "rev": 9}) == "unknown_card"
    assert await code("card", "refresh", {"card": KARJAA_CARD}) == "unknown_card"
    assert await code("subscription", "end", {"subscription": "s-1", "rev": 9}) == "unknown_subscription"
    own = {"card": KASPNET_CARD, "rev": 1, "subscriber": "theirs"}
    await kaspnet.reply(await kaspnet.order("card", "assign", own), "committed")
    assert await code("subscription", "put", order | {"card": KASPNET_CARD}) == "unknown_offer"
    assert await code("offer", "put", offer | {"products": ["film"]}) == "not_granted"
    assert await desk.ledger.card_view(7) == before


async def test_an_operator_that_is_not_in_the_settings_is_told_so(broker: Mosquitto, desk: OrderDesk) -> None:
    async with portal(broker, "stranger") as stranger:
        await stranger.order("card", "assign", {"card": KARJAA_CARD, "rev": 1, "subscriber": "x"})
        reject = await stranger.until(lambda one: one.topic == "cad/v1/stranger/rej")
    assert reject.payload["code"] == "unknown_operator"
    await eventually(lambda: desk.metric("cad_unreadable_messages_total", operator="other") == 1)


async def test_a_reply_that_the_broker_does_not_take_holds_up_no_other(broker: Mosquitto, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    shipped = (SHIPPED / "acl").read_text()
    acl.write_text(shipped.replace("topic write cad/v1/+/rep/+", "topic write cad/v1/kaspnet/rep/+"))
    broker.stop()
    broker.configure(acl=acl)
    broker.start()
    async with (
        order_desk(tmp_path / "state", mqtt_settings(broker)) as desk,
        portal(broker, "karjaa") as karjaa,
        portal(broker, "kaspnet") as kaspnet,
    ):
        await karjaa.order("card", "assign", {"card": KARJAA_CARD, "rev": 1, "subscriber": "mine"}, "unheard")
        await eventually(lambda: desk.outbox.set_aside >= 1, 20)
        own = {"card": KASPNET_CARD, "rev": 1, "subscriber": "theirs"}
        await kaspnet.reply(await kaspnet.order("card", "assign", own), "committed", timeout_s=30)
        async with asyncio.timeout(20):
            while {one.topic for one in await desk.ledger.pending(0, 10)} != {"cad/v1/karjaa/rep/web"}:
                await asyncio.sleep(0.1)
