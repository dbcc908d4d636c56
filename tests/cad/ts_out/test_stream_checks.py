"""`cad check --deep` looks whether streams can be sent at all, and says how many there are."""

from pathlib import Path

from cad import checks
from cad.checks import Verdict
from config.load import load
from config.outlets import StreamSettings


def stream(**changes: object) -> StreamSettings:
    fields = {"id": "s-1", "host": "239.255.77.9", "port": 5000, "interface": "lo"} | changes
    return StreamSettings.model_validate(fields)


def test_a_stream_that_can_be_sent() -> None:
    found = checks.check_stream(stream())
    assert (found.name, found.verdict) == ("stream s-1", Verdict.OK)
    assert found.text == "239.255.77.9:5000 can be sent to; cad probe says what is received"


def test_an_interface_or_a_name_that_is_not_there_is_said() -> None:
    missing = checks.check_stream(stream(interface="nowhere0"))
    assert (missing.verdict, missing.advice) == (Verdict.FAIL, "look at interface and routes")
    unknown = checks.check_stream(stream(host="receiver.invalid"))
    assert (unknown.verdict, unknown.advice) == (Verdict.FAIL, "correct host, or the name service")


def test_the_extent_of_the_settings_names_streams() -> None:
    found = next(iter(checks.shallow(load(Path("config/cad.example.toml")))))
    assert "streams 1" in found.text
