"""`cad check --deep`, check by check: what is found, and what to do about it."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cad import checks, keystore
from cad.checks import Finding, Verdict
from cad.errors import DaemonUnreachableError
from cad.frame.clock import SystemClock
from cad.frame.lifecycle import StateLock
from cad.ledger.store import FILE_NAME as LEDGER_NAME
from cad.ledger.tables.engine import make_engine
from config.load import from_mapping
from config.outlets import MultiplexSettings
from config.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery\n")
    passphrase.chmod(0o600)
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    return from_mapping(
        {
            "node": {"state_dir": str(state_dir), "socket": str(tmp_path / "cad.sock")},
            "mqtt": {"host": "127.0.0.1", "port": closed_port()},
            "keys": {"file": str(tmp_path / "master.key"), "passphrase_file": str(passphrase)},
            "ca": {"ca_system_id": 0x4A75},
            "networks": [
                {"id": "south", "multiplexes": [{"id": "south-1", "host": "127.0.0.1", "port": closed_port()}]}
            ],
        }
    )


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def no_daemon(_path: str) -> dict[str, Any]:
    raise DaemonUnreachableError("no daemon runs")


def test_everything_is_looked_at_when_no_daemon_runs(settings: Settings) -> None:
    found = {one.name: one for one in checks.deep(settings, no_daemon)}
    assert list(found) == [
        "daemon",
        "state directory",
        "disk",
        "clock",
        "master key",
        "ledger",
        "broker",
        "multiplex south-1",
    ]
    assert found["state directory"].verdict is Verdict.OK
    assert found["master key"].text.endswith("make it with: cad keys init")
    assert found["ledger"].text.endswith("the daemon makes it when it first starts")
    assert "connection refused" in found["broker"].text
    assert "the port does not" in found["multiplex south-1"].advice
    assert all(one.advice for one in found.values() if one.verdict is not Verdict.OK)


def test_a_running_daemon_is_asked_instead(settings: Settings) -> None:
    answers = {
        "/v1/check": {"checks": [{"name": "ledger", "ok": False, "text": "suspect", "advice": "cad audit verify"}]},
        "/v1/status": {
            "health": {
                "conditions": [
                    {"name": "link", "subject": "south-1", "level": "warning", "ok": False, "text": "x", "advice": "y"},
                    {"name": "rate", "subject": "south-1", "level": "warning", "ok": False, "text": "x", "advice": "y"},
                    {"name": "ledger", "subject": "", "level": "ready", "ok": True, "text": "x", "advice": ""},
                ]
            }
        },
    }
    with StateLock(settings.node.state_dir):
        found = list(checks.deep(settings, answers.__getitem__))
    verdicts = [(one.name, one.verdict) for one in found[-4:]]
    assert verdicts == [
        ("daemon: ledger", Verdict.FAIL),
        ("daemon: link south-1", Verdict.FAIL),
        ("daemon: rate south-1", Verdict.LOOK),
        ("daemon: ledger", Verdict.OK),
    ]
    assert "multiplex south-1" not in [one.name for one in found]


def test_a_daemon_that_holds_the_directory_and_does_not_answer_is_a_failure(settings: Settings) -> None:
    with StateLock(settings.node.state_dir):
        last = list(checks.deep(settings, no_daemon))[-1]
    assert last == Finding("daemon", Verdict.FAIL, "no daemon runs", "look at its log: journalctl -u cad")


def test_the_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "install -d -m 0700" in checks.check_state_dir(tmp_path / "nowhere").advice
    tmp_path.chmod(0o755)
    assert checks.check_state_dir(tmp_path).verdict is Verdict.LOOK
    tmp_path.chmod(0o700)
    assert checks.check_state_dir(tmp_path).verdict is Verdict.OK
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    found = checks.check_state_dir(tmp_path)
    assert (found.verdict, "sudo -u cad" in found.advice) == (Verdict.FAIL, True)


@pytest.mark.parametrize(("free", "verdict"), [(2**20, Verdict.FAIL), (500 * 2**20, Verdict.LOOK), (2**40, Verdict.OK)])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(2**50, 0, free))
    assert checks.check_disk(tmp_path).verdict is verdict


def test_the_clock() -> None:
    right, wrong = SystemClock(lambda: 1_900_000_000.0), SystemClock(lambda: 5.0)
    assert checks.check_clock(right, lambda: True).verdict is Verdict.OK
    assert checks.check_clock(right, lambda: False).verdict is Verdict.LOOK
    assert checks.check_clock(wrong, lambda: True).verdict is Verdict.FAIL
    assert checks.check_clock().name == "clock"


def test_the_kernel_says_whether_its_clock_is_kept_right() -> None:
    # The kernel's own answer, read by another program where there is one.
    done = subprocess.run(["timedatectl", "show"], capture_output=True, text=True, check=False)
    if done.returncode == 0 and "NTPSynchronized=" in done.stdout:
        assert checks._is_synchronised() == ("NTPSynchronized=yes" in done.stdout)
    else:
        assert checks._is_synchronised() in (True, False)


def test_the_master_key(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "SCRYPT_N", 16)
    fingerprint = keystore.fingerprint(keystore.create(settings.keys))
    found = checks.check_keys(settings)
    assert (found.verdict, fingerprint in found.text) == (Verdict.OK, True)
    settings.keys.file.chmod(0o644)
    assert "chmod 600" in checks.check_keys(settings).text


def fill(path: Path) -> None:
    engine = make_engine(path)
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE t (x)")
        connection.exec_driver_sql(
            "INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION SELECT n+1 FROM c LIMIT 9999)"
            " SELECT hex(randomblob(50)) FROM c"
        )
    engine.dispose()


@pytest.mark.slow
def test_a_whole_ledger_is_not_touched(settings: Settings) -> None:
    path = settings.node.state_dir / LEDGER_NAME
    fill(path)
    before = (path.read_bytes(), set(settings.node.state_dir.iterdir()))
    assert checks.check_ledger(settings.node.state_dir).verdict is Verdict.OK
    assert path.read_bytes() == before[0]
    assert set(settings.node.state_dir.iterdir()) - before[1] == {settings.node.state_dir / "lock"}


@pytest.mark.slow
def test_a_ledger_left_by_a_killed_daemon_is_read_with_its_log(settings: Settings) -> None:
    path = settings.node.state_dir / LEDGER_NAME
    code = (
        "import os, signal, sys; from pathlib import Path; from cad.ledger.tables.engine import make_engine\n"
        "connection = make_engine(Path(sys.argv[1])).connect()\n"
        "with connection.begin(): connection.exec_driver_sql('CREATE TABLE t (x)')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60).returncode == -9
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 0
    before = (path.read_bytes(), log.read_bytes())
    found = checks.check_ledger(settings.node.state_dir)
    assert found.verdict is Verdict.OK, found
    assert (path.read_bytes(), log.read_bytes()) == before


def test_a_damaged_ledger_is_found(settings: Settings) -> None:
    path = settings.node.state_dir / LEDGER_NAME
    fill(path)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 10)
    found = checks.check_ledger(settings.node.state_dir)
    assert (found.verdict, found.advice) == (Verdict.FAIL, "do not start the daemon on it; restore your backup")
    path.write_bytes(b"not a database" * 1000)
    assert checks.check_ledger(settings.node.state_dir).verdict is Verdict.FAIL


@pytest.mark.slow
def test_a_ledger_in_use_is_left_alone(settings: Settings) -> None:
    path = settings.node.state_dir / LEDGER_NAME
    fill(path)
    with StateLock(settings.node.state_dir):
        found = checks.check_ledger(settings.node.state_dir)
    assert (found.verdict, found.advice) == (Verdict.FAIL, "run the check again")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("INSERT INTO t VALUES ('x')")
        found = checks.check_ledger(settings.node.state_dir)
    other.close()
    assert (found.verdict, "locked" in found.text) == (Verdict.FAIL, True)


def mux(**changes: Any) -> MultiplexSettings:
    fields = {"id": "south-1", "host": "127.0.0.1", "port": 4100, "client_id": 1}
    return MultiplexSettings.model_validate(fields | changes)


def test_a_multiplexer_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = checks.check_multiplex(mux(port=server.getsockname()[1]))
    assert found.verdict is Verdict.OK


def test_a_multiplexer_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in (
        (socket.gaierror(-2, "Name or service not known"), "correct host"),
        (TimeoutError(), "cabling"),
        (ConnectionRefusedError(111, "refused"), "the port does not"),
        (OSError(113, "No route to host"), "address and network"),
    ):

        def fail(*_arguments: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(socket, "create_connection", fail)
        found = checks.check_multiplex(mux())
        assert (found.verdict, words in found.advice) == (Verdict.FAIL, True)
