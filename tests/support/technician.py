"""A headend's port for technicians in one process with the test: real TLS, a real ledger, a clock that stands."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants, Order
from cad.technicians.desk import Desk
from cad.technicians.people import People
from cad.technicians.server import open_port
from config.load import loads
from config.settings import Settings
from emm.calendar import Calendar
from protocol import card_number
from protocol.portal.commands import parsing
from tests.support.broker import HOST, Authority, free_port
from tests.support.cards import LADDER, NOW
from tests.support.clock import ManualClock

KAISA, OTHER = 10_000_000_000, 20_000_000_000
PEOPLE = {
    "anna": ("kaisa", "technician"),
    "otto": ("kaisa", "operator"),
    "ros": ("kaisa", "read-only"),
    "eve": ("other", "technician"),
}

SETTINGS = """
[mqtt]
host = "localhost"
[keys]
passphrase_file = "/nonexistent/passphrase"
[ca]
ca_system_id = 0x4AD1
[[networks]]
id = "net"
[[networks.services]]
id = "sport-1"
name = "Sport 1"
original_network_id = 1
transport_stream_id = 1
service_id = 101
[[networks.services]]
id = "film-1"
name = "Film 1"
original_network_id = 1
transport_stream_id = 1
service_id = 102
[[networks.products]]
id = "sport"
product_id = 7
services = ["sport-1"]
[[networks.products]]
id = "film"
product_id = 8
services = ["film-1"]
[[operators]]
id = "kaisa"
network = "net"
products = ["sport", "film"]
card_ranges = [{{ first = "{kaisa_first}", last = "{kaisa_last}" }}]
[[operators]]
id = "other"
network = "net"
products = ["film"]
card_ranges = [{{ first = "{other_first}", last = "{other_last}" }}]
[technicians]
listen = "127.0.0.1:{port}"
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/headend.pem"
key_file = "{pki}/headend.key"
extract_cards_max = 5
"""
PERSON = '[[technicians.people]]\nname = "{}"\noperator = "{}"\nrole = "{}"\n'


class StandingAir:
    """What `Desk` asks of `cad.air.on_air.OnAir`: settings and calendar; nothing is sent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.calendar = Calendar()
        self.networks: dict[str, Any] = {}


class FieldHeadend:
    """The port with its ledger. `order` is the only way to change a card, as in life."""

    def __init__(
        self, folder: Path, ledger: Ledger, settings: Settings, authority: Authority, clock: ManualClock
    ) -> None:
        self.folder = folder
        self.ledger = ledger
        self.settings = settings
        self.authority = authority
        self.clock = clock
        self.air = StandingAir(settings)
        assert settings.technicians is not None
        self.people = People(settings.technicians.people)
        self.desk = Desk(settings.technicians, self.air, ledger, LADDER, self.clock, os.urandom)  # type: ignore[arg-type]
        self.url = f"https://{HOST}:{settings.technicians.listen.rpartition(':')[2]}"
        self.orders = 0

    async def order(self, resource: str, verb: str, operator: str = "kaisa", **body: Any) -> None:
        """Commit one command of a portal, which must be taken."""
        self.orders += 1
        rising = {} if verb == "refresh" else {"rev": self.orders}
        text = json.dumps({"id": f"c-{self.orders}", **rising, **body}).encode()
        command = parsing.parse(resource, verb, text)
        said = command.body()
        outcome = (await self.ledger.commit([Order(operator, command, said, parsing.digest(command, said))]))[0]
        assert outcome.reply is not None
        assert outcome.reply.status == "committed", outcome.reply

    async def set_up(self, *addresses: int, product: str = "sport", operator: str = "kaisa") -> None:
        """Cards with a subscription to one product."""
        await self.order("offer", "put", operator, offer=product, kind="channel", names={"fi": "x"}, products=[product])
        for address in addresses:
            number = card_number.spell(address)
            await self.order("card", "assign", operator, card=number, subscriber="customer")
            await self.order("subscription", "put", operator, subscription=f"s-{address}", card=number, offer=product)

    async def audit(self) -> list[dict[str, Any]]:
        """The acts of technicians in the audit chain, which verifies."""
        await self.ledger.audit_verify()
        return [record async for record, _ in self.ledger.audit_export() if record["kind"] == "technician"]

    def client(self, name: str) -> httpx.AsyncClient:
        """An HTTP client with the certificate of that name."""
        return httpx.AsyncClient(
            base_url=self.url, verify=self.authority.context(name), headers={"X-Cad-Reader": "Reader 0"}, timeout=10
        )


@contextlib.asynccontextmanager
async def field_headend(folder: Path, people: Mapping[str, tuple[str, str]] = PEOPLE) -> AsyncIterator[FieldHeadend]:
    """A headend whose port for technicians is open."""
    authority = Authority(folder / "pki")
    authority.issue("headend")
    settings = loads(settings_text(folder / "pki", free_port(), people).encode())
    clock = ManualClock(NOW)
    ledger = await Ledger.open(
        folder / "ledger.db", audit_key=LADDER.audit_key(), grants=Grants.from_settings(settings), clock=clock
    )
    made = FieldHeadend(folder, ledger, settings, authority, clock)
    supervisor = Supervisor(SystemClock(), lambda: 0.0)
    assert settings.technicians is not None
    server = open_port(settings.technicians, made.people, made.desk, supervisor)
    server.start()
    try:
        yield made
    finally:
        await server.stop()
        await supervisor.stop_all()
        await ledger.close()


def settings_text(pki: Path, port: int, people: Mapping[str, tuple[str, str]] = PEOPLE) -> str:
    """The headend's settings."""
    head = SETTINGS.format(
        pki=pki,
        port=port,
        kaisa_first=card_number.spell(KAISA),
        kaisa_last=card_number.spell(KAISA + 9999),
        other_first=card_number.spell(OTHER),
        other_last=card_number.spell(OTHER + 9999),
    )
    return head + "".join(PERSON.format(name, *place) for name, place in people.items())
