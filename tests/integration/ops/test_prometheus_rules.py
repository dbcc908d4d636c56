"""promtool agrees with the alert rules, with their unit tests, and with the form of our metrics."""

import subprocess

import pytest

from cad.frame.metrics import Metrics

pytestmark = pytest.mark.integration


def promtool(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["promtool", *arguments], input=data, capture_output=True, timeout=60, check=False)


def test_the_rules_are_well_formed() -> None:
    done = promtool("check", "rules", "config/prometheus/alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", "config/prometheus/alerts.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_metrics_follow_the_conventions() -> None:
    metrics = Metrics(operators=["north"])
    metrics.count_command("north", "ok")
    metrics.publish_to_air.labels("south-1").observe(1)
    metrics.sent_emms.labels("south-1", "base").inc()
    done = promtool("check", "metrics", data=metrics.render())
    assert (done.returncode, done.stderr) == (0, b""), done.stdout + done.stderr
