"""One daemon per state directory, signals, watchdog, and an end in order."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cad.errors import AlreadyRunningError, StateError
from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.lifecycle import Lifecycle, StateLock, Step, holder_of, stop_in_order
from cad.frame.metrics import Metrics
from cad.frame.supervisor import CRASHES_MAX, Supervisor
from cad.frame.systemd import Notifier


def test_a_second_daemon_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    with StateLock(tmp_path):
        assert holder_of(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"), StateLock(tmp_path):
            pass
        assert holder_of(tmp_path) == os.getpid()
    assert holder_of(tmp_path) is None
    with StateLock(tmp_path):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_the_lock_goes_with_the_process_also_when_killed(tmp_path: Path) -> None:
    code = (
        "import sys,time; from pathlib import Path; from cad.frame.lifecycle import StateLock\n"
        "lock = StateLock(Path(sys.argv[1])); lock.__enter__(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"), StateLock(tmp_path):
            pass
        holder.kill()
    with StateLock(tmp_path):
        pass


def test_a_missing_state_directory_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"state_dir must exist"), StateLock(tmp_path / "nowhere"):
        pass


async def test_the_stop_goes_on_past_steps_that_fail_or_hang() -> None:
    done: list[str] = []

    async def good(name: str) -> None:
        done.append(name)

    async def bad() -> None:
        raise RuntimeError("broken")

    async def hang() -> None:
        await asyncio.sleep(60)

    with capture_logs():
        failed = await stop_in_order(
            [
                Step("intake", lambda: good("intake")),
                Step("bad", bad),
                Step("hang", hang, timeout_s=0.02),
                Step("ledger", lambda: good("ledger")),
            ]
        )
    assert done == ["intake", "ledger"]
    assert failed == ["bad", "hang"]


class Frame:
    """A whole frame with a real notification socket."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(address))
        self.socket.setblocking(False)
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.health = Health(self.clock, self.metrics, expected=())
        self.supervisor = Supervisor(self.clock, lambda: 0.0)
        self.aborted: list[bool] = []
        self.reloads: list[str] = []
        self.lifecycle = Lifecycle(
            clock=self.clock,
            health=self.health,
            metrics=self.metrics,
            supervisor=self.supervisor,
            notifier=Notifier({"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "150000"}),
            abort=lambda: self.aborted.append(True),
        )
        self.seen: list[str] = []

    async def reload(self) -> str:
        self.reloads.append("asked")
        if len(self.reloads) > 1:
            raise RuntimeError("line 3: mend me")
        return "nothing changed"

    async def until(self, word: str) -> None:
        """Read notifications until one contains the word."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            while True:
                self.seen.append((await loop.sock_recv(self.socket, 4096)).decode())
                if word in self.seen[-1]:
                    return


@pytest.fixture
def frame(tmp_path: Path) -> Iterator[Frame]:
    made = Frame(tmp_path / "notify")
    yield made
    made.socket.close()


async def test_signals_reload_and_stop_in_order_and_systemd_is_told(frame: Frame) -> None:
    done: list[str] = []

    async def step(name: str) -> None:
        done.append(name)

    steps = [Step(name, lambda name=name: step(name)) for name in ("intake", "links", "ledger")]
    run = frame.supervisor.spawn("frame", frame.lifecycle.run(frame.reload, steps))
    with capture_logs() as logs:
        await frame.until("READY=1")
        await frame.until("WATCHDOG=1")
        os.kill(os.getpid(), signal.SIGHUP)
        await frame.until("RELOADING=1")
        await frame.until("READY=1")
        os.kill(os.getpid(), signal.SIGHUP)
        await frame.until("RELOADING=1")
        await frame.until("READY=1")
        assert "line 3: mend me" in frame.health.headline()
        os.kill(os.getpid(), signal.SIGTERM)
        await frame.until("STOPPING=1")
        await asyncio.wait([run], timeout=5)
    assert done == ["intake", "links", "ledger"]
    assert frame.reloads == ["asked", "asked"]
    assert frame.aborted == []
    assert [entry["step"] for entry in logs if entry["event"] == "stopped"][:3] == ["intake", "links", "ledger"]
    assert frame.metrics.registry.get_sample_value("cad_reloads_total", {"outcome": "failed"}) == 1


async def test_a_second_signal_leaves_at_once(frame: Frame) -> None:
    release = asyncio.Event()

    async def slow() -> None:
        await release.wait()

    run = frame.supervisor.spawn("frame", frame.lifecycle.run(frame.reload, [Step("slow", slow)]))
    with capture_logs():
        await frame.until("READY=1")
        os.kill(os.getpid(), signal.SIGTERM)
        await frame.until("STOPPING=1")
        assert frame.aborted == []
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.05)
        assert frame.aborted == [True]
        release.set()
        await asyncio.wait([run], timeout=5)


async def test_the_watchdog_is_fed_only_while_the_vital_tasks_live(frame: Frame) -> None:
    run = frame.supervisor.spawn("frame", frame.lifecycle.run(frame.reload, []))
    with capture_logs():
        await frame.until("WATCHDOG=1")

        async def crash() -> None:
            raise RuntimeError("broken")

        frame.supervisor.start("pump", crash)
        frame.supervisor._tasks["pump"].crashes = CRASHES_MAX
        await frame.until("tasks: pump: RuntimeError: broken")
        await asyncio.sleep(0.2)
        while True:
            try:
                frame.seen.append(frame.socket.recv(4096).decode())
            except BlockingIOError:
                break
        after = frame.seen[next(i for i, text in enumerate(frame.seen) if "pump" in text) :]
        assert not [text for text in after if "WATCHDOG" in text]
        frame.lifecycle.request_stop()
        await asyncio.wait([run], timeout=5)


async def test_a_silent_pulse_and_a_suspect_clock_become_conditions(frame: Frame) -> None:
    frame.health.pulse("ledger writer", -1)
    with capture_logs():
        frame.lifecycle.look()
    assert [one.name for one in frame.health.against_life()] == ["loop"]
    frame.health.end_pulse("ledger writer")
    frame.clock._wall = lambda: 0.0
    with capture_logs():
        frame.lifecycle.look()
    assert frame.health.against_life() == []
    assert "1970" in frame.health.headline()
    assert frame.metrics.registry.get_sample_value("cad_clock_suspect") == 1
