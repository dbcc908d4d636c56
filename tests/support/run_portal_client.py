"""`python -m tests.support.run_portal_client OUTBOX OPERATOR PORT PKI`: the shipped client in a process of its own.

Takes `NUMBER` lines on standard input: put the orders of that round. Prints `put NUMBER` when they are on disk,
`answer ID STATUS CODE` for each answer, also of those from before its start, and `fact ID` for each event.
"""

import asyncio
import sys
from pathlib import Path

from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from cad.portal.client import PortalClient
from cad.portal.settings import PortalSettings
from protocol.portal.commands.cards import CardAssign, CardReopen, CardSuspend
from protocol.portal.commands.offers import OfferPut
from protocol.portal.commands.parsing import AnyCommand
from protocol.portal.commands.subscriptions import SubscriptionPut
from tests.support.broker import HOST
from tests.support.headend import FIRST

CARDS = 4
"""Cards of one round, with ORDERS orders each."""
ORDERS = 5


def orders(number: int) -> list[AnyCommand]:
    """The orders of a round, each with an id of its own: they belong together, and their order matters."""
    made: list[AnyCommand] = [
        OfferPut(
            id=f"{number}-offer",
            offer="sport",
            rev=number,
            kind="channel",
            names={"en": f"{number}"},
            products=("sport",),
        )
    ]
    for place in range(CARDS):
        card, name = FIRST["kaisa"] + number * CARDS + place, f"{number}-{place}"
        made += [
            CardAssign(id=f"{name}-assign", card=card, rev=1, subscriber=f"customer-{name}"),
            SubscriptionPut(id=f"{name}-put", subscription=name, rev=1, card=card, offer="sport"),
            CardSuspend(id=f"{name}-suspend", card=card, rev=2),
            SubscriptionPut(
                id=f"{name}-change", subscription=name, rev=2, card=card, offer="sport", ends_at=4_000_000_000
            ),
            CardReopen(id=f"{name}-reopen", card=card, rev=3),
        ]
    return made


def say(*words: object) -> None:
    print(*words, flush=True)


async def main(outbox: Path, operator: str, port: int, pki: Path) -> None:
    settings = PortalSettings(
        operator=operator,
        outbox=outbox,
        host=HOST,
        port=port,
        ca_file=pki / "ca.pem",
        cert_file=pki / f"{operator}.pem",
        key_file=pki / f"{operator}.key",
        repeat_after_s=0.4,
        repeat_max_s=1.5,
    )
    async with PortalClient(settings) as portal:
        supervisor = Supervisor(SystemClock(), lambda: 0.0)

        async def tell(command_id: str) -> None:
            answer = await portal.answer(command_id)
            say("answer", command_id, answer.status, answer.code)

        async def facts() -> None:
            async for fact in portal.facts():
                say("fact", fact.id)

        for entry in await portal.commands():
            supervisor.spawn(entry.id, tell(entry.id))
        supervisor.start("facts", facts)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        say("ready")
        while line := await reader.readline():
            number = int(line)
            for command_id in await portal.send_all(orders(number)):
                supervisor.spawn(command_id, tell(command_id))
            say("put", number)


if __name__ == "__main__":
    path, who, where, keys = sys.argv[1:]
    asyncio.run(main(Path(path), who, int(where), Path(keys)))
