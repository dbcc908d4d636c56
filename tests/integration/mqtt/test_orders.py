"""From a portal's order over a real broker into a real ledger, and back: replies, events, rejects, acknowledgements."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cad.air.outgoing import FirstAir
from cad.ledger.ledger import Ledger
from cad.ledger.model import Outcome
from protocol.card_number import spell
from tests.support.broker import Mosquitto, running
from tests.support.eventually import eventually
from tests.support.order_desk import OrderDesk, mqtt_settings, order_desk
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

CARD = spell(7)
OFFER = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}
ASSIGN = {"card": CARD, "rev": 1, "subscriber": "customer-1"}
SUBSCRIBE = {"subscription": "s-1", "rev": 1, "card": CARD, "offer": "sport"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


@pytest.fixture
async def desk(broker: Mosquitto, tmp_path: Path) -> AsyncIterator[OrderDesk]:
    async with order_desk(tmp_path / "state", mqtt_settings(broker)) as one:
        yield one


@pytest.fixture
async def karjaa(broker: Mosquitto, desk: OrderDesk) -> AsyncIterator[Portal]:
    async with portal(broker, "karjaa") as one:
        yield one


async def prepare(client: Portal) -> None:
    await client.reply(await client.order("offer", "put", OFFER), "committed")
    await client.reply(await client.order("card", "assign", ASSIGN), "committed")


async def test_an_order_is_answered_with_its_correlation_data_and_cloud_event_attributes(
    desk: OrderDesk, karjaa: Portal
) -> None:
    await prepare(karjaa)
    command_id = await karjaa.order("subscription", "put", SUBSCRIBE)

    reply = await karjaa.reply(command_id)

    assert reply.topic == "cad/v1/karjaa/rep/web"
    said = {"id": command_id, "status": "committed", "code": "ok", "errors": [], "retryable": False, "card": CARD}
    assert reply.payload.items() >= said.items()
    assert reply.payload["on_air_by"].endswith("Z")
    assert reply.payload["visible_by"] > reply.payload["on_air_by"]
    assert reply.correlation == command_id.encode()
    assert reply.content_type == "application/json"
    assert set(reply.properties) == {"specversion", "id", "source", "type", "time"}
    assert reply.properties["type"] == "cad.v1.reply"
    assert reply.properties["source"] == "cad/v1/karjaa"
    assert [change.address for outcome in desk.outcomes for change in outcome.card_changes] == [7, 7]
    assert desk.metric("cad_commands_total", operator="karjaa", code="ok") == 3


async def test_the_same_id_again_is_answered_from_the_ledger_and_does_nothing(desk: OrderDesk, karjaa: Portal) -> None:
    await prepare(karjaa)
    await karjaa.order("subscription", "put", SUBSCRIBE, "order-1")
    first = await karjaa.reply("order-1", "committed")
    before = await desk.ledger.card_view(7)

    await karjaa.order("subscription", "put", SUBSCRIBE, "order-1")
    again = await karjaa.reply("order-1", "duplicate")

    assert again.payload == first.payload | {"status": "duplicate"}
    assert await desk.ledger.card_view(7) == before


async def test_the_same_id_with_another_content_is_refused(desk: OrderDesk, karjaa: Portal) -> None:
    await prepare(karjaa)
    await karjaa.order("subscription", "put", SUBSCRIBE, "order-1")
    await karjaa.reply("order-1", "committed")
    before = await desk.ledger.card_view(7)

    await karjaa.order("subscription", "put", SUBSCRIBE | {"rev": 2, "ends_at": "2030-01-01T00:00:00Z"}, "order-1")
    refused = await karjaa.reply("order-1", "rejected")

    assert refused.payload["code"] == "id_reused"
    assert await desk.ledger.card_view(7) == before


@pytest.mark.parametrize(
    ("payload", "properties", "code"),
    [
        (b"\xff\xfe no json", [("id", "x")], "unreadable"),
        (b"", [("id", "x")], "unreadable"),
        (b"[1, 2]", [("id", "x")], "unreadable"),
        (json.dumps(ASSIGN).encode(), [], "bad_id"),
        (json.dumps(ASSIGN | {"id": "a"}).encode(), [("id", "b")], "bad_id"),
        (b" " * 20_000, [("id", "x")], "too_large"),
        (json.dumps(ASSIGN | {"rev": "one"}).encode(), [("id", "x")], "invalid"),
    ],
)
async def test_what_cannot_be_answered_goes_to_rej_and_is_acknowledged(
    desk: OrderDesk, karjaa: Portal, payload: bytes, properties: list[tuple[str, str]], code: str
) -> None:
    await karjaa.send("cad/v1/karjaa/cmd/card/assign", payload, user_properties=properties)

    reject = await karjaa.until(lambda one: one.topic == "cad/v1/karjaa/rej")

    assert reject.payload["code"] == code
    assert reject.payload["hash"] == hashlib.sha256(payload).hexdigest()
    assert reject.payload["size"] == len(payload)
    assert reject.payload["reason"]
    assert (reject.payload["resource"], reject.payload["verb"]) == ("card", "assign")
    await asyncio.sleep(0.1)
    assert desk.link._current is not None
    assert desk.link._current.unacked == 0


async def test_a_command_that_does_not_exist_is_told_on_rej(karjaa: Portal) -> None:
    for topic in ("cad/v1/karjaa/cmd/card/explode", "cad/v1/karjaa/cmd/card", "cad/v1/karjaa/cmd/a/b/c"):
        await karjaa.send(topic, b"{}", user_properties=[("id", "x")])
    for place in range(3):
        await karjaa.until(lambda one, place=place: [o for o in karjaa.heard if o.topic.endswith("/rej")][place:])
    assert {one.payload["code"] for one in karjaa.heard if one.topic.endswith("/rej")} == {"unknown_command"}


async def test_an_invalid_command_with_an_id_is_answered_with_the_fields(desk: OrderDesk, karjaa: Portal) -> None:
    body = {"card": "000000000076", "rev": -1, "subscriber": "x", "colour": "red"}
    reply = await karjaa.reply(await karjaa.order("card", "assign", body), "rejected")

    assert reply.payload["code"] == "invalid"
    assert {error["field"] for error in reply.payload["errors"]} == {"card", "rev", "colour"}
    assert all(error["text"] for error in reply.payload["errors"])


async def test_a_response_topic_outside_the_senders_own_is_refused_and_nothing_is_done(
    broker: Mosquitto, desk: OrderDesk, karjaa: Portal
) -> None:
    await karjaa.send(
        "cad/v1/karjaa/cmd/card/assign",
        json.dumps(ASSIGN).encode(),
        response_topic="cad/v1/kaspnet/rep/web",
        user_properties=[("id", "x")],
    )
    reject = await karjaa.until(lambda one: one.topic == "cad/v1/karjaa/rej")

    assert reject.payload["code"] == "bad_reply_topic"
    assert await desk.ledger.card_view(7) is None


async def test_a_client_without_mqtt_5_puts_id_and_client_name_into_the_payload(
    broker: Mosquitto, desk: OrderDesk
) -> None:
    async with portal(broker, "karjaa", "old", v5=False) as old:
        body = ASSIGN | {"id": "order-1", "reply_to": "old"}
        await old.send("cad/v1/karjaa/cmd/card/assign", json.dumps(body).encode())
        reply = await old.reply("order-1", "committed")
    assert reply.topic == "cad/v1/karjaa/rep/old"


async def test_the_first_transmissions_are_published(desk: OrderDesk, karjaa: Portal) -> None:
    await prepare(karjaa)
    command_id = await karjaa.order("subscription", "put", SUBSCRIBE)
    await karjaa.reply(command_id, "committed")
    change = desk.outcomes[-1].card_change
    assert change is not None

    await desk.ledger.first_air([FirstAir(change.change_seq, "mux-2", change.committed_at + 1)])

    event = await karjaa.until(lambda one: one.topic.endswith("/on-air") and one.payload["command"] == command_id)
    assert event.topic == "cad/v1/karjaa/evt/card/on-air"
    assert event.payload["card"] == CARD
    assert event.payload["multiplex"] == "mux-2"
    assert event.payload["remaining"] == ["mux-1"]
    assert event.properties["type"] == "cad.v1.card.on-air"


class _Gate:
    """Lets a ledger's commits through only when it is open, and counts those that wait."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()

    def around(self, ledger: Ledger) -> Ledger:
        commit = ledger.commit

        async def slow(intakes: Any) -> list[Outcome]:
            self.asked.set()
            await self.open.wait()
            return await commit(intakes)

        ledger.commit = slow  # type: ignore[method-assign]
        return ledger


async def test_nothing_is_acknowledged_or_answered_before_the_commit(broker: Mosquitto, tmp_path: Path) -> None:
    gate = _Gate()
    settings = mqtt_settings(broker)
    async with portal(broker, "karjaa") as karjaa:
        async with order_desk(tmp_path / "state", settings, wrap=gate.around) as desk:
            await karjaa.order("card", "assign", ASSIGN, "order-1")
            async with asyncio.timeout(10):
                await gate.asked.wait()
            await asyncio.sleep(0.3)
            assert karjaa.replies("order-1") == []
            assert desk.metric("cad_unacked_messages") == 1
            await desk.crash()

        async with order_desk(tmp_path / "state", settings) as desk:
            reply = await karjaa.reply("order-1")
            assert reply.payload["status"] == "committed"
            await eventually(lambda: len(desk.outcomes) == 1)
            assert desk.link.sessions_lost == 0


async def test_a_crash_between_commit_and_acknowledgement_does_nothing_twice(broker: Mosquitto, tmp_path: Path) -> None:
    settings = mqtt_settings(broker)
    committed = asyncio.Event()

    def around(ledger: Ledger) -> Ledger:
        commit = ledger.commit

        async def last_breath(intakes: Any) -> list[Outcome]:
            outcomes = await commit(intakes)
            committed.set()
            await asyncio.Event().wait()
            return outcomes

        ledger.commit = last_breath  # type: ignore[method-assign]
        return ledger

    async with portal(broker, "karjaa") as karjaa:
        async with order_desk(tmp_path / "state", settings, wrap=around) as desk:
            desk.ledger.on_messages = lambda messages: None  # the reply does not get out either
            await karjaa.order("card", "assign", ASSIGN, "order-1")
            async with asyncio.timeout(10):
                await committed.wait()
            await desk.crash()

        async with order_desk(tmp_path / "state", settings) as desk:
            again = await karjaa.reply("order-1", "duplicate")
            await karjaa.reply("order-1", "committed")  # it lay in the outbox
            view = await desk.ledger.card_view(7)
    assert view is not None
    assert view.revision == 1
    assert again.payload["code"] == "ok"


async def test_orders_given_while_the_daemon_is_away_are_taken_when_it_is_back(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = mqtt_settings(broker)
    async with portal(broker, "karjaa") as karjaa:
        async with order_desk(tmp_path / "state", settings) as desk:
            await desk.stop()
        state = await karjaa.until(lambda one: "_node" in one.topic and not one.payload["online"])
        assert state.topic == "cad/v1/_node/node-1/state"
        for number in range(300):
            await karjaa.order("card", "assign", ASSIGN | {"card": spell(number)}, f"order-{number}")
        async with order_desk(tmp_path / "state", settings) as desk:
            for number in range(300):
                await karjaa.reply(f"order-{number}", "committed")
            assert desk.link.sessions_lost == 0
            sizes = desk.metrics.registry.get_sample_value("cad_commit_batch_commands_count")
    assert sizes is not None
    assert sizes < 300, "orders that wait together are committed together"


async def test_the_nodes_state_is_retained_and_its_will_says_when_it_is_gone(broker: Mosquitto, tmp_path: Path) -> None:
    async with order_desk(tmp_path / "state", mqtt_settings(broker)) as desk, portal(broker, "karjaa") as karjaa:
        born = await karjaa.until(lambda one: "_node" in one.topic)
        assert born.payload["online"] is True
        assert born.payload["role"] == "active"
        await desk.crash()
        gone = await karjaa.until(lambda one: "_node" in one.topic and not one.payload["online"])
        assert gone.payload["role"] == "none"
