"""The control socket and the loopback port: real sockets, real clients."""

import asyncio
import getpass
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from structlog.testing import capture_logs

from cad.errors import ListenError, NotFoundError, StockRefusedError
from cad.frame.clock import SystemClock
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.http.app import control_app, public_app
from cad.http.catalogue import catalogue_routes
from cad.http.reports import report_routes
from cad.http.server import HttpServer, bind_tcp, bind_unix
from cad.http.stock import stock_routes
from protocol import card_number
from tests.support.scripted_headend import ScriptedHeadend


class Served:
    """Both servers with their clients."""

    def __init__(self, path: Path) -> None:
        clock, self.metrics, self.headend = SystemClock(), Metrics(), ScriptedHeadend()
        self.health = Health(clock, self.metrics, expected=("broker",))
        self.supervisor = Supervisor(clock, lambda: 0.0)
        tcp = bind_tcp("127.0.0.1:0")
        self.servers = [
            HttpServer(
                "control", control_app(self.headend, self.health, self.metrics), bind_unix(path), self.supervisor
            ),
            HttpServer("public", public_app(self.health, self.metrics), tcp, self.supervisor),
        ]
        self.control = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://cad")
        self.public = httpx.AsyncClient(base_url=f"http://127.0.0.1:{tcp.getsockname()[1]}")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path / "cad.sock")
    for server in made.servers:
        server.start()
    yield made
    await made.control.aclose()
    await made.public.aclose()
    await asyncio.gather(*(server.stop() for server in made.servers))
    await made.supervisor.stop_all()


@pytest.mark.slow
async def test_health_is_served_on_both_and_control_on_the_unix_socket_only(served: Served) -> None:
    for client in (served.control, served.public):
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert "cad_condition_ok" in (await client.get("/metrics")).text
    for path in (
        "/v1/status",
        "/v1/explain/000000001008",
        "/v1/carousel",
        "/v1/messages",
        "/v1/audit/verify",
        "/v1/audit/export",
        "/v1/check",
    ):
        assert (await served.control.get(path)).status_code == 200, path
        assert (await served.public.get(path)).status_code == 404, path
    assert (await served.control.post("/v1/clock/believe")).status_code == 200
    assert (await served.public.post("/v1/clock/believe")).status_code == 404


@pytest.mark.slow
async def test_readiness_and_life_follow_the_conditions_and_say_why(served: Served) -> None:
    answer = (await served.public.get("/readyz")).json()
    assert answer["ready"] is False
    assert answer["against"][0]["name"] == "broker"
    assert answer["against"][0]["advice"]
    with capture_logs():
        served.health.set("broker", True)
        assert (await served.public.get("/readyz")).json() == {"ready": True, "against": []}
        served.health.set("tasks", False, "pump: broken")
    dead = await served.public.get("/livez")
    assert (dead.status_code, dead.json()["against"][0]["text"]) == (503, "pump: broken")


@pytest.mark.slow
async def test_status_carries_the_health(served: Served) -> None:
    document = (await served.control.get("/v1/status")).json()
    assert document["node"] == "headend-1"
    assert document["health"]["ready"] is False
    assert [one["name"] for one in document["health"]["conditions"]] == ["broker"]


@pytest.mark.slow
async def test_explain_passes_card_and_channel_and_tells_errors_apart(served: Served) -> None:
    number = card_number.spell(100)
    found = await served.control.get(f"/v1/explain/{number}", params={"channel": "sport-1"})
    assert (found.json()["card"], found.json()["channel"]["service"]) == (number, "sport-1")
    mistyped = await served.control.get("/v1/explain/000000001009")
    assert (mistyped.status_code, mistyped.json()["error"]["type"]) == (400, "CardNumberError")
    unknown = await served.control.get(f"/v1/explain/{card_number.spell(999)}")
    assert (unknown.status_code, unknown.json()["error"]["text"]) == (404, "no such card")


@pytest.mark.slow
async def test_what_is_refused_or_read_for_an_operator_is_logged_with_who_asked(served: Served) -> None:
    number, me = card_number.spell(100), f"{getpass.getuser()} (uid {os.getuid()})"
    with capture_logs() as logs:
        for path in (f"/v1/explain/{number}", "/v1/audit/export"):
            assert (await served.control.get(path, params={"operator": "kaisa"})).status_code == 200
            assert (await served.control.get(path, params={"operator": "other"})).status_code == 404
        assert (await served.control.get("/v1/audit/export")).status_code == 200
        assert (await served.control.get(f"/v1/explain/{card_number.spell(999)}")).status_code == 404
    told = [{key: one.get(key) for key in ("event", "log_level", "path", "operator", "who")} for one in logs]
    export, explain = "/v1/audit/export", f"/v1/explain/{number}"
    assert told == [
        {"event": "request refused", "log_level": "warning", "path": explain, "operator": "other", "who": me},
        {"event": "data read", "log_level": "info", "path": export, "operator": "kaisa", "who": me},
        {"event": "request refused", "log_level": "warning", "path": export, "operator": "other", "who": me},
        {"event": "data read", "log_level": "info", "path": export, "operator": None, "who": me},
    ]


SPORT = {"offer": "sport", "kind": "channel", "names": {"fi": "Urheilu"}, "products": ["sport"]}


class OneOperator:
    """Reports of kaisa alone."""

    async def active(self, day: str, operator: str | None = None) -> dict[str, Any]:
        await self.check(day, day, operator)
        return {"day": day}

    async def check(self, first: str, last: str, operator: str | None = None) -> None:
        if operator != "kaisa":
            raise NotFoundError(f"there is no operator {operator!r}")

    async def changes(self, first: str, last: str, operator: str | None = None) -> AsyncIterator[dict[str, Any]]:
        yield {"from": first, "to": last}


async def lines(_operator: str) -> AsyncIterator[bytes]:
    yield b"{}\n"


class NoDesk:
    """A catalogue and a stock that know no operator."""

    async def refuse(self, *_about: Any) -> dict[str, Any]:
        raise StockRefusedError("not of this operator")

    offers = compare = load = reserve = claim = made = batches = refuse


@pytest.mark.parametrize(
    ("method", "path", "asked", "status"),
    [
        ("GET", "/v1/reports/active", {"day": "2026-12-01"}, 200),
        ("GET", "/v1/reports/changes", {"from": "2026-12-01", "to": "2026-12-02"}, 200),
        ("GET", "/v1/snapshot", {}, 200),
        ("POST", "/v1/offers/compare", {"catalogue": {"offers": [SPORT]}}, 409),
        ("POST", "/v1/offers/load", {"catalogue": {"offers": [SPORT]}, "seen": ""}, 409),
        ("POST", "/v1/stock/reserve", {"batch": "b", "count": 1}, 409),
        ("POST", "/v1/stock/claim", {"batch": "b", "serial": "A" * 20}, 409),
    ],
)
@pytest.mark.parametrize("operator", ["kaisa", "other"])
async def test_every_question_that_names_an_operator_leaves_a_line(
    method: str, path: str, asked: dict[str, Any], status: int, operator: str
) -> None:
    metrics, desk = Metrics(), cast(Any, NoDesk())
    routes = [
        *report_routes(OneOperator(), lines, lambda: frozenset({"kaisa"})),
        *catalogue_routes(desk),
        *stock_routes(desk),
    ]
    app = control_app(ScriptedHeadend(), Health(SystemClock(), metrics), metrics, routes)
    if "catalogue" in asked:
        asked = asked | {"catalogue": asked["catalogue"] | {"operator": operator}}
    else:
        asked = asked | {"operator": operator}
    said = {"params": asked} if method == "GET" else {"json": asked}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cad") as client:
        with capture_logs() as logs:
            answer = await client.request(method, path, **said)
    read = (operator, status) == ("kaisa", 200)
    assert answer.status_code == (200 if read else 409 if status == 409 else 404), answer.text
    (line,) = logs
    assert (line["event"], line["path"], line["operator"]) == (
        "data read" if read else "request refused",
        path,
        operator,
    )


@pytest.mark.slow
async def test_a_broken_audit_chain_is_a_conflict_and_the_export_streams_lines(served: Served) -> None:
    served.headend.break_audit()
    answer = await served.control.get("/v1/audit/verify")
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "AuditBroken")
    assert (await served.control.get("/v1/audit/export")).text.splitlines() == [f'{{"seq": {n}}}' for n in range(3)]


@pytest.mark.slow
async def test_a_defect_is_a_500_and_the_server_lives_on(served: Served) -> None:
    served.headend.crash = True
    answer = await served.control.get("/v1/status")
    assert answer.status_code == 500
    assert "defect" not in answer.text
    assert (await served.control.get("/livez")).status_code == 200


@pytest.mark.slow
async def test_nonsense_requests_do_not_stop_the_server(served: Served, tmp_path: Path) -> None:
    for junk in (
        b"\x00" * 100,
        b"GET / HTTP/9\r\n\r\n",
        b"GET /" + b"a" * 70_000,
        b"POST /livez HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "cad.sock"))
        writer.write(junk)
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    assert (await served.control.get("/livez")).status_code == 200


async def test_signals_stay_with_the_daemon(served: Served) -> None:
    heard = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.set)
    assert (await served.control.get("/livez")).status_code == 200
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(2):
        await heard.wait()
    assert (await served.control.get("/livez")).status_code == 200
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


@pytest.mark.slow
async def test_the_socket_is_closed_to_others_and_taken_over_only_when_dead(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "cad.sock"
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(ListenError, match="another process listens"):
        bind_unix(path)
    for server in served.servers:
        await server.stop()
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    bind_unix(path).close()


def test_where_it_cannot_listen_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"node\.socket.*directory must exist"):
        bind_unix(tmp_path / "nowhere" / "cad.sock")
    (tmp_path / "file").touch()
    with pytest.raises(ListenError, match="not a socket"):
        bind_unix(tmp_path / "file")
    taken = bind_tcp("127.0.0.1:0")
    taken.listen()
    with pytest.raises(ListenError, match=r"node\.http_listen.*in use"):
        bind_tcp(f"127.0.0.1:{taken.getsockname()[1]}")
    taken.close()
    with pytest.raises(ListenError, match=r"node\.http_listen"):
        bind_tcp("192.0.2.1:9464")
