"""Numbers over the control socket, as the command asks for them."""

import json
from pathlib import Path

import httpx
import pytest

from cad.cli.shell.client import DaemonClient
from cad.errors import DaemonUnreachableError, NumbersUsedUpError, StockRefusedError
from cad.stock.desk import DaemonNumbers, PatientNumbers
from tests.support.stock_daemon import StockDaemon, stock_daemon

SERIAL = "CAFE0000000000000001"
OTHER = "CAFE0000000000000002"
VALUES = {"enc": "0A0B0C", "card-1": "010203"}


@pytest.fixture
def daemon(tmp_path: Path):
    with stock_daemon(tmp_path) as served:
        yield served


@pytest.fixture
def numbers(daemon: StockDaemon):
    client = DaemonClient(daemon.socket)
    yield DaemonNumbers(client)
    client.close()


@pytest.mark.slow
def test_from_reservation_to_stock(daemon: StockDaemon, numbers: DaemonNumbers) -> None:
    assert numbers.reserve("karjaa", "box", 1, 5) == (5, 5)
    assert numbers.claim("karjaa", "box", SERIAL, None, begun=False) == 5
    numbers.made(SERIAL, 5, 1, VALUES)
    with pytest.raises(NumbersUsedUpError, match="begin another batch"):
        numbers.claim("karjaa", "box", OTHER, None, begun=False)
    with pytest.raises(StockRefusedError, match="is in stock already, with other keys"):
        numbers.made(SERIAL, 5, 1, {"enc": "000000"})
    (told,) = numbers._client.get("/v1/stock")["batches"]
    assert (told["made"], told["batch"], told["reserved_at"][-1]) == (1, "box", "Z")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("reserve", b"{", "not JSON"),
        ("reserve", b"[" * 100_000, "too long"),
        ("reserve", b"[" * 10_000, "not JSON"),
        ("reserve", json.dumps({"operator": "karjaa", "batch": "b", "count": 0}).encode(), "count"),
        ("reserve", json.dumps({"operator": "karjaa", "batch": "../b", "count": 1}).encode(), "batch"),
        ("claim", json.dumps({"operator": "karjaa", "batch": "b", "serial": "xyz"}).encode(), "serial"),
        (
            "made",
            json.dumps(
                {"serial": SERIAL, "address": 1, "key_version": 1, "check_values": {"enc": "00112233"}}
            ).encode(),
            "check_values",
        ),
        (
            "made",
            json.dumps({"serial": SERIAL, "address": 1, "key_version": 1, "check_values": {}, "key": "00"}).encode(),
            "key",
        ),
    ],
)
def test_what_is_not_a_question_is_refused_in_words(daemon: StockDaemon, path: str, body: bytes, said: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.socket)), base_url="http://cad") as client:
        answer = client.post(f"/v1/stock/{path}", content=body)
    assert answer.status_code == 409
    assert said in answer.json()["error"]["text"]


@pytest.mark.slow
def test_a_daemon_that_is_restarted_is_waited_for(daemon: StockDaemon, numbers: DaemonNumbers) -> None:
    numbers.reserve("karjaa", "box", 2, None)
    daemon.stop()
    pauses: list[float] = []

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            daemon.start()

    assert PatientNumbers(numbers, sleep).claim("karjaa", "box", SERIAL, None, begun=False) == 0
    assert pauses == [0.5, 1.0]


@pytest.mark.slow
def test_patience_ends(daemon: StockDaemon, numbers: DaemonNumbers) -> None:
    daemon.stop()
    pauses: list[float] = []
    with pytest.raises(DaemonUnreachableError, match="no daemon runs"):
        PatientNumbers(numbers, pauses.append).reserve("karjaa", "box", 2, None)
    assert sum(pauses) == 15.5
