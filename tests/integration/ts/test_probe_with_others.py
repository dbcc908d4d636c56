"""X6: the probe against streams of others, its metrics before Prometheus' own checker; live, behind a real link."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cad.demo.outputs import UdpOutput
from cad.demo.stream import PlannedService, StreamPlan
from cad.probe.metrics import ProbeMetrics
from cad.probe.report import ProbeDocument
from tests.support.demo_multiplexer import multiplexer_running
from tests.support.probe_streams import CA, ECM_PID, EMM_PID, SERVICE_ID, Air, ecm, emm
from tests.support.ts_listening import UdpListener

pytestmark = pytest.mark.integration


def probe(*arguments: str) -> tuple[int, ProbeDocument]:
    command = [sys.executable, "-m", "cad", "probe", *arguments, "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.stderr == ""
    return finished.returncode, ProbeDocument.model_validate_json(finished.stdout)


def test_a_stream_of_ffmpeg_keeps_its_own_time_and_lacks_a_cat(tmp_path: Path) -> None:
    path = tmp_path / "x.ts"
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=12"]
    command += ["-c:v", "mpeg2video", "-f", "mpegts", "-muxrate", "1M", "-mpegts_service_id", "7", str(path)]
    subprocess.run(command, check=True, timeout=60)
    code, found = probe(str(path), "--ca-system-id", hex(CA))
    assert found.listened_s == pytest.approx(12, abs=0.5)
    assert found.stream.rate_bps == pytest.approx(1_000_000, rel=0.05)
    assert found.stream.lost == {}
    assert [(service.service_id, service.ecm_pid) for service in found.services] == [(7, None)]
    assert code == 4
    assert {alarm.code for alarm in found.alarms if alarm.wake} == {"cat-missing"}


def test_promtool_finds_nothing_wrong_with_the_metrics(tmp_path: Path) -> None:
    air = Air()
    air.pass_time(25, [emm(number % 20) for number in range(100)])
    air.probe.tick(air.now + 3700)
    metrics = ProbeMetrics("udp://239.1.1.1:5000")
    found = air.report(wall=air.now)
    alarm = {"code": "x", "subject": "s", "wake": True, "text": "", "advice": "", "since_s": 1.0, "until_s": None}
    metrics.update(ProbeDocument.model_validate(found.model_dump() | {"alarms": [alarm]}))
    metrics.write(tmp_path / "x.prom")
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=(tmp_path / "x.prom").read_text(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_the_stream_of_the_demo_multiplexer_as_the_probe_hears_it() -> None:
    service = PlannedService(SERVICE_ID, 0x100, ECM_PID, 0x102, lambda at: ecm(int(at) // 2, period_s=2))
    plan = StreamPlan(CA, EMM_PID, rate_bps=2_000_000, services=(service,))
    free = UdpListener()
    port = free.port
    free.close()
    command = [sys.executable, "-m", "cad", "probe", f"udp://127.0.0.1:{port}", "--for", "9", "--json"]
    command += ["--allocated-kbps", "300"]
    async with multiplexer_running(plan, bandwidth_kbps=300) as running:
        running.multiplexer.add_output(UdpOutput("127.0.0.1", port))
        client = await running.emmg(bandwidth_kbps=300)
        listening = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        ended = asyncio.create_task(listening.communicate())
        while not ended.done():
            await client.send([emm(address, size=40) for address in range(50)])
            await asyncio.sleep(0.5)
        out, err = ended.result()
    assert err == b""
    found = ProbeDocument.model_validate_json(out)
    assert found.stream.lost == {}
    assert found.cat.entries == [{"ca_system_id": CA, "pid": EMM_PID}]
    assert found.emm.unique.addresses == 50
    assert found.emm.unique.median_spacing_s == pytest.approx(0.5, abs=0.3)
    assert found.emm.malformed == {}
    (one,) = found.services
    assert one.period_mean_s == pytest.approx(2, abs=0.3)
    assert one.time_off_s == pytest.approx(0, abs=3)
    assert not [alarm for alarm in found.alarms if alarm.wake], json.loads(out)["alarms"]
    assert listening.returncode == 0
