"""The control socket of a daemon with a real ledger behind its stock desk, served from a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.http.app import control_app
from cad.http.server import HttpServer, bind_unix
from cad.http.stock import LedgerDesk, stock_routes
from cad.ledger.ledger import Ledger
from cad.ledger.model import Grants
from cad.ledger.store import FILE_NAME
from tests.support.ledgers import GRANTS, KEY
from tests.support.scripted_headend import ScriptedHeadend


class StockDaemon:
    """Serves on a path between `start` and `stop`; its ledger lies in `folder` and outlives it."""

    def __init__(self, folder: Path, socket: Path, grants: Grants = GRANTS) -> None:
        self.socket = socket
        self._folder = folder
        self._grants = grants
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._ready, self._failure = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="stock daemon")
        self._thread.start()
        assert self._ready.wait(20)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._thread = None

    def ask(self, act) -> Any:
        """Run something with the ledger, on the daemon's loop."""
        return asyncio.run_coroutine_threadsafe(act(self._ledger), self._loop).result(20)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self._folder.mkdir(exist_ok=True)
            clock = SystemClock()
            self._ledger = await Ledger.open(self._folder / FILE_NAME, audit_key=KEY, grants=self._grants, clock=clock)
            metrics, supervisor = Metrics(), Supervisor(clock, lambda: 0.0)
            app = control_app(
                ScriptedHeadend(), Health(clock, metrics), metrics, stock_routes(LedgerDesk(self._ledger))
            )
            server = HttpServer("control", app, bind_unix(self.socket), supervisor)
            server.start()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._ready.set()
        await self._stop.wait()
        await server.stop()
        await supervisor.stop_all()
        await self._ledger.close()


@contextmanager
def stock_daemon(folder: Path) -> Iterator[StockDaemon]:
    daemon = StockDaemon(folder / "daemon", folder / "s")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
