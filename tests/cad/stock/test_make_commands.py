"""The commands around the making of cards that need no reader, and the live view."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cad.cli.cards.batch_view import LiveView, Pace
from cad.cli.main import run
from cad.cli.shell.exit_codes import ExitCode
from cad.stock import results
from cad.stock.journal import ChipRecord
from cad.stock.line import Happening, News
from cad.stock.maker import MadeCard
from protocol import card_number
from tests.support.stock import TRANSPORT_KEY, vendor_file
from tests.support.stock_daemon import stock_daemon

SETTINGS = """
[node]
state_dir = "{folder}/state"
socket = "{folder}/s"
[mqtt]
host = "localhost"
[keys]
file = "{folder}/master.key"
passphrase_file = "{folder}/passphrase"
[ca]
ca_system_id = 0x4AD1
[[networks]]
id = "south"
"""


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for name, content in (("passphrase", "a passphrase for tests only"), ("component", TRANSPORT_KEY.hex())):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(content)
    (tmp_path / "cad.toml").write_text(SETTINGS.format(folder=tmp_path))
    (tmp_path / "vendor.json").write_bytes(vendor_file(2))
    assert run(["keys", "init", "--config", str(tmp_path / "cad.toml")]) == 0
    capsys.readouterr()
    return tmp_path


def imported(place: Path, *more: str) -> int:
    command = ["keys", "import-transport", str(place / "vendor.json"), "--component", str(place / "component")]
    return run([*command, "--output", str(place / "d.keys"), "--config", str(place / "cad.toml"), *more])


@pytest.mark.slow
def test_a_delivery_is_imported_and_said_without_a_key(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(place, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["vendor"], said["delivery"], said["key_version"], said["chips"]) == ("Chips Ltd", "D-17", 0x30, 2)
    assert imported(place) == ExitCode.INPUT
    assert "exists already" in capsys.readouterr().err
    (place / "d.keys").unlink()
    (place / "component").write_text("00" * 32)
    assert imported(place) == ExitCode.INPUT
    err = capsys.readouterr().err
    assert "are these all components" in err
    assert TRANSPORT_KEY.hex() not in err


def test_labels_of_a_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.write(tmp_path / "box.csv", [ChipRecord("CAFE", 5, recorded=True)])
    command = ["card", "labels", str(tmp_path / "box.csv"), "--output", str(tmp_path / "box.pdf"), "--sheet", "a4-65"]
    assert run(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'box.pdf'}: 1 labels\n"
    assert (tmp_path / "box.pdf").read_bytes()[:5] == b"%PDF-"
    (tmp_path / "box.csv").write_text("x")
    assert run(command) == ExitCode.INPUT
    assert "first line must be" in capsys.readouterr().err


@pytest.mark.slow
def test_stock_is_shown_and_a_missing_daemon_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["card", "stock", "--config", str(place / "cad.toml")]
    assert run(command) == ExitCode.UNREACHABLE
    assert "no daemon runs" in capsys.readouterr().err
    with stock_daemon(place) as daemon:
        from cad.cli.shell.client import DaemonClient
        from cad.stock.desk import DaemonNumbers

        client = DaemonClient(daemon.socket)
        DaemonNumbers(client).reserve("karjaa", "box-1", 10, None)
        client.close()
        assert run([*command, "--json"]) == 0
        (batch,) = json.loads(capsys.readouterr().out)["batches"]
        assert (batch["first"], batch["numbers"], batch["made"]) == (card_number.spell(0), 10, 0)
        assert run(command) == 0
        assert "box-1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_batch_file_or_delivery_that_is_wrong_stops_before_any_card(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["card", "batch", str(place / "box.toml"), "--config", str(place / "cad.toml")]
    assert run(command) == ExitCode.INPUT
    assert "cannot be read" in capsys.readouterr().err
    (place / "box.toml").write_text('batch = "b"\noperator = "karjaa"\ncount = 2\ntransport_keys = "d.keys"\n')
    assert run(command) == ExitCode.INPUT
    assert "d.keys cannot be read" in capsys.readouterr().err
    assert imported(place) == 0
    (place / "passphrase").write_text("another passphrase, a wrong one")
    assert run(command) == ExitCode.KEYS
    assert "the passphrase is wrong" in capsys.readouterr().err


def test_the_live_view_shows_bar_pace_readers_and_rings() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=20)
    view = LiveView(Pace(10, 4, 0.0), lambda: 3600.0, console)
    with view:
        view.tell(News("Reader [1]", Happening.WORKING))
        view.tell(News("Reader [1]", Happening.MADE, card=MadeCard("CAFE", 5)))
        view.tell(News("Reader 2", Happening.ASIDE, "why [not]"))
    shown = out.getvalue()
    assert "5 of 10  1 cards/h  5:00:00 left" in shown
    assert f"card {card_number.spell(5)} is made: take it out" in shown
    assert "Reader [1]" in shown
    assert "PUT ASIDE: why [not]" in shown
    assert "\a" in shown
