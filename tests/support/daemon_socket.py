"""The control socket of a daemon, served from a thread of its own, for commands that block."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starlette.routing import Route

from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.lifecycle import StateLock
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.http.app import control_app
from cad.http.server import HttpServer, bind_unix
from tests.support.scripted_headend import ScriptedHeadend


class ServedDaemon:
    """Serves a `ScriptedHeadend` on the path between `start()` and `stop()`; `more` are routes of other parts."""

    def __init__(self, path: Path, more: Sequence[Route] = ()) -> None:
        self.headend = ScriptedHeadend()
        metrics = Metrics()
        self._health = Health(SystemClock(), metrics, expected=("broker",))
        self._app = control_app(self.headend, self._health, metrics, more)
        self._listener = bind_unix(path)
        self._listener.listen()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), name="daemon")

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def health_set(self, name: str, ok: bool) -> None:
        """Set a condition in the daemon's own loop, and wait until it is so."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (self._health.set(name, ok, "set by a test"), done.set()))
        assert done.wait(5)

    @contextmanager
    def holding(self, state_dir: Path) -> Iterator[None]:
        """Hold the state directory as a daemon does."""
        with StateLock(state_dir):
            yield

    async def _serve(self) -> None:
        supervisor = Supervisor(SystemClock(), lambda: 0.0)
        server = HttpServer("control", self._app, self._listener, supervisor)
        server.start()
        self._started.set()
        await self._stop.wait()
        await server.stop()
        await supervisor.stop_all()
