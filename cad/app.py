"""The daemon, put together: the only place that builds objects which do input and output."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path
from typing import Any, Final

import structlog

from cad import keystore
from cad.air.muxes import system_random
from cad.air.on_air import OnAir
from cad.ecmg.events import EventFeed
from cad.ecmg.server import EcmgServer
from cad.errors import CadError, StateError
from cad.frame import logs, memory
from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.lifecycle import Lifecycle, StateLock, Step
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.frame.systemd import Notifier
from cad.headend import HeadendView
from cad.http.app import control_app, public_app
from cad.http.backup import backup_routes
from cad.http.catalogue import catalogue_routes
from cad.http.multiplexes import switch_routes
from cad.http.reports import report_routes
from cad.http.server import HttpServer, bind_tcp, bind_unix
from cad.http.stock import LedgerDesk, stock_routes
from cad.ledger.errors import LedgerUnavailable
from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants
from cad.ledger.store import FILE_NAME
from cad.orders.catalogue import CatalogueDesk
from cad.orders.intake import Intake
from cad.orders.outbox import Outbox
from cad.orders.portal_link import PortalLink
from cad.reports.desk import ReportDesk
from cad.resync.desk import SnapshotDesk
from cad.technicians.desk import Desk
from cad.technicians.people import People
from cad.technicians.server import open_port, what_needs_restart
from config.load import load
from config.settings import Settings
from emm.ecm import EcmSealer
from emm.keys import KeyLadder

log = structlog.get_logger("cad.app")

UPKEEP_S: Final = 30.0
DUE_EVERY_S: Final = 1.0
PRUNE_EVERY_S: Final = 86_400.0
DISK_LOW_BYTES: Final = 256 * 1024 * 1024
NEEDS_RESTART: Final = ("node", "mqtt", "keys", "ca", "calendar")


class ReloadRefusedError(CadError):
    """The new settings change what only a restart can change."""


def serve(settings: Settings, config: Path, clock: SystemClock | None = None) -> int:
    """Run the daemon until it is told to stop; returns the exit code. `clock`: another than the machine's (sandbox).

    Raises what `cad.cli.main` turns into a message and an exit code: StateError, AlreadyRunningError, KeyStoreError,
    LedgerRefused, LedgerUnavailable, ListenError.
    """
    make_state_dir(settings.node.state_dir)
    with StateLock(settings.node.state_dir):
        ladder = KeyLadder(keystore.load(settings.keys))
        asyncio.run(_run(settings, config, ladder, clock))
    return 0


def make_state_dir(state_dir: Path) -> None:
    """Make the state directory where there is none. Raises StateError."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"node.state_dir {state_dir} cannot be made: {error.strerror}; make it, or name another"
        ) from None


async def _run(settings: Settings, config: Path, ladder: KeyLadder, clock: SystemClock | None) -> None:
    daemon = Daemon(settings, config, ladder, clock)
    await daemon.start()
    await daemon.serve()


class Daemon:
    """All parts of one daemon. `start`, then `serve`, which returns after the orderly stop."""

    def __init__(self, settings: Settings, config: Path, ladder: KeyLadder, clock: SystemClock | None = None) -> None:
        self._settings = settings
        self._config = config
        self._ladder = ladder
        self.clock = clock or SystemClock()
        self.metrics = Metrics(operators=[operator.id for operator in settings.operators])
        self.health = Health(self.clock, self.metrics)
        self.notifier = Notifier()
        self.supervisor = Supervisor(
            self.clock, system_random.random, lambda task: self.metrics.restarts.labels(task).inc()
        )
        self._servers: list[HttpServer] = []
        self._people = People(settings.technicians.people if settings.technicians else ())
        self._scrambler_listener: socket.socket | None = None
        self.ecmg: EcmgServer | None = None

    async def start(self) -> None:
        """Open the ledger, derive what is on the air, listen, connect. Raises as `serve` says."""
        settings = self._settings
        self.ledger = await self._open_ledger()
        self.on_air = OnAir(settings, self._ladder, self.ledger, self.clock, self.metrics, self.health, self.supervisor)
        await self._guard_period()
        self.ledger.promise = self.on_air.promise
        self.link = PortalLink(
            settings.mqtt,
            settings.node.name,
            self.ledger,
            self.clock,
            self.metrics,
            self.health,
            system_random.random,
        )
        self.outbox = Outbox(self.link, self.ledger, self.clock, self.metrics)
        self.snapshots = SnapshotDesk(
            settings.node.state_dir / "snapshots",
            self.ledger,
            self.link,
            self.clock,
            self.metrics,
            self.on_air.follow,
        )
        self.snapshots.open()
        self.intake = Intake(
            self.link,
            self.ledger,
            self.clock,
            self.metrics,
            self.on_air.follow,
            {operator.id for operator in settings.operators},
            settings.mqtt.batch_max,
            settings.mqtt.linger_ms,
            self.snapshots.take_in,
        )
        await self.on_air.start()
        self._listen()
        self._start_tasks()
        await self._serve_scramblers()
        memory.settle()

    async def serve(self) -> None:
        """Work until a signal, then stop in order: intake, outbox, channels, links, listeners, ledger."""
        lifecycle = Lifecycle(
            clock=self.clock,
            health=self.health,
            metrics=self.metrics,
            supervisor=self.supervisor,
            notifier=self.notifier,
        )
        steps = [
            Step("intake", self.intake.stop),
            Step("outbox", self.outbox.drain, 5.0),
            *self.on_air.steps(),
            Step("last events", self.outbox.drain, 5.0),
            Step("broker", lambda: self.supervisor.stop("broker link")),
            *([Step("scramblers", self.ecmg.stop)] if self.ecmg is not None else []),
            *[Step("listener", server.stop) for server in self._servers],
            Step("ledger", self._close_ledger),
        ]
        await lifecycle.run(self.reload, steps)

    async def reload(self) -> str:
        """Follow the settings file as it is now. Raises SettingsError, ReloadRefusedError."""
        settings = await asyncio.to_thread(load, self._config)
        fixed = [name for name in NEEDS_RESTART if getattr(settings, name) != getattr(self._settings, name)]
        if _ecmg_listens_at(settings) != _ecmg_listens_at(self._settings):
            fixed.append("ecmg.listen")
        if what_needs_restart(settings.technicians) != what_needs_restart(self._settings.technicians):
            fixed.append("technicians")
        if fixed:
            tables = ", ".join(f"[{name}]" for name in fixed)
            raise ReloadRefusedError(f"{tables} can only be changed by a restart: systemctl restart cad")
        await self.ledger.note("reload", {"operators": sorted(operator.id for operator in settings.operators)})
        logs.configure(settings.log.level, settings.log.format)
        operators = {operator.id for operator in settings.operators}
        self.metrics.set_operators(operators)
        changes, later = await self.ledger.apply_grants(Grants.from_settings(settings))
        rebuilt = await self.on_air.rebuild(settings)
        self.on_air.apply(changes)
        self.intake.operators = operators
        self._people.follow(settings.technicians.people if settings.technicians else ())
        if self.ecmg is not None and settings.ecmg is not None:
            self.ecmg.follow(settings.ecmg, settings.networks)
            self.events.wake()
        self._settings = settings
        self.health.set("settings", True)
        return f"{len(changes) + later} cards change, networks built anew: {', '.join(rebuilt) or 'none'}"

    async def _open_ledger(self) -> Ledger:
        return await Ledger.open(
            self._settings.node.state_dir / FILE_NAME,
            audit_key=self._ladder.audit_key(),
            grants=Grants.from_settings(self._settings),
            clock=self.clock,
            time_after=self._time_after,
        )

    def _time_after(self, seen: float) -> float:
        """Return the time, now that it is known how late it has been already."""
        self.clock.remember(seen)
        return self.clock.now()

    async def _close_ledger(self) -> None:
        for task in ("ledger", "upkeep", "due", "outbox", "intake", "events", "snapshots", "snapshot pages"):
            await self.supervisor.stop(task)
        await self.snapshots.close()
        await self.ledger.close()

    async def _guard_period(self) -> None:
        """Note the period that goes on the air; the ledger refuses one below what cards have seen (I3)."""
        period = self.on_air.calendar.period(self.clock.now())
        await self.ledger.guard_period(period, self._settings.calendar.model_dump())

    def _listen(self) -> None:
        settings = self._settings
        view = HeadendView(
            self.on_air,
            self.ledger,
            self.clock,
            self._broker,
            self.clock.now(),
            lambda: None if self.ecmg is None else self.ecmg.facts(),
        )
        control = control_app(
            view,
            self.health,
            self.metrics,
            [
                *stock_routes(LedgerDesk(self.ledger)),
                *switch_routes(self._switch),
                *backup_routes(self.ledger.backup),
                *catalogue_routes(CatalogueDesk(self.ledger, self.metrics, self.on_air.follow)),
                *report_routes(
                    ReportDesk(lambda: self._settings, self.ledger, self.clock),
                    self.snapshots.export,
                    lambda: frozenset(one.id for one in self._settings.operators),
                ),
            ],
        )
        self._servers = [HttpServer("control socket", control, bind_unix(settings.node.socket), self.supervisor)]
        if settings.node.http_listen:
            listener = bind_tcp(settings.node.http_listen)
            public = public_app(self.health, self.metrics)
            self._servers.append(HttpServer("http", public, listener, self.supervisor))
        if settings.ecmg is not None:
            self._scrambler_listener = bind_tcp(settings.ecmg.listen, "ecmg.listen")
        if settings.technicians is not None:
            desk = Desk(settings.technicians, self.on_air, self.ledger, self._ladder, self.clock, os.urandom)
            self._servers.append(
                open_port(settings.technicians, self._people, desk, self.supervisor, self.metrics.count_technician)
            )
        for server in self._servers:
            server.start()

    async def _serve_scramblers(self) -> None:
        """Listen for scramblers, last of all: an ECM says what time it is, and cards believe it."""
        settings = self._settings
        if settings.ecmg is None or self._scrambler_listener is None:
            return
        self.ecmg = EcmgServer(
            settings.ecmg,
            settings.networks,
            EcmSealer(self._ladder),
            self.on_air.calendar,
            self.clock,
            self.metrics,
            self.health,
            self.supervisor,
        )
        self.events = EventFeed(self.ledger, self.clock, self.ecmg.follow_events)
        await self.events.refresh()
        self.supervisor.start("events", self.events.run)
        await self.ecmg.start(self._scrambler_listener)

    def _start_tasks(self) -> None:
        start = self.supervisor.start
        start("ledger", lambda: self.ledger.keep(self.on_air.apply, self._tell_ledger))
        start("broker link", self.link.run)
        start("outbox", self.outbox.run)
        start("intake", self.intake.run)
        start("snapshots", self.snapshots.take_snapshots)
        start("snapshot pages", self.snapshots.answer)
        start("on air", self.on_air.watch)
        start("upkeep", self._keep_up)
        start("due", self._do_due)

    async def _do_due(self) -> None:
        """Do what comes by the clock alone, at its moment: trust that runs out, subscriptions that start and end."""
        done_at = self.clock.monotonic()
        while True:
            more = True
            try:
                closed, more = await self.ledger.due()
                self.on_air.apply(closed)
            except LedgerUnavailable:
                self.metrics.due_lag.set(self.clock.monotonic() - done_at)
                await self.ledger.wait_usable()
            if not more:
                done_at = self.clock.monotonic()
            self.metrics.due_lag.set(self.clock.monotonic() - done_at)
            await self.clock.sleep(0 if more else DUE_EVERY_S)

    async def _keep_up(self) -> None:
        """Small duties: time and period noted, disk watched, old ids forgotten."""
        pruned_at = self.clock.monotonic()
        while True:
            usage = await asyncio.to_thread(shutil.disk_usage, self._settings.node.state_dir)
            self.metrics.disk_free.set(usage.free)
            enough = usage.free >= DISK_LOW_BYTES
            self.health.set("disk", enough, "" if enough else f"{usage.free // 2**20} MiB are free")
            self.metrics.outbox_depth.set(self.outbox.waiting)
            if self.ledger.fault is None:
                await self._guard_period()
                await self.ledger.witness_time()
                if self.clock.monotonic() - pruned_at >= PRUNE_EVERY_S:
                    await self.ledger.prune()
                    pruned_at = self.clock.monotonic()
            memory.tidy()
            await self.clock.sleep(UPKEEP_S)

    async def _switch(self, multiplex: str, to: str) -> None:
        """Move a stream on the operator's word, on record before it is done (C12)."""
        await self.ledger.note("multiplex-switched", {"multiplex": multiplex, "to": to})
        await self.on_air.switch(multiplex, to)

    def _tell_ledger(self, fault: str | None) -> None:
        self.health.set("ledger", fault is None, fault or "")

    def _broker(self) -> dict[str, Any]:
        return {
            "connected": self.link.connected,
            "host": self._settings.mqtt.host,
            "port": self._settings.mqtt.port,
            "error": self.link.last_error,
            "sessions_lost": self.link.sessions_lost,
            "outbox": self.outbox.waiting,
        }


def _ecmg_listens_at(settings: Settings) -> str | None:
    return None if settings.ecmg is None else settings.ecmg.listen
