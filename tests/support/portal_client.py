"""An operator's portal at the broker, on plain aiomqtt: orders, and hears what comes back."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.broker import HOST, Mosquitto


@dataclass(frozen=True)
class Heard:
    """A message that came to the portal."""

    topic: str
    payload: dict[str, Any]
    correlation: bytes | None
    properties: dict[str, str]
    content_type: str | None


class Portal:
    """One connection of one operator's portal. `heard` gathers all that came."""

    def __init__(self, client: aiomqtt.Client, operator: str, name: str, v5: bool) -> None:
        self.client = client
        self.operator = operator
        self.name = name
        self.heard: list[Heard] = []
        self._v5 = v5
        self._something = asyncio.Condition()

    @property
    def reply_topic(self) -> str:
        return f"cad/v1/{self.operator}/rep/{self.name}"

    async def listen(self) -> None:
        async for message in self.client.messages:
            properties = message.properties
            payload = bytes(message.payload)
            heard = Heard(
                topic=str(message.topic),
                payload=json.loads(payload) if payload else {},
                correlation=getattr(properties, "CorrelationData", None),
                properties=dict(getattr(properties, "UserProperty", [])),
                content_type=getattr(properties, "ContentType", None),
            )
            async with self._something:
                self.heard.append(heard)
                self._something.notify_all()

    async def order(self, resource: str, verb: str, body: dict[str, Any], command_id: str | None = None) -> str:
        """Publish a command the way a MQTT 5 portal does; return its id."""
        command_id = command_id or uuid.uuid4().hex
        await self.send(
            f"cad/v1/{self.operator}/cmd/{resource}/{verb}",
            json.dumps(body).encode(),
            response_topic=self.reply_topic,
            correlation=command_id.encode(),
            user_properties=[("id", command_id), ("specversion", "1.0")],
        )
        return command_id

    async def send(
        self,
        topic: str,
        payload: bytes,
        *,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        user_properties: list[tuple[str, str]] | None = None,
    ) -> None:
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.PUBLISH)
            if response_topic is not None:
                properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
            if user_properties:
                properties.UserProperty = user_properties
        await self.client.publish(topic, payload, qos=1, properties=properties)

    async def reply(self, command_id: str, status: str | None = None, timeout_s: float = 10) -> Heard:
        """Wait for the reply to a command."""
        return await self.until(
            lambda one: (
                "/rep/" in one.topic and one.payload.get("id") == command_id and status in (None, one.payload["status"])
            ),
            timeout_s,
        )

    async def answer(self, command: str, timeout_s: float = 60, **body: Any) -> dict[str, Any]:
        """Send a command, `card assign`, and return what its reply says."""
        resource, verb = command.split()
        return dict((await self.reply(await self.order(resource, verb, body), timeout_s=timeout_s)).payload)

    async def committed(self, command: str, **body: Any) -> dict[str, Any]:
        """Send a command, and return what its reply says, which must be that it is in force."""
        reply = await self.answer(command, **body)
        assert (reply["status"], reply["code"]) == ("committed", "ok"), reply
        return reply

    def facts(self) -> list[dict[str, Any]]:
        """Facts for the invoice by their number, in order; each has come under one CloudEvents id alone."""
        told: dict[int, dict[str, Any]] = {}
        ids: dict[int, str] = {}
        for one in self.heard:
            if "/evt/invoice/" in one.topic:
                number, event_id = one.payload["number"], one.properties["id"]
                assert ids.setdefault(number, event_id) == event_id, f"fact {number} is told twice"
                assert told.setdefault(number, one.payload) == one.payload, f"fact {number} has changed"
        assert len(set(ids.values())) == len(ids), "two facts under one id"
        return [told[number] for number in sorted(told)]

    async def until(self, wanted: Any, timeout_s: float = 10) -> Heard:
        """Wait for a message that is as wanted."""

        def found() -> Heard | None:
            return next((one for one in self.heard if wanted(one)), None)

        async with asyncio.timeout(timeout_s), self._something:
            await self._something.wait_for(lambda: found() is not None)
        one = found()
        assert one is not None
        return one

    def replies(self, command_id: str) -> list[Heard]:
        return [one for one in self.heard if "/rep/" in one.topic and one.payload.get("id") == command_id]


@asynccontextmanager
async def portal(
    broker: Mosquitto, operator: str, name: str = "web", *, v5: bool = True, certificate: str | None = None
) -> AsyncIterator[Portal]:
    """A portal connected to the broker, hearing its replies, events and rejects."""
    client = aiomqtt.Client(
        HOST,
        broker.port,
        identifier=f"{operator}-{name}",
        protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
        tls_context=broker.authority.context(certificate or operator),
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # as the client that ships
    )
    async with client:
        one = Portal(client, operator, name, v5)
        for topic in (f"cad/v1/{operator}/rep/#", f"cad/v1/{operator}/evt/#", f"cad/v1/{operator}/rej"):
            await client.subscribe(topic, qos=1)
        await client.subscribe("cad/v1/_node/+/state", qos=1)
        listening = asyncio.create_task(one.listen())
        try:
            yield one
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
