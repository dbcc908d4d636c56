"""The only place that starts tasks: each has a name and an owner, is restarted when it crashes, and ends in order."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from cad.frame.clock import Clock

log = structlog.get_logger("cad.frame.supervisor")

BACK_OFF_FIRST_S: Final = 0.2
BACK_OFF_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0
CRASHES_MAX: Final = 5

Result = TypeVar("Result")
Body = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Supervised:
    """One task as seen by its supervisor. `crashes` counts in a row: a run of HEALTHY_AFTER_S sets it back."""

    name: str
    body: Body
    vital: bool
    restart: bool
    crashes: int = 0
    last_error: str | None = None
    ended: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Starts named tasks, restarts the crashed ones with growing pauses, stops them in order.

    `jitter()` returns 0..1 and spreads restarts; `on_crash(name)` is told of each crash (metrics).
    """

    def __init__(
        self, clock: Clock, jitter: Callable[[], float], on_crash: Callable[[str], None] | None = None
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._on_crash = on_crash
        self._tasks: dict[str, Supervised] = {}
        self._jobs: set[asyncio.Task[Any]] = set()

    def start(self, name: str, body: Body, *, vital: bool = True, restart: bool = True) -> None:
        """Run `body()` as a task until stopped. A vital task that keeps crashing makes the daemon unhealthy.

        With restart=False a crash is logged and final. Raises ValueError when a task of that name is running.
        """
        if name in self._tasks and not self._tasks[name].ended:
            raise ValueError(f"a task named {name!r} is running already")
        supervised = Supervised(name, body, vital, restart)
        supervised.task = asyncio.create_task(self._run(supervised), name=name)
        self._tasks[name] = supervised

    def spawn(self, name: str, job: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run one short job on the side. Its owner may await it; a crash nobody awaits is logged."""
        task = asyncio.create_task(job, name=name)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)
        return task

    def stuck(self) -> list[str]:
        """Return in words the vital tasks that have ended, or crashed CRASHES_MAX times in a row."""
        return [
            f"{one.name}: {one.last_error or 'ended'}"
            for one in self._tasks.values()
            if one.vital and (one.ended or one.crashes >= CRASHES_MAX)
        ]

    def names(self) -> list[str]:
        """Return the names of the tasks that run, in the order of their start."""
        return [name for name, one in self._tasks.items() if not one.ended]

    async def stop(self, name: str, timeout_s: float = 5.0, *, cancel: bool = True) -> None:
        """Cancel one task and wait for its end; one that does not end in time is named in the log and left behind.

        With cancel=False it is first given the time to end by itself.
        """
        supervised = self._tasks.pop(name, None)
        if supervised is None or supervised.task is None:
            return
        if not cancel:
            await asyncio.wait({supervised.task}, timeout=timeout_s)
        supervised.task.cancel()
        await self._wait({supervised.task}, timeout_s)

    async def stop_all(self, timeout_s: float = 5.0) -> None:
        """Cancel all that runs, the last started first, each after the one before has ended."""
        for name in reversed(list(self._tasks)):
            await self.stop(name, timeout_s)
        jobs = set(self._jobs)
        for job in jobs:
            job.cancel()
        await self._wait(jobs, timeout_s)

    async def _wait(self, tasks: set[asyncio.Task[Any]], timeout_s: float) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            log.error("task does not stop", task=task.get_name(), timeout_s=timeout_s)

    async def _run(self, supervised: Supervised) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                await supervised.body()
            except Exception as error:
                if self._clock.monotonic() - began >= HEALTHY_AFTER_S:
                    supervised.crashes = 0
                supervised.crashes += 1
                supervised.last_error = f"{type(error).__name__}: {error}"
                if self._on_crash is not None:
                    self._on_crash(supervised.name)
                pause_s = self._pause(supervised.crashes)
                log.exception(
                    "task crashed", task=supervised.name, crashes=supervised.crashes, pause_s=round(pause_s, 2)
                )
            else:
                supervised.ended = True
                return
            if not supervised.restart:
                supervised.ended = True
                return
            await self._clock.sleep(pause_s)

    def _pause(self, crashes: int) -> float:
        longest = min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2.0 ** min(crashes - 1, 20))
        return longest * (0.5 + 0.5 * self._jitter())

    def _job_done(self, task: asyncio.Task[Any]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job failed", task=task.get_name(), error=f"{type(error).__name__}: {error}", exc_info=error)
