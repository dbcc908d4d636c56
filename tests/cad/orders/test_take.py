"""A message waits for company for a moment, counted from its own arrival."""

import asyncio

import pytest

from cad.orders.broker import BrokerConnection, Received
from config.settings import MqttSettings

LINGER_S = 0.5


def message(mid: int) -> Received:
    return Received("cad/v1/kaisa/cmd/card/assign", b"{}", 1, mid)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, none of which lasts."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("cad.orders.broker.asyncio.sleep", sleep)
    return made


async def test_what_has_just_come_waits_for_company(pauses: list[float]) -> None:
    connection = BrokerConnection(MqttSettings(host="localhost", client_id="test"))
    connection._take_in(message(1))
    assert await connection.take(10, LINGER_S) == [message(1)]
    (pause,) = pauses
    assert 0 < pause <= LINGER_S


async def test_what_has_waited_already_is_taken_at_once(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    connection = BrokerConnection(MqttSettings(host="localhost", client_id="test"))
    loop = asyncio.get_running_loop()
    connection._take_in(message(1))
    late = loop.time() + LINGER_S
    monkeypatch.setattr(loop, "time", lambda: late)
    connection._take_in(message(2))
    assert await connection.take(10, LINGER_S) == [message(1), message(2)]
    assert pauses == []


async def test_nothing_waits_without_a_moment_or_with_company_enough(pauses: list[float]) -> None:
    connection = BrokerConnection(MqttSettings(host="localhost", client_id="test"))
    for mid in range(3):
        connection._take_in(message(mid))
    assert len(await connection.take(2, LINGER_S)) == 2
    assert len(await connection.take(2, 0)) == 1
    assert pauses == []
