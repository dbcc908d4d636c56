"""The command line's frame: lazy, errors mapped in one place, exit codes, a daemon asked over its real socket."""

import contextlib
import importlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cad import keystore
from cad.cli import main as cli_main
from cad.cli.shell.exit_codes import CODE_OF_ERROR, ExitCode, code_of
from cad.errors import AlreadyRunningError, CadError
from cad.frame import logs
from cards import receiver_file
from config import load
from emm.keys import KeyLadder
from tests.support.daemon_socket import ServedDaemon
from tests.support.logs import logging_as_before
from tests.support.scripted_headend import CHANNEL

SETTINGS = """
[node]
state_dir = "{0}"
socket = "{0}/cad.sock"
[mqtt]
host = "localhost"
[keys]
file = "{0}/master.key"
passphrase_file = "{0}/passphrase"
[ca]
ca_system_id = 0x4A75
[[networks]]
id = "south"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cad.toml"
    path.write_text(SETTINGS.format(tmp_path))
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    (tmp_path / "passphrase").chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with logging_as_before():
        logs.configure("critical", "console")
        yield


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command line in this process and return exit code, standard output and standard error."""
    code = cli_main.run(list(arguments))
    shown = capsys.readouterr()
    return int(code), shown.out, shown.err


@pytest.mark.slow
def test_help_needs_none_of_the_heavy_packages_and_names_every_command() -> None:
    code = (
        "import sys; from cad.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'pydantic', 'sqlalchemy', 'numpy', 'httpx', 'rich', 'structlog', 'smartcard', 'iotcore'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.splitlines()[-1] == "[]"
    for name in cli_main.COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", sorted(cli_main.COMMANDS))
def test_every_command_can_be_loaded_and_shows_its_help(name: str) -> None:
    result = CliRunner().invoke(cli_main.cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_every_known_error_exists_and_every_root_has_an_exit_code() -> None:
    for dotted in CODE_OF_ERROR:
        module, _, name = dotted.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), name), Exception)
    for module in ("cad.errors", "cad.ledger.errors", "cards.errors", "emm.errors", "protocol.errors", "config.errors"):
        for error in vars(importlib.import_module(module)).values():
            if isinstance(error, type) and issubclass(error, Exception) and error.__module__ == module:
                assert code_of(error.__new__(error)) is not None, error


def test_the_nearest_ancestor_counts() -> None:
    assert code_of(CadError("x")) is ExitCode.FAILED
    assert code_of(AlreadyRunningError("x")) is ExitCode.BUSY
    assert code_of(ValueError("x")) is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], ExitCode.USAGE, "No such command 'nonsense'"),
        (["explain"], ExitCode.USAGE, "Missing argument 'CARD'"),
        (
            ["status", "--socket", "/nowhere/cad.sock"],
            ExitCode.UNREACHABLE,
            "no daemon runs: there is no socket /nowhere",
        ),
        (["check", "--config", "/nowhere/cad.toml"], ExitCode.SETTINGS, "cannot be read: No such file"),
        (["serve", "--config", "/nowhere/cad.toml"], ExitCode.SETTINGS, "cannot be read: No such file"),
        (["explain", "000000001009"], ExitCode.INPUT, "check digit is wrong"),
    ],
)
def test_exit_codes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: ExitCode, words: str) -> None:
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_a_defect_shows_its_trace_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(cli_main, "_load", lambda _target: broken)
    code, _, err = run(capsys, "status")
    assert code == ExitCode.DEFECT
    assert "ZeroDivisionError: a defect" in err
    assert err.endswith("please report the lines above\n")


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_target: str) -> click.Command:
        raise ModuleNotFoundError("No module named 'smartcard'", name="smartcard.System")

    monkeypatch.setattr(cli_main, "_load", missing)
    code, _, err = run(capsys, "reader", "list")
    assert code == ExitCode.FAILED
    assert err == "cad: this command needs the extra 'pcsc': pip install 'cad[pcsc]'\n"


def test_an_interrupted_command_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_target: str) -> click.Command:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_main, "_load", interrupted)
    code, _, err = run(capsys, "status")
    assert code == ExitCode.ABORTED
    assert "interrupted" in err


@pytest.mark.slow
def test_output_into_a_closed_pipe_is_no_failure(config: Path) -> None:
    command = f"{sys.executable} -m cad check --config {config} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_keys_are_made_once_and_shown_only_as_a_fingerprint(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    code, out, _ = run(capsys, "keys", "init", "--config", str(config), "--json")
    assert code == 0
    made = json.loads(out)
    assert set(made) == {"file", "fingerprint"}
    assert len(made["fingerprint"]) == 6
    assert json.loads(run(capsys, "keys", "show", "--config", str(config), "--json")[1]) == made
    assert run(capsys, "keys", "show", "--config", str(config))[1].endswith(f"fingerprint {made['fingerprint']}\n")
    code, out, err = run(capsys, "keys", "init", "--config", str(config))
    assert (code, out) == (ExitCode.KEYS, "")
    assert "exists already" in err


@pytest.mark.slow
def test_a_receiver_is_made_for_its_maker_and_its_key_is_shown_nowhere(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    run(capsys, "keys", "init", "--config", str(config))
    first, second = tmp_path / "first", tmp_path / "second"
    settings = ("--config", str(config))
    made = run(capsys, "keys", "receiver", "0100 0000 0000 01D8", "--out", str(first), *settings, "--json")
    assert (made[0], json.loads(made[1])) == (0, {"file": str(first), "receiver": "01000000000001D8"})
    again = run(capsys, "keys", "receiver", "--serial", "01000000000001", "--out", str(second), *settings)
    assert again[0] == 0
    assert first.read_bytes() == second.read_bytes()
    identity = receiver_file.read(first)
    ladder = KeyLadder(keystore.load(load.load(config).keys))
    assert identity.pairing_key == ladder.pairing_key(identity.number)
    assert not any(identity.pairing_key.hex() in text for text in (*made[1:], *again[1:]))
    for arguments, code, words in (
        (["01000000000001D9", "--out", str(tmp_path / "x")], ExitCode.INPUT, "check digits"),
        (["--serial", "0100", "--out", str(tmp_path / "x")], ExitCode.USAGE, "14 hexadecimal digits"),
        (["01000000000001D8", "--out", str(first)], ExitCode.INPUT, "exists already"),
    ):
        found = run(capsys, "keys", "receiver", *arguments, "--config", str(config))
        assert found[0] == code
        assert words in found[2]


def test_check_says_what_the_settings_hold(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    code, out, _ = run(capsys, "check", "--config", str(config), "--json")
    document = json.loads(out)
    assert (code, document["ok"]) == (0, True)
    assert (
        document["checks"][0]["text"]
        == "can be used: networks 1, multiplexes 0, streams 0, services 0, products 0, operators 0"
    )
    assert [one["verdict"] for one in document["checks"]] == ["ok", "LOOK"]
    code, out, _ = run(capsys, "check", "--config", str(config))
    assert "LOOK settings: mend it if it was not meant so" in out
    assert out.endswith("headend-1: all well\n")
    config.write_text(config.read_text().replace("ca_system_id", "ca_system"))
    code, out, err = run(capsys, "check", "--config", str(config))
    assert (code, out) == (ExitCode.SETTINGS, "")
    assert "line 11: ca.ca_system: unknown key; did you mean 'ca_system_id'?" in err


@pytest.fixture
def served(config: Path) -> Iterator[ServedDaemon]:
    daemon = ServedDaemon(config.parent / "cad.sock")
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.mark.slow
def test_status_shows_what_is_wrong_and_what_to_do(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon
) -> None:
    code, out, _ = run(capsys, "status", "--config", str(config))
    assert code == ExitCode.CHECK_FAILED
    assert "FAIL   broker" in out
    assert "broker: look whether the broker runs" in out
    assert out.endswith("NOT READY\n")
    served.health_set("broker", True)
    code, out, _ = run(capsys, "status", "--config", str(config), "--json")
    assert (code, json.loads(out)["health"]["ready"]) == (0, True)
    served.health_set("disk", False)
    code, out, _ = run(capsys, "status", "--config", str(config))
    assert code == ExitCode.CHECK_FAILED
    assert out.endswith("running\n")


@pytest.mark.slow
def test_messages_on_the_air_are_listed_without_their_text(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon
) -> None:
    code, out, _ = run(capsys, "message", "list", "--config", str(config), "--json")
    assert (code, [one["message"] for one in json.loads(out)["messages"]]) == (0, ["works-17"])
    code, out, _ = run(capsys, "message", "list", "--config", str(config))
    assert code == 0
    assert "works-17" in out
    assert "12, last never" in " ".join(out.split())
    assert "to all:" in out


@pytest.mark.slow
def test_explain_carousel_audit_and_clock_ask_the_daemon(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon, tmp_path: Path
) -> None:
    where = ["--config", str(config)]
    code, out, _ = run(capsys, "explain", "0000 0000 1008", "sport-1", *where, "--json")
    assert (code, json.loads(out)) == (0, {"card": "000000001008", "channel": CHANNEL | {"service": "sport-1"}})
    code, out, _ = run(capsys, "explain", "000000001008", *where)
    assert (code, out.split()) == (0, ["card", "000000001008"])
    code, out, _ = run(capsys, "explain", "000000001008", "sport-1", *where, "--operator", "kaisa")
    assert code == 0
    for told in (CHANNEL["sentence"], CHANNEL["advice"], *(need["text"] for need in CHANNEL["needs"])):
        assert out.count(told) == 1
    assert out.index(CHANNEL["sentence"]) < out.index("card ")
    code, _, err = run(capsys, "explain", "000000001008", *where, "--operator", "other")
    assert (code, err.splitlines()[-1]) == (ExitCode.NOT_FOUND, "cad: no such card")
    code, _, err = run(capsys, "explain", "000000009993", *where)
    assert (code, err) == (ExitCode.NOT_FOUND, "cad: no such card\n")
    code, out, _ = run(capsys, "carousel", "top", *where, "--json")
    assert json.loads(out) == {"multiplexes": [{"id": "south-1", "rings": []}]}
    code, out, _ = run(capsys, "carousel", "top", *where)
    assert "south-1" in out
    code, out, _ = run(capsys, "audit", "verify", *where)
    assert "verifies" in out
    code, out, _ = run(capsys, "audit", "export", *where)
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [0, 1, 2]
    code, out, _ = run(capsys, "audit", "export", *where, "--output", str(tmp_path / "audit.jsonl"))
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 3
    code, out, _ = run(capsys, "audit", "export", *where, "--operator", "kaisa")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2]
    code, _, err = run(capsys, "audit", "export", *where, "--operator", "other")
    assert (code, err.splitlines()[-1]) == (ExitCode.NOT_FOUND, "cad: no such operator")
    code, out, _ = run(capsys, "clock", *where, "--json")
    assert code == 0
    code, out, _ = run(capsys, "clock", "--believe", "--yes", *where, "--json")
    assert json.loads(out) == {"now": "2027-01-15T08:00:00Z"}


def test_a_broken_audit_chain_is_exit_code_4(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon
) -> None:
    served.headend.break_audit()
    code, _, err = run(capsys, "audit", "verify", "--config", str(config))
    assert (code, err) == (ExitCode.CHECK_FAILED, "cad: audit record 7: hash differs\n")


def test_a_defect_of_the_daemon_is_told_from_one_of_the_command(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon
) -> None:
    served.headend.crash = True
    code, _, err = run(capsys, "status", "--config", str(config))
    assert code == ExitCode.FAILED
    assert err.endswith("cad: the daemon failed with HTTP status 500; look at its log\n")


def test_a_dead_socket_and_a_deaf_daemon(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "cad.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        code, _, err = run(capsys, "status", "--socket", str(path))
    assert code == ExitCode.UNREACHABLE
    assert "nobody listens" in err


def test_the_answer_of_something_else_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "cad.sock"

    def answer_twice(listener: socket.socket) -> None:
        for _ in range(2):
            # The first caller only looks whether anybody is there, and may be gone before it is greeted.
            with listener.accept()[0] as peer, contextlib.suppress(BrokenPipeError):
                peer.sendall(b"220 mail.example.net ESMTP\r\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        other = threading.Thread(target=answer_twice, args=[listener])
        other.start()
        code, _, err = run(capsys, "status", "--socket", str(path))
        other.join()
    assert code == ExitCode.UNREACHABLE
    assert "hung up" in err


@pytest.mark.slow
def test_a_deep_check_against_a_running_daemon_asks_it(
    capsys: pytest.CaptureFixture[str], config: Path, served: ServedDaemon
) -> None:
    run(capsys, "keys", "init", "--config", str(config))
    with served.holding(config.parent):
        code, out, _ = run(capsys, "check", "--deep", "--config", str(config), "--json")
    found = {one["name"]: one for one in json.loads(out)["checks"]}
    assert code == ExitCode.CHECK_FAILED
    assert "ledger and multiplexers are asked of it" in found["daemon"]["text"]
    assert found["daemon: ledger file"]["verdict"] == "ok"
    assert found["broker"]["verdict"] == "FAIL"


def test_the_documented_exit_codes_are_the_real_ones() -> None:
    text = Path("docs/operator.md").read_text()
    for code in ExitCode:
        assert f"| {code.value} | {code.meaning} |" in text, code
