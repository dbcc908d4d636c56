"""Order a channel with nothing but aiomqtt: what a client of your own has to do.

It repeats the command until the reply has come. It does not survive its own restart: for that the command must be on
disk before it leaves (the shipped client does that).

    OPERATOR=kaisa CARD=100000000008 BROKER=broker.example PORT=8883 CA=ca.pem CERT=kaisa.pem KEY=kaisa.key \\
        python with_aiomqtt.py
"""

import asyncio
import json
import os
import ssl

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

OPERATOR = os.environ["OPERATOR"]
REPLIES = f"cad/v1/{OPERATOR}/rep/example-aiomqtt"
REPEAT_AFTER_S = 10


def tls() -> ssl.SSLContext | None:
    if "CA" not in os.environ:
        return None
    context = ssl.create_default_context(cafile=os.environ["CA"])
    context.load_cert_chain(os.environ["CERT"], os.environ["KEY"])
    return context


async def order(client: aiomqtt.Client, resource: str, verb: str, command_id: str, body: dict[str, object]) -> dict:
    """Send a command until its reply has come, and return the reply."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = REPLIES
    properties.UserProperty = [("id", command_id)]
    while True:
        await client.publish(
            f"cad/v1/{OPERATOR}/cmd/{resource}/{verb}", json.dumps(body).encode(), qos=1, properties=properties
        )
        try:
            async with asyncio.timeout(REPEAT_AFTER_S):
                async for message in client.messages:
                    reply = json.loads(message.payload)
                    if str(message.topic) == REPLIES and reply["id"] == command_id:
                        return reply
        except TimeoutError:
            print(f"{command_id}: no reply yet, sending it again")


async def main() -> None:
    card = os.environ["CARD"]
    async with aiomqtt.Client(
        os.environ.get("BROKER", "localhost"),
        int(os.environ.get("PORT", "8883")),
        identifier=f"{OPERATOR}-example-aiomqtt",
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=tls(),
    ) as client:
        await client.subscribe(REPLIES, qos=1)
        offer = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"en": "Sport"}, "products": ["sport"]}
        assign = {"card": card, "rev": 1, "subscriber": "customer-4711"}
        subscribe = {"subscription": "s-aiomqtt", "rev": 1, "card": card, "offer": "sport"}
        await order(client, "offer", "put", "offer-aiomqtt-1", offer)
        await order(client, "card", "assign", "assign-aiomqtt-1", assign)
        reply = await order(client, "subscription", "put", "order-aiomqtt-1", subscribe)
        print(f"{reply['id']}: {reply['status']}, {reply['code']}")
        if reply["code"] != "ok":
            raise SystemExit(reply["detail"])


asyncio.run(main())
