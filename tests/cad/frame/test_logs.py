"""Logs are structured and carry no secret, whoever writes them (I8)."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from cad.frame import logs
from cad.frame.logs import REDACTED
from emm.keys import KeyLadder, LocalMasterKey
from emm.secret import Secret
from tests.support.logs import logging_as_before

CANARY = bytes(range(0xA0, 0xC0))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with logging_as_before():
        yield


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_level_name_and_time() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    structlog.get_logger("cad.test").warning("link lost", multiplex="south-1", after_s=1.5, tries=[1, 2])
    structlog.get_logger("cad.test").debug("not shown")
    (line,) = lines(stream)
    assert list(line)[:3] == ["at", "level", "event"]
    assert line.pop("at", "").endswith("Z")  # type: ignore[union-attr]
    assert line == {
        "event": "link lost",
        "level": "warning",
        "logger": "cad.test",
        "multiplex": "south-1",
        "after_s": 1.5,
        "tries": [1, 2],
    }


def test_logs_of_libraries_come_out_in_the_same_form_and_their_chatter_is_left_out() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logging.getLogger("alembic").info("running %s", "upgrade")
    logging.getLogger("uvicorn.access").info("GET /metrics")
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        logging.getLogger("sqlalchemy").exception("failed")
    first, second = lines(stream)
    assert (first["event"], first["logger"]) == ("running upgrade", "alembic")
    assert "RuntimeError: broken" in str(second["exception"])


def test_console_lines_are_for_people() -> None:
    stream = io.StringIO()
    logs.configure("debug", "console", stream)
    structlog.get_logger("cad.test").debug("hello", who="world")
    assert "hello" in stream.getvalue()
    assert "who=world" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def leaks(text: str) -> bool:
    shown = (
        CANARY.hex(),
        CANARY.hex().upper(),
        CANARY.hex(" "),
        CANARY.hex(":"),
        repr(CANARY),
        str(list(CANARY))[1:-1],
    )
    return any(one in text for one in shown) or "geheim" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_canary_comes_out_nowhere(form: str) -> None:
    stream = io.StringIO()
    logs.configure("debug", form, stream)
    log = structlog.get_logger("cad.test")
    master = LocalMasterKey(CANARY)
    log.info(
        "objects", master=master, ladder=KeyLadder(master), value=Secret(CANARY), raw=CANARY, buffer=bytearray(CANARY)
    )
    log.info("deep", deep={"a": [{"b": (CANARY, {"x": CANARY.hex()})}]}, many={CANARY})
    log.info(
        "hex", text=f"key is {CANARY.hex()}", upper=CANARY.hex().upper(), spaced=CANARY.hex(" "), colons=CANARY.hex(":")
    )
    log.info(
        "fields",
        password="geheim",
        mqtt_passphrase="geheim",
        pin="geheim",
        session_key="geheim",
        control_words="geheim",
    )
    log.info(f"in the event {CANARY!r}")
    log.info("percent %s", CANARY.hex())
    log.info("pem", text="-----BEGIN PRIVATE KEY-----\ngeheim\n-----END PRIVATE KEY-----")
    try:
        raise ValueError(f"bad key {CANARY!r} {CANARY.hex()}")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed with %s", CANARY)
    text = stream.getvalue()
    assert len(text) > 500
    assert not leaks(text)


def test_what_is_no_secret_stays_readable() -> None:
    event = {
        "event": "command committed",
        "command": "0" * 32,
        "sha256": "ab" * 32,
        "passphrase_file": "/etc/cad/passphrase",
        "key_version": 1,
        "card": "000000001008",
        "ok": True,
        "nothing": None,
    }
    assert logs.redact(None, "info", dict(event)) == event


def test_bottomless_values_are_cut() -> None:
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    assert REDACTED in str(logs.redact(None, "info", {"deep": deep}))


def test_without_a_stream_it_is_standard_error_as_it_is_then(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    structlog.get_logger("cad.test").info("first")
    assert "first" in capsys.readouterr().err
