"""`cad demo` shows the main job, with mosquitto and with the broker in a wheel, and cleans up behind itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EMBEDDED = """
import sys
import cad.demo.scenario
cad.demo.scenario.find_mosquitto = lambda: None
from cad.cli.main import main
sys.argv = ["cad", "demo", "--json"]
main()
"""


def demo(tmp_path: Path, *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def test_a_person_sees_every_step_and_the_last_line_says_it_all(tmp_path: Path) -> None:
    output, _ = (process := demo(tmp_path, "-m", "cad", "demo")).communicate(timeout=120)
    assert process.returncode == 0, output
    lines = output.splitlines()
    assert lines[-1].startswith("Sport 1 became visible on card 100000000008 after ")
    told = "\n".join(lines)
    for step in (
        "mosquitto listens",
        "orders Sport 1",
        "on_air_by",
        "visible_by",
        "EMM left",
        "filtered the EMM",
        "opens the ECM",
    ):
        assert step in told, step
    assert told.count("stays closed") == 3
    assert list(tmp_path.iterdir()) == []


def test_with_the_embedded_broker(tmp_path: Path) -> None:
    output, _ = (process := demo(tmp_path, "-c", EMBEDDED)).communicate(timeout=120)
    assert process.returncode == 0, output
    result = json.loads(output.splitlines()[-1])
    assert result["broker"] == "embedded broker (iotcore, MQTT 5 only)"
    assert 0 < result["visible_after_s"] < 3600


def test_ended_from_outside_it_leaves_nothing_behind(tmp_path: Path) -> None:
    process = demo(tmp_path, "-m", "cad", "demo", "--stay")
    assert process.stdout is not None
    for line in process.stdout:
        if "the daemon's log" in line:
            break
    daemons = subprocess.run(["pgrep", "-f", f"serve --config {tmp_path}"], capture_output=True, text=True, check=True)
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in daemons.stdout.split()):
        assert time.monotonic() < deadline, "the daemon was left behind"
        time.sleep(0.1)
