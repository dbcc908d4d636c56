"""Order a channel with the shipped client: each command is repeated until its answer has come, also across restarts.

    OPERATOR=kaisa CARD=100000000008 BROKER=broker.example PORT=8883 CA=ca.pem CERT=kaisa.pem KEY=kaisa.key \\
        python with_client.py
"""

import asyncio
import os
from pathlib import Path

from cad.portal import (
    CardAssign,
    CardOnAir,
    OfferPut,
    PortalClient,
    PortalSettings,
    SubscriptionPut,
    card_number,
)


def file(name: str) -> Path | None:
    return Path(os.environ[name]) if name in os.environ else None


async def main() -> None:
    settings = PortalSettings(
        operator=os.environ["OPERATOR"],
        client="example-client",
        outbox=Path(os.environ.get("OUTBOX", "outbox.db")),
        host=os.environ.get("BROKER", "localhost"),
        port=int(os.environ.get("PORT", "8883")),
        ca_file=file("CA"),
        cert_file=file("CERT"),
        key_file=file("KEY"),
    )
    card = card_number.parse(os.environ["CARD"])
    async with PortalClient(settings) as portal:
        # On disk when `send_all` returns. The order counts: the subscription waits for its offer and its card.
        *_, last = await portal.send_all(
            [
                OfferPut(
                    id="offer-client-1",
                    offer="sport",
                    rev=1,
                    kind="channel",
                    names={"en": "Sport"},
                    products=("sport",),
                ),
                CardAssign(id="assign-client-1", card=card, rev=1, subscriber="customer-4711"),
                SubscriptionPut(id="order-client-1", subscription="s-client", rev=1, card=card, offer="sport"),
            ]
        )
        answer = await portal.answer(last)
        print(f"{answer.id}: {answer.status}, {answer.code}")
        if not answer.ok:
            raise SystemExit(answer.detail)
        async for event in portal.facts():
            if isinstance(event.fact, CardOnAir) and event.fact.command == last:
                print(f"on the air on {event.fact.multiplex}")
                break


asyncio.run(main())
