"""`cad check --deep` about the port for technicians."""

import datetime as dt
from pathlib import Path

import pytest

from cad import checks
from cad.checks import Verdict
from cad.frame.clock import SystemClock
from config.technicians import TechniciansSettings
from tests.support.broker import Authority


@pytest.fixture
def settings(tmp_path: Path) -> TechniciansSettings:
    authority = Authority(tmp_path)
    cert, key = authority.issue("headend")
    return TechniciansSettings(listen="127.0.0.1:8443", ca_file=authority.ca_file, cert_file=cert, key_file=key)


def test_the_tests_certificate_of_two_days_is_one_to_look_at(settings: TechniciansSettings) -> None:
    found = checks.check_technicians(settings)
    assert (found.verdict, found.advice) == (Verdict.LOOK, "put a new one there and restart before it ends")
    assert "0 people at 127.0.0.1:8443; the certificate is good until 20" in found.text


@pytest.mark.parametrize(("days", "verdict"), [(-29, Verdict.OK), (3, Verdict.FAIL)])
def test_a_long_life_is_well_and_an_ended_one_is_not(
    settings: TechniciansSettings, monkeypatch: pytest.MonkeyPatch, days: int, verdict: Verdict
) -> None:
    now = SystemClock().now() + dt.timedelta(days=days).total_seconds()
    monkeypatch.setattr(checks.SystemClock, "now", lambda _self: now)
    assert checks.check_technicians(settings).verdict is verdict


def test_files_that_cannot_be_used_are_named(settings: TechniciansSettings, tmp_path: Path) -> None:
    found = checks.check_technicians(settings.model_copy(update={"key_file": tmp_path / "none"}))
    assert found.verdict is Verdict.FAIL
    assert "technicians.cert_file" in found.text
