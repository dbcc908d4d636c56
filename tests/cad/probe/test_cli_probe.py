"""`cad probe` as it is typed: reports, exit codes, JSON as documented, metrics, an orderly end on a signal."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from rich.console import Console

from cad.cli import main as cli_main
from cad.cli.air.probe_view import alarm_line, report
from cad.cli.shell.exit_codes import ExitCode
from cad.frame import logs
from cad.probe.metrics import ProbeMetrics
from cad.probe.report import ProbeDocument
from protocol import card_number
from protocol.mpegts.packet import CAT_PID, NULL_PACKET, packet_pid, split_packets
from tests.support.logs import logging_as_before
from tests.support.probe_streams import CA, RATE_BPS, Air, emm, recording

RATE = ["--rate-kbps", str(RATE_BPS // 1000)]
EMMS = [emm(number % 20) for number in range(200)]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with logging_as_before():
        logs.configure("critical", "console")
        yield


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "good.ts"
    path.write_bytes(recording(12, EMMS))
    return path


@pytest.fixture(scope="module")
def without_cat(stream: Path) -> Path:
    path = stream.with_name("bad.ts")
    kept = [raw for raw in split_packets(stream.read_bytes()) if packet_pid(raw) != CAT_PID]
    path.write_bytes(b"".join(kept))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli_main.run(["probe", *arguments])
    shown = capsys.readouterr()
    return int(code), shown.out, shown.err


@pytest.mark.slow
def test_a_good_recording(capsys: pytest.CaptureFixture[str], stream: Path) -> None:
    code, out, err = run(capsys, str(stream), *RATE)
    assert (code, err) == (ExitCode.OK, "")
    assert f"CA system 0x{CA:04X}, EMM PID 0x0500; CAT right, every 0.20 s" in out
    assert "no alarm" in out
    assert re.search(r"cards +20 +200 ", out)
    assert re.search(r"101 +0x0101 +\d+ +0.10 s", out)


def test_a_recording_that_somebody_should_have_been_woken_for(
    capsys: pytest.CaptureFixture[str], without_cat: Path
) -> None:
    code, out, _ = run(capsys, str(without_cat), *RATE, "--ca-system-id", hex(CA))
    assert code == ExitCode.CHECK_FAILED
    assert "WAKE   cat-missing" in out
    assert "look at the multiplexer's CAT" in out


def test_json_is_one_document(capsys: pytest.CaptureFixture[str], stream: Path) -> None:
    code, out, _ = run(capsys, str(stream), *RATE, "--json")
    found = ProbeDocument.model_validate_json(out)
    assert code == ExitCode.OK
    assert (found.source, found.at, found.emm.unique.addresses) == (str(stream), None, 20)
    assert found.listened_s == pytest.approx(12, abs=0.05)


def test_the_cards_of_a_list(capsys: pytest.CaptureFixture[str], stream: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards.txt"
    cards.write_text(f"# ours\n{card_number.spell(3)}\n\n{card_number.spell(77)}  # never sent\n")
    _, out, _ = run(capsys, str(stream), *RATE, "--cards", str(cards), "--json")
    listed = json.loads(out)["emm"]["listed"]
    assert (listed["cards"], listed["heard_60_min"], listed["not_heard"]) == (2, 1, [card_number.spell(77)])
    cards.write_text(f"{card_number.spell(3)}\n123456789012\n")
    code, _, err = run(capsys, str(stream), *RATE, "--cards", str(cards))
    assert code == ExitCode.INPUT
    assert "cards.txt, line 2: " in err


def test_the_settings_say_whose_messages(capsys: pytest.CaptureFixture[str], stream: Path) -> None:
    code, out, _ = run(capsys, str(stream), *RATE, "--config", "config/cad.example.toml", "--json")
    assert code == ExitCode.CHECK_FAILED
    assert json.loads(out)["alarms"][0]["text"] == "CA system 0x4A75 is not in the CAT; there is 0x4ADC"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], ExitCode.USAGE, "Missing argument 'SOURCE'"),
        (["/nowhere.ts"], ExitCode.NOT_FOUND, "there is no file"),
        (["pyproject.toml"], ExitCode.INPUT, "this is no transport stream"),
        (["http://x"], ExitCode.FAILED, "is no source"),
        (["-", "--ca-system-id", "0"], ExitCode.USAGE, "give 1..0xFFFF"),
        (["-", "--ca-system-id", "conax"], ExitCode.USAGE, "give 1..0xFFFF"),
        (["udp://127.0.0.1:0", "--listen", "9465"], ExitCode.FAILED, "--listen wants host:port"),
        (["udp://192.0.2.99:5"], ExitCode.BUSY, "cannot listen"),
        (["udp://127.0.0.1:0", "--for", "0.3", "--textfile", "/nowhere/x.prom"], ExitCode.FAILED, "cannot write"),
    ],
)
def test_what_cannot_be_done_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: ExitCode, words: str
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert words in err
    assert "Traceback" not in err


def test_a_taken_metrics_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = run(capsys, "udp://127.0.0.1:0", "--listen", listen)
    assert code == ExitCode.BUSY
    assert f"cannot listen on {listen}" in err


@pytest.mark.slow
def test_a_network_without_a_stream_wakes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "udp://127.0.0.1:0", "--for", "2.4", "--json")
    assert code == ExitCode.CHECK_FAILED
    assert [alarm["code"] for alarm in json.loads(out)["alarms"]] == ["no-signal"]


class Played:
    """A recording sent by UDP in its own time, again and again, until the block ends."""

    def __init__(self, path: Path, port: int) -> None:
        self._packets = split_packets(path.read_bytes())
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _play(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            at = 0
            while not self._stop.wait(7 * 1504 / RATE_BPS):
                sender.sendto(b"".join(self._packets[at : at + 7]), ("127.0.0.1", self._port))
                at = (at + 7) % (len(self._packets) - 7)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_a_live_probe_serves_metrics_prints_documents_and_ends_on_a_signal(stream: Path, tmp_path: Path) -> None:
    port, http = free_udp_port(), free_tcp_port()
    textfile = tmp_path / "probe.prom"
    command = [sys.executable, "-m", "cad", "probe", f"udp://127.0.0.1:{port}", "--json", "--every", "0.2"]
    command += ["--listen", f"127.0.0.1:{http}", "--textfile", str(textfile)]
    with (
        Played(stream, port),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as probe,
    ):
        assert probe.stdout is not None
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["emm"]["sections"] < 5:
            lines.append(json.loads(probe.stdout.readline()))
            assert len(lines) < 100
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=5) as answer:
            served = answer.read().decode()
        probe.send_signal(signal.SIGTERM)
        rest, err = probe.communicate(timeout=20)
    assert probe.returncode == 0, err
    assert err == ""
    last = ProbeDocument.model_validate_json(rest.splitlines()[-1])
    assert last.cat.emm_pid == 0x500
    assert last.at is not None
    names = {family.name for family in text_string_to_metric_families(served)}
    assert {"cad_probe_emm_sections", "cad_probe_cat_right", "cad_probe_crypto_period_seconds"} <= names
    assert "cad_probe_emm_sections_total" in textfile.read_text()


@pytest.mark.slow
def test_without_a_terminal_alarms_are_lines(without_cat: Path) -> None:
    port = free_udp_port()
    command = [sys.executable, "-m", "cad", "probe", f"udp://127.0.0.1:{port}", "--every", "0.2"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (
        Played(without_cat, port),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as probe,
    ):
        assert probe.stdout is not None
        first = probe.stdout.readline()
        probe.send_signal(signal.SIGINT)
        rest, err = probe.communicate(timeout=20)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ WAKE cat-missing CAT: no CAT for 2\.\d s\n", first)
    assert (probe.returncode, err) == (0, "")
    assert "no EMM PID" in rest


def test_metrics_are_those_that_are_documented() -> None:
    air = Air()
    air.pass_time(25, EMMS)
    now = air.now
    air.probe.tick(now + 3700)
    air.hear(NULL_PACKET * 2 + b"x")
    metrics = ProbeMetrics("test")
    assert list(metrics.collect()) == [], "nothing before the first report"
    found = air.report(wall=now)
    metrics.update(found)
    documented = set(re.findall(r"`(cad_probe_\w+)`", Path("docs/probe.md").read_text()))
    shown = set()
    for family in metrics.collect():
        shown |= {sample.name for sample in family.samples} or {
            family.name + ("_total" if family.type == "counter" else "")
        }
        assert family.documentation
    assert shown == documented


def test_an_alarm_that_is_over_stays_in_the_metrics_as_zero() -> None:
    air = Air()
    air.pass_time(3, EMMS)
    alarm = {"code": "cat-late", "subject": "CAT", "wake": False, "text": "t", "advice": "a", "since_s": 1.0}
    found = air.report()
    metrics = ProbeMetrics("test")
    for alarms, value in (([alarm | {"until_s": None}], 1), ([], 0)):
        metrics.update(ProbeDocument.model_validate(found.model_dump() | {"alarms": alarms}))
        labels = {"code": "cat-late", "subject": "CAT", "wake": "no"}
        assert metrics.registry.get_sample_value("cad_probe_alarm", labels) == value


def fields(model: type[BaseModel]) -> set[str]:
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= fields(part)
    return found


def test_every_field_of_the_document_is_documented() -> None:
    text = Path("docs/probe.md").read_text().partition("## JSON")[2].partition("## Metrics")[0]
    words = set(re.findall(r"[a-z_0-9]+", text))
    assert fields(ProbeDocument) <= words


def test_the_view_shows_alarms_that_are_over_and_never_rounds_up() -> None:
    air = Air()
    air.pass_time(3, EMMS)
    raw = air.report().model_dump()
    alarm = {"code": "cat-late", "subject": "CAT", "wake": True, "text": "gaps", "advice": "mend", "since_s": 1.0}
    raw |= {"alarms": [alarm | {"until_s": None}], "past_alarms": [alarm | {"until_s": 200.0}]}
    raw["emm"]["unique"] |= {"share_30_min": 0.99999, "share_60_min": 1.0}
    found = ProbeDocument.model_validate(raw)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report(found))
    text = console.export_text()
    assert "99.99 %" in text
    assert "100.00 %" in text
    assert "3.3 min" in text
    assert alarm_line(found.alarms[0], None) == "- WAKE cat-late CAT: gaps"
    assert alarm_line(found.past_alarms[0], "T") == "T over cat-late CAT: gaps"


@pytest.mark.slow
def test_a_recording_of_an_hour_takes_seconds(stream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    # At a thousandth of its rate the recording of 12 s lasts more than three hours.
    code, out, _ = run(capsys, str(stream), "--rate-kbps", "1", "--json")
    found = json.loads(out)
    assert time.monotonic() - began < 20
    assert found["listened_s"] > 10_800
    assert code == ExitCode.CHECK_FAILED, "tables a thousand times too late"
    assert {alarm["code"] for alarm in found["past_alarms"]} >= {"cat-missing"}


def test_an_empty_recording_is_called_empty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty.ts").touch()
    code, _, err = run(capsys, str(tmp_path / "empty.ts"))
    assert (code, "the file is empty" in err) == (ExitCode.INPUT, True)
