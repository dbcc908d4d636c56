"""`cad serve` as a process: what systemd hears, signals, exit codes, and no secret in anything it writes."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cad import keystore
from cad.cli.shell.exit_codes import ExitCode
from config.load import load

pytestmark = pytest.mark.slow

PASSPHRASE = "canary horse battery"
SETTINGS = """
[node]
state_dir = "{0}/state"
socket = "{0}/cad.sock"
http_listen = ""
[mqtt]
host = "127.0.0.1"
port = {1}
[keys]
file = "{0}/master.key"
passphrase_file = "{0}/passphrase"
[ca]
ca_system_id = 0x4A75
[[networks]]
id = "south"
"""

Start = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody: int = probe.getsockname()[1]
    path = tmp_path / "cad.toml"
    path.write_text(SETTINGS.format(tmp_path, nobody))
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    keystore.create(load(path).keys)
    return path


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        yield listener


@pytest.fixture
def start(config: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> "subprocess.Popen[bytes]":
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
        command = [sys.executable, "-m", "cad", "serve", "--config", str(config)]
        with (tmp_path / "log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def hear(systemd: socket.socket, word: str) -> str:
    """Read notifications until one begins with the word."""
    while not (text := systemd.recv(4096).decode()).startswith(word):
        pass
    return text


def test_a_life(start: Start, systemd: socket.socket, config: Path, tmp_path: Path) -> None:
    daemon = start()
    assert "STATUS=not ready" in hear(systemd, "READY=1")
    hear(systemd, "WATCHDOG=1")
    second = subprocess.run(
        [sys.executable, "-m", "cad", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == ExitCode.BUSY
    assert f"another daemon (process {daemon.pid}) uses" in second.stderr
    config.write_text(config.read_text() + "nonsense = 1\n")
    daemon.send_signal(signal.SIGHUP)
    hear(systemd, "RELOADING=1")
    assert "nonsense: unknown key" in hear(systemd, "READY=1")
    daemon.send_signal(signal.SIGTERM)
    hear(systemd, "STOPPING=1")
    assert daemon.wait(30) == ExitCode.OK
    assert holds_no_secret(config, (tmp_path / "log").read_text())
    assert '"event": "stopped in order"' in (tmp_path / "log").read_text()


def holds_no_secret(config: Path, log: str) -> bool:
    content = config.parent.joinpath("master.key").read_bytes()
    key = keystore.unseal(content, keystore.Secret(PASSPHRASE.encode()))
    return not any(secret in log for secret in (PASSPHRASE, key.hex(), key.hex().upper(), bytes.__repr__(key)))


def test_a_killed_daemon_leaves_nothing_in_the_way(start: Start, systemd: socket.socket) -> None:
    first = start()
    hear(systemd, "READY=1")
    first.kill()
    first.wait(10)
    second = start()
    hear(systemd, "READY=1")
    second.send_signal(signal.SIGINT)
    assert second.wait(30) == ExitCode.OK


def test_what_cannot_start_says_why_with_its_code(config: Path, tmp_path: Path) -> None:
    def codes() -> tuple[int, str]:
        command = [sys.executable, "-m", "cad", "serve", "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    (tmp_path / "passphrase").write_text("another passphrase")
    code, words = codes()
    assert (code, "the passphrase is wrong" in words) == (ExitCode.KEYS, True)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "cad.sock").write_text("in the way")
    code, words = codes()
    assert (code, "exists and is not a socket" in words) == (ExitCode.BUSY, True)
