"""The demo's portal: publishes commands and waits for what becomes of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cad.errors import CadError
from cad.frame.supervisor import Supervisor
from protocol.portal import topics

CLIENT: Final = "demo-portal"


class DemoPortalError(CadError):
    """The headend answered what the demo does not expect."""


class DemoPortal:
    """One connection to the broker: `order` returns the reply; events come to `on_event(topic, payload)`."""

    def __init__(self, client: aiomqtt.Client, operator: str) -> None:
        self._client = client
        self._operator = operator
        self._replies: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def listen(self) -> None:
        """Take what comes until cancelled."""
        async for message in self._client.messages:
            payload = json.loads(bytes(message.payload))
            if str(message.topic) == topics.reply(self._operator, CLIENT):
                self._replies[payload["id"]] = payload
            else:
                self.events.append((str(message.topic), payload))

    async def subscribe(self) -> None:
        """Hear replies, events and what could not be understood."""
        await self._client.subscribe(topics.reply(self._operator, CLIENT), qos=1)
        await self._client.subscribe(f"{topics.ROOT}/{self._operator}/evt/#", qos=1)
        await self._client.subscribe(topics.rejects(self._operator), qos=1)

    async def publish(self, resource: str, verb: str, body: dict[str, Any]) -> str:
        """Publish one command under a new id, and return the id."""
        command_id = str(uuid.uuid4())
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = topics.reply(self._operator, CLIENT)
        properties.CorrelationData = command_id.encode()
        properties.UserProperty = [("id", command_id), ("source", "demo-portal"), ("specversion", "1.0")]
        topic = topics.command(self._operator, resource, verb)
        await self._client.publish(topic, json.dumps(body).encode(), qos=1, properties=properties)
        return command_id

    def reply_to(self, command_id: str) -> dict[str, Any] | None:
        """The reply to a command, None as long as there is none."""
        return self._replies.get(command_id)

    def event_of(self, name: str, command_id: str) -> dict[str, Any] | None:
        """The first event of that name about a command, None as long as there is none."""
        for topic, payload in self.events:
            if topic.endswith(f"/{name}") and payload.get("command") == command_id:
                return payload
        return None


@asynccontextmanager
async def connected(port: int, operator: str, supervisor: Supervisor) -> AsyncIterator[DemoPortal]:
    """A portal of `operator` on the broker at `port` of loopback."""
    async with aiomqtt.Client(
        "127.0.0.1", port, identifier=f"{operator}-{CLIENT}", protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        portal = DemoPortal(client, operator)
        await portal.subscribe()
        supervisor.start("demo portal", portal.listen, restart=False)
        try:
            yield portal
        finally:
            await supervisor.stop("demo portal")
