"""The ECMG as the daemon builds it, on a free port of this machine, with a clock and settings of the test."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cad.ecmg.server import EcmgServer
from cad.frame.clock import Clock, SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from config.ecmg import EcmgSettings
from config.settings import NetworkSettings
from emm.calendar import Calendar
from emm.ecm import EcmSealer
from emm.keys import KeyLadder
from tests.support.cards import CALENDAR, LADDER
from tests.support.scrambler import StrictScrambler

SUPER_CAS_ID = 0x4A750000
NETWORK = NetworkSettings.model_validate(
    {
        "id": "net",
        "services": [
            {"id": "sport", "name": "Sport", "original_network_id": 1, "transport_stream_id": 2, "service_id": 101},
            {"id": "film", "name": "Film", "original_network_id": 1, "transport_stream_id": 2, "service_id": 102},
            {"id": "free", "name": "Free", "original_network_id": 1, "transport_stream_id": 2, "service_id": 103},
        ],
        "products": [
            {"id": "sport", "product_id": 1, "services": ["sport"]},
            {"id": "all", "product_id": 2, "services": ["sport", "film"]},
        ],
    }
)
SPORT = bytes.fromhex("01 0001 0002 0065")
FILM = bytes.fromhex("01 0001 0002 0066")
FREE = bytes.fromhex("01 0001 0002 0067")


@dataclass
class RunningEcmg:
    """The server and what it tells."""

    server: EcmgServer
    port: int
    metrics: Metrics
    health: Health
    supervisor: Supervisor

    def scrambler(self, **more: Any) -> StrictScrambler:
        """A scrambler for it, not connected yet."""
        return StrictScrambler("127.0.0.1", self.port, more.pop("super_cas_id", SUPER_CAS_ID), **more)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def trouble(self) -> dict[str, str]:
        """The conditions that do not hold, by scrambler."""
        return {one.subject: one.text for one in self.health.conditions() if one.name == "scrambler" and not one.ok}


def ecmg_settings(**changes: Any) -> EcmgSettings:
    """Settings with short times; no clients: everybody on this machine."""
    values = {"listen": "127.0.0.1:1", "super_cas_id": SUPER_CAS_ID, "min_cp_duration_s": 1.0}
    return EcmgSettings.model_validate(values | changes)


@asynccontextmanager
async def running_ecmg(
    *,
    clock: Clock | None = None,
    ladder: KeyLadder = LADDER,
    calendar: Calendar = CALENDAR,
    networks: tuple[NetworkSettings, ...] = (NETWORK,),
    **changes: Any,
) -> AsyncIterator[RunningEcmg]:
    """An ECMG that listens."""
    clock = clock or SystemClock()
    metrics = Metrics()
    health = Health(clock, metrics, expected=())
    supervisor = Supervisor(clock, jitter=lambda: 0.0)
    settings = ecmg_settings(**changes)
    server = EcmgServer(settings, networks, EcmSealer(ladder), calendar, clock, metrics, health, supervisor)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await server.start(listener)
    try:
        yield RunningEcmg(server, listener.getsockname()[1], metrics, health, supervisor)
    finally:
        await supervisor.stop_all()
        for connection in list(server._connections):
            connection.cut()
        if server._server is not None:
            server._server.close()
