"""`cad demo --portal`: a sandbox for those who develop a portal."""

from __future__ import annotations

import json

import click
from rich.console import Console

from cad.demo import sandbox
from cad.demo.narrator import Narrator
from cad.demo.sandbox import CARD_TOPIC, CLOCK_TOPIC, SET_TOPIC, Sandbox
from cad.demo.sandbox_place import OPERATORS, first_card
from cad.frame import clock as clocks
from cad.frame.clock import SystemClock
from protocol import card_number


async def run(console: Console, rate: float, port: int | None, as_json: bool) -> None:
    """Run a sandbox until interrupted."""
    tell = Narrator(console, SystemClock(), silent=as_json)
    async with sandbox.opened(tell, rate, port) as one:
        if as_json:
            click.echo(json.dumps(document(one)))
        else:
            _invite(console, one)
        await sandbox.run(one)


def document(one: Sandbox) -> dict[str, object]:
    """What `--json` prints when the sandbox is ready: where everything is."""
    settings = one.place.settings
    return {
        "broker": {"host": "127.0.0.1", "port": settings.mqtt.port, "name": one.broker},
        "socket": str(settings.node.socket),
        "http": settings.node.http_listen,
        "log": str(one.log_path),
        "operators": {
            operator.id: {
                "products": list(operator.products),
                "first_card": card_number.spell(first_card(operator.id)),
                "last_card": card_number.spell(first_card(operator.id) + 99),
            }
            for operator in settings.operators
        },
        "receivers": [card.number for card in one.cards],
        "now": clocks.spell(one.clock.now()),
        "rate": one.clock.rate,
        "topics": {"clock": CLOCK_TOPIC, "set_clock": SET_TOPIC, "card": CARD_TOPIC + "/{number}"},
    }


def _invite(console: Console, one: Sandbox) -> None:
    settings = one.place.settings
    port = settings.mqtt.port
    console.print(f"\nBroker: {one.broker}, port {port} of loopback, no TLS, no password. Operators:\n")
    for operator in settings.operators:
        first = first_card(operator.id)
        console.print(
            f"  {operator.id}: products {', '.join(operator.products)};"
            f" cards {card_number.spell(first)} to {card_number.spell(first + 99)}"
        )
    console.print(f"\nCards in receivers: {', '.join(card.number for card in one.cards)}")
    console.print(f"What a receiver shows is retained on {CARD_TOPIC}/NUMBER, the time on {CLOCK_TOPIC}.\n")
    console.print("Order something, in another terminal:\n")
    environment = f"OPERATOR={OPERATORS[0]} CARD={one.cards[0].number} PORT={port}"
    console.print(f"  {environment} docs/portal/examples/with_mosquitto.sh", soft_wrap=True)
    console.print("\nA month in a minute, a day ahead, and the machine's pace again:\n")
    for said in ('{"rate": 43200}', '{"advance_s": 86400}', '{"rate": 1}'):
        console.print(f"  mosquitto_pub -p {port} -V 5 -q 1 -t {SET_TOPIC} -m '{said}'", soft_wrap=True)
    console.print(f"\nThe clock says {clocks.spell(one.clock.now())}, and runs {one.clock.rate:g} times as fast.")
    console.print(f".venv/bin/cad status --socket {settings.node.socket}", soft_wrap=True)
    console.print("All that passes follows, until Ctrl-C.\n")
