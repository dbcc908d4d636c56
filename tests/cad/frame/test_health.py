"""Conditions: what holds, since when, what to do; life and readiness derive from them."""

import pytest
from structlog.testing import capture_logs

from cad.frame.health import KINDS, Health, Level
from cad.frame.metrics import Metrics
from tests.support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def health(clock: ManualClock, metrics: Metrics) -> Health:
    return Health(clock, metrics)


def failing(health: Health) -> list[str]:
    return [one.name for one in health.conditions() if not one.ok]


def test_not_ready_until_everything_expected_holds(health: Health, metrics: Metrics) -> None:
    assert [one.name for one in health.against_readiness()] == ["broker", "ledger"]
    assert health.against_life() == []
    health.set("broker", True)
    assert [one.text for one in health.against_readiness()] == ["starting"]
    health.set("ledger", True)
    assert health.against_readiness() == []
    assert metrics.registry.get_sample_value("cad_ready") == 1
    assert health.headline() == "all well"


def test_since_is_the_moment_of_the_change(health: Health, clock: ManualClock) -> None:
    health.set("link", True, subject="south-1")
    began = clock.now()
    for _ in range(3):
        clock.set(clock.now() + 10)
        health.set("link", True, "still up", subject="south-1")
    (link,) = [one for one in health.conditions() if one.name == "link"]
    assert link.since == began
    clock.set(clock.now() + 10)
    health.set("link", False, "connection refused", subject="south-1")
    (link,) = [one for one in health.conditions() if one.name == "link"]
    assert link.since == clock.now()
    assert link.as_dict()["advice"] == KINDS["link"].advice


def test_changes_are_logged_once(health: Health) -> None:
    with capture_logs() as logs:
        for ok in (True, True, False, False, True):
            health.set("disk", ok, "2 % free" if not ok else "")
    assert [entry["event"] for entry in logs] == ["condition does not hold", "condition holds again"]
    assert logs[0]["text"] == "2 % free"
    assert logs[0]["advice"]


def test_warnings_do_not_make_unready_and_the_worst_comes_first(health: Health) -> None:
    for name in ("broker", "ledger"):
        health.set(name, True)
    health.set("disk", False, "2 % free")
    assert health.against_readiness() == []
    assert "running, 1 to look at: disk: 2 % free" in health.headline()
    health.set("ledger", False, "disk full")
    health.set("tasks", False, "pump: broken")
    assert failing(health) == ["tasks", "ledger", "disk"]
    assert health.headline().startswith("not ready, 3")
    assert [one.name for one in health.against_life()] == ["tasks"]


def test_pulses_that_fail_to_come_are_named(health: Health, clock: ManualClock) -> None:
    beat = health.pulse("ledger writer", 10)
    clock.set(clock.now() + 9)
    assert health.overdue() == []
    beat()
    clock.set(clock.now() + 11)
    assert health.overdue() == ["ledger writer: no sign of life for 11 s"]
    health.end_pulse("ledger writer")
    assert health.overdue() == []


def test_metric_follows_and_forgets(health: Health, metrics: Metrics) -> None:
    labels = {"condition": "link", "subject": "south-1"}
    health.set("link", False, "down", subject="south-1")
    assert metrics.registry.get_sample_value("cad_condition_ok", labels) == 0
    health.set("link", True, subject="south-1")
    assert metrics.registry.get_sample_value("cad_condition_ok", labels) == 1
    health.forget("link", "south-1")
    health.forget("link", "never there")
    assert metrics.registry.get_sample_value("cad_condition_ok", labels) is None
    assert "link" not in [one.name for one in health.conditions()]


def test_only_known_conditions(health: Health) -> None:
    with pytest.raises(KeyError):
        health.set("weather", False)


def test_every_kind_says_what_to_do() -> None:
    assert {kind.level for kind in KINDS.values()} == set(Level)
    assert all(kind.meaning and len(kind.advice) > 20 for kind in KINDS.values())
