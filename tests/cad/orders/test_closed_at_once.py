"""A broker that closes at once is noticed at once, also when it does so in the thread that connects."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import aiomqtt
import pytest

from cad.orders.broker import BrokerConnection
from config.settings import MqttSettings


async def test_a_connection_that_ends_while_another_thread_connects_wakes_the_loop() -> None:
    connection = BrokerConnection(MqttSettings(host="localhost", client_id="test"))
    loop = asyncio.get_running_loop()
    client: Any = SimpleNamespace(_connected=loop.create_future(), _on_connect=None, _on_disconnect=None)
    inner: Any = SimpleNamespace()
    connection._wrap_connection(client, inner)
    connecting = threading.Thread(target=inner.on_disconnect, args=(None,) * 5)
    connecting.start()
    connecting.join()
    assert not client._connected.done(), "only the loop's own thread can do that and wake who waits"
    with pytest.raises(aiomqtt.MqttError, match="closed the connection at once"):
        await client._connected
