"""How the daemon lives: one per state directory, signals, watchdog, and an end in order."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

import structlog

from cad.errors import AlreadyRunningError, StateError
from cad.frame.clock import Clock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.frame.systemd import Notifier

log = structlog.get_logger("cad.frame.lifecycle")

LOCK_NAME: Final = "lock"
EXIT_ABORTED: Final = 130
LAG_INTERVAL_S: Final = 0.5
LAG_BAD_S: Final = 5.0
HEALTH_INTERVAL_S: Final = 5.0


class StateLock:
    """Holds the state directory for one process (I4): flock(2) on a file in it, released by the end of the process."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Raise AlreadyRunningError when another process holds it, StateError when the directory cannot be used."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(
                f"{self._path} cannot be opened: {error.strerror}. node.state_dir must exist and belong to the user"
                " who runs the daemon"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise AlreadyRunningError(
                f"another daemon (process {holder}) uses {self._path.parent}; stop it first, or give this one a"
                " node.state_dir of its own. Two daemons must never send on one multiplex stream"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def holder_of(state_dir: Path) -> int | None:
    """Return the process id of the daemon that holds the state directory, or None. Changes nothing."""
    try:
        descriptor = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the orderly stop; after `timeout_s` it is given up and the next follows."""

    name: str
    run: Callable[[], Awaitable[None]]
    timeout_s: float = 10.0


async def stop_in_order(steps: Sequence[Step]) -> list[str]:
    """Run the steps one after the other and return the names of those that failed (logged)."""
    failed = []
    for step in steps:
        try:
            async with asyncio.timeout(step.timeout_s):
                await step.run()
        except TimeoutError:
            failed.append(step.name)
            log.error("stop step took too long", step=step.name, timeout_s=step.timeout_s)
        except Exception:
            failed.append(step.name)
            log.exception("stop step failed", step=step.name)
        else:
            log.info("stopped", step=step.name)
    return failed


def _abort() -> NoReturn:
    """Leave at once. Everything answered is in the ledger already (I1)."""
    os._exit(EXIT_ABORTED)


class Lifecycle:
    """Turns signals into calls and tells systemd: `run()` returns after the orderly stop."""

    def __init__(
        self,
        *,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        supervisor: Supervisor,
        notifier: Notifier,
        abort: Callable[[], None] = _abort,
    ) -> None:
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._supervisor = supervisor
        self._notifier = notifier
        self._abort = abort
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    def request_stop(self) -> None:
        """Begin the orderly stop; asked again, leave at once."""
        if self._stop.is_set():
            log.warning("second signal: leaving at once")
            self._abort()
            return
        log.info("stop requested")
        self._stop.set()

    def request_reload(self) -> None:
        """Read the settings again, soon."""
        self._reload.set()

    async def run(self, reload: Callable[[], Awaitable[str]], steps: Sequence[Step]) -> None:
        """Serve until a signal, then take the steps in order.

        SIGTERM and SIGINT stop, SIGHUP calls `reload`, which returns a line for the log; it reports a failure by an
        exception, and the daemon goes on with what it has.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        loop.add_signal_handler(signal.SIGHUP, self.request_reload)
        self._supervisor.start("loop-lag", self._watch_lag)
        self._supervisor.start("health", self._watch_health)
        self._supervisor.start("reload", lambda: self._reload_on_request(reload))
        try:
            self._notifier.ready(self._health.headline())
            log.info("ready")
            await self._stop.wait()
            self._notifier.stopping("stopping in order")
            await stop_in_order([*steps, Step("tasks", self._supervisor.stop_all)])
            log.info("stopped in order")
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _reload_on_request(self, reload: Callable[[], Awaitable[str]]) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            self._notifier.reloading(self._clock.monotonic())
            try:
                line = await reload()
            except Exception as error:
                self._metrics.reloads.labels("failed").inc()
                self._health.set("settings", False, f"reload failed: {error}")
                log.error("reload failed, going on with the former settings", error=str(error))
            else:
                self._metrics.reloads.labels("ok").inc()
                log.info("reloaded", result=line)
            finally:
                self._notifier.ready(self._health.headline())

    async def _watch_lag(self) -> None:
        """Measure how late the loop wakes us; the metric shows the worst of the last ten measurements."""
        recent: list[float] = []
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(LAG_INTERVAL_S)
            recent = [*recent[-9:], max(0.0, self._clock.monotonic() - before - LAG_INTERVAL_S)]
            self._metrics.loop_lag.set(max(recent))
            if recent[-1] > LAG_BAD_S:
                log.warning("the event loop was held up", lag_s=round(recent[-1], 2))

    async def _watch_health(self) -> None:
        """Derive the vital conditions and feed systemd's watchdog while they hold."""
        interval_s = min(HEALTH_INTERVAL_S, (self._notifier.watchdog_interval_s or 60.0) / 3)
        shown = ""
        while True:
            self.look()
            if not self._health.against_life():
                self._notifier.watchdog()
            if (headline := self._health.headline()) != shown:
                self._notifier.status(headline)
                shown = headline
            await self._clock.sleep(interval_s)

    def look(self) -> None:
        """Bring the conditions `tasks`, `loop` and `clock` up to date."""
        stuck = self._supervisor.stuck()
        self._health.set("tasks", not stuck, "; ".join(stuck))
        overdue = self._health.overdue()
        self._health.set("loop", not overdue, "; ".join(overdue))
        suspect = getattr(self._clock, "suspect", None)
        self._health.set("clock", suspect is None, suspect or "")
        self._metrics.clock_suspect.set(0 if suspect is None else 1)
        self._health.against_readiness()
