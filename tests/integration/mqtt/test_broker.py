"""The adapter around aiomqtt: what it reaches into privately must go on working (D11)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cad.orders.broker import BrokerConnection
from cad.orders.broker_faults import BrokerDownError, PublishDeniedError
from protocol.portal import topics
from tests.support.broker import Mosquitto, running
from tests.support.eventually import eventually
from tests.support.order_desk import mqtt_settings
from tests.support.portal_client import Portal, portal

pytestmark = pytest.mark.integration

COMMAND = "cad/v1/karjaa/cmd/card/refresh"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


@asynccontextmanager
async def connected(broker: Mosquitto, **changed: object) -> AsyncIterator[BrokerConnection]:
    connection = BrokerConnection(mqtt_settings(broker, **changed), topics.node_state("node-1"), b"{}")
    await connection.open()
    await connection.subscribe(topics.COMMAND_FILTER)
    try:
        yield connection
    finally:
        await connection.close()


async def publish(client: Portal, *payloads: bytes) -> None:
    for payload in payloads:
        await client.send(COMMAND, payload)


async def test_what_is_not_acknowledged_by_hand_comes_again_and_what_is_does_not(broker: Mosquitto) -> None:
    """Fails when the private calls for manual acknowledgement stop working."""
    async with portal(broker, "karjaa") as client:
        async with connected(broker) as first:
            assert not first.session_present
            await publish(client, b"one", b"two", b"three")
            taken = [one for _ in range(3) for one in await first.take(1, 0)]
            assert [one.payload for one in taken] == [b"one", b"two", b"three"]
            assert first.unacked == 3
            first.ack(taken[:1])
            assert first.unacked == 2
            await asyncio.sleep(0.2)
        async with connected(broker) as second:
            assert second.session_present
            again = [one for _ in range(2) for one in await second.take(1, 0)]
            assert [one.payload for one in again] == [b"two", b"three"]
            second.ack(again)
            await asyncio.sleep(0.2)
        async with connected(broker) as third:
            await publish(client, b"four")
            assert [one.payload for one in await third.take(10, 0.05)] == [b"four"]


async def test_late_acknowledgements_of_an_older_connection_fall_away(broker: Mosquitto) -> None:
    async with portal(broker, "karjaa") as client:
        async with connected(broker) as first:
            await publish(client, b"one")
            late = await first.take(1, 0)
        first.ack(late)
        async with connected(broker) as second:
            assert [one.payload for one in await second.take(1, 0)] == [b"one"]
            first.ack(late)
            await asyncio.sleep(0.2)
            assert second.unacked == 1
        async with connected(broker) as third:
            assert [one.payload for one in await third.take(1, 0)] == [b"one"]


async def test_properties_of_a_message_arrive(broker: Mosquitto) -> None:
    async with portal(broker, "karjaa") as client, connected(broker) as connection:
        await client.send(
            COMMAND, b"{}", response_topic="cad/v1/karjaa/rep/web", correlation=b"c", user_properties=[("id", "7")]
        )
        (received,) = await connection.take(1, 0)
    assert (received.topic, received.response_topic, received.correlation) == (COMMAND, "cad/v1/karjaa/rep/web", b"c")
    assert received.user_properties == (("id", "7"),)


async def test_a_denied_publish_is_noticed(broker: Mosquitto) -> None:
    async with connected(broker) as connection:
        await connection.publish("cad/v1/karjaa/rep/web", b"{}")
        with pytest.raises(PublishDeniedError):
            await connection.publish("cad/v1/karjaa/cmd/card/assign", b"{}")


async def test_when_too_many_wait_nothing_more_is_read_and_later_all_arrive(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cad.orders.broker.RECEIVE_MAXIMUM_MIN", 5)
    monkeypatch.setattr("cad.orders.broker.INBOX_PAUSE", 1)
    payloads = [str(number).encode() for number in range(200)]
    async with portal(broker, "karjaa") as client, connected(broker, batch_max=1) as connection:
        for payload in payloads:
            # QoS 0 knows no receive maximum: only not reading holds it back.
            await client.client.publish(COMMAND, payload, qos=0)
        await eventually(lambda: connection._paused)
        assert len(connection._inbox) < 20
        connection._pause()  # as happens when one look at the socket brings several messages
        taken = []
        while len(taken) < len(payloads):
            async with asyncio.timeout(5):
                taken += await connection.take(3, 0)
    assert [one.payload for one in taken] == payloads


async def test_the_end_of_a_connection_is_told_to_whoever_waits(broker: Mosquitto) -> None:
    async with connected(broker) as connection:
        broker.kill()
        why = await connection.wait_ended()
        assert "ended" in why.reason
        with pytest.raises(BrokerDownError):
            await connection.take(1, 0)
        with pytest.raises(BrokerDownError):
            await connection.publish("cad/v1/karjaa/rep/web", b"{}")


async def test_publishing_under_way_when_the_connection_ends_fails(broker: Mosquitto) -> None:
    async with connected(broker) as connection:
        broker.freeze()
        futures = [connection.publish("cad/v1/karjaa/rep/web", b"{}") for _ in range(3)]
        broker.kill()
        for future in futures:
            with pytest.raises(BrokerDownError):
                await future
