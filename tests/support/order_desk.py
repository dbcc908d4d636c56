"""The part of the daemon between broker and ledger, put together as the daemon does it, on a real broker and disk."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.ledger.ledger import Ledger
from cad.ledger.model import CardChange, Grants, OperatorGrant, Outcome
from cad.ledger.promise import NoPromise, Promise
from cad.orders.intake import Intake
from cad.orders.outbox import Outbox
from cad.orders.portal_link import PortalLink
from cad.resync.desk import SnapshotDesk
from config.settings import MqttSettings, MqttTlsSettings
from tests.support.broker import DAEMON, HOST, Mosquitto

AUDIT_KEY = bytes(range(32))
GRANTS = Grants(
    {
        "karjaa": OperatorGrant("south", {"sport": 1, "film": 2}, ((0, 999),), ("mux-1", "mux-2")),
        "kaspnet": OperatorGrant("south", {"sport": 1}, ((1000, 1999),), ("mux-1", "mux-2")),
    }
)


def promise(operator: str, now: float) -> Promise:
    return NoPromise(on_air_by=int(now) + 10, visible_by=int(now) + 70)


@dataclass
class OrderDesk:
    ledger: Ledger
    link: PortalLink
    intake: Intake
    outbox: Outbox
    metrics: Metrics
    health: Health
    supervisor: Supervisor
    outcomes: list[Outcome] = field(default_factory=list)
    recovered: list[CardChange] = field(default_factory=list)

    def follow(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes += outcomes

    async def stop(self) -> None:
        """The orderly end."""
        await self.intake.stop()
        async with asyncio.timeout(5):
            await self.outbox.drain()
        await self.supervisor.stop_all()
        await self.ledger.close()

    async def crash(self) -> None:
        """End without finishing anything; what was committed stays."""
        connection = self.link._current
        if connection is not None and connection._client is not None:
            connection._client._client._sock_close()
            connection._end("crashed", "")
        await self.supervisor.stop_all()
        await self.ledger.close()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def mqtt_settings(broker: Mosquitto, **changed: object) -> MqttSettings:
    cert_file, key_file = broker.authority.issue(DAEMON)
    tls = MqttTlsSettings(ca_file=broker.authority.ca_file, cert_file=cert_file, key_file=key_file)
    return MqttSettings(**{"tls": tls, "host": HOST, "port": broker.port, "client_id": "cad-test", **changed})


@asynccontextmanager
async def order_desk(
    folder: Path,
    settings: MqttSettings,
    *,
    grants: Grants = GRANTS,
    connected: bool = True,
    wrap: Callable[[Ledger], Ledger] = lambda ledger: ledger,
) -> AsyncIterator[OrderDesk]:
    """A desk that takes orders, connected unless said otherwise. `wrap` puts something around the ledger."""
    folder.mkdir(exist_ok=True)
    clock = SystemClock()
    metrics = Metrics(operators=list(grants.operators))
    health = Health(clock, metrics)
    supervisor = Supervisor(clock, jitter=lambda: 0.0)
    ledger = wrap(
        await Ledger.open(folder / "ledger.db", audit_key=AUDIT_KEY, grants=grants, clock=clock, promise=promise)
    )
    link = PortalLink(settings, "node-1", ledger, clock, metrics, health, jitter=lambda: 0.0)
    outbox = Outbox(link, ledger, clock, metrics)
    outcomes: list[Outcome] = []
    snapshots = SnapshotDesk(folder / "snapshots", ledger, link, clock, metrics, outcomes.extend)
    snapshots.open()
    intake = Intake(
        *(link, ledger, clock, metrics, outcomes.extend, grants.operators, settings.batch_max, settings.linger_ms),
        snapshots.take_in,
    )
    desk = OrderDesk(ledger, link, intake, outbox, metrics, health, supervisor, outcomes)
    supervisor.start(
        "ledger keeper",
        lambda: ledger.keep(desk.recovered.extend, lambda fault: health.set("ledger", fault is None, fault or "")),
    )
    supervisor.start("portal link", link.run)
    supervisor.start("outbox", outbox.run)
    supervisor.start("intake", intake.run)
    supervisor.start("snapshots", snapshots.take_snapshots)
    supervisor.start("snapshot pages", snapshots.answer)
    try:
        if connected:
            async with asyncio.timeout(10):
                await link.connection()
        yield desk
    finally:
        await supervisor.stop_all()
        await snapshots.close()
        await ledger.close()
