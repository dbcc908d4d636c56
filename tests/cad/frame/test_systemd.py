"""sd_notify over a real datagram socket, in the file system and in the abstract namespace."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cad.frame.systemd import STATUS_CHARACTERS_MAX, Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        name = f"@cad-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
        server.bind("\0" + name[1:] if name.startswith("@") else name)
        server.settimeout(2)
        yield server, name


def test_states_arrive_as_systemd_wants_them(listener: tuple[socket.socket, str]) -> None:
    server, name = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.active
    notifier.ready("all well")
    notifier.reloading(12.5)
    notifier.status("one\nline")
    notifier.watchdog()
    notifier.stopping()
    assert [server.recv(4096).decode() for _ in range(5)] == [
        "READY=1\nSTATUS=all well",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STATUS=one line",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_a_change_of_state_outlasts_a_full_queue(listener: tuple[socket.socket, str]) -> None:
    server, name = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(1000):
        notifier.watchdog()
    notifier.reloading(1.0)
    notifier.ready()
    server.setblocking(False)

    def queued() -> list[str]:
        found = []
        while True:
            try:
                found.append(server.recv(4096).decode())
            except BlockingIOError:
                return found

    assert set(queued()) == {"WATCHDOG=1"}
    notifier.watchdog()
    assert queued() == ["RELOADING=1\nMONOTONIC_USEC=1000000", "READY=1", "WATCHDOG=1"]


def test_a_long_status_is_cut(listener: tuple[socket.socket, str]) -> None:
    server, name = listener
    Notifier({"NOTIFY_SOCKET": name}).status("ü" * 5000)
    assert server.recv(65536).decode() == "STATUS=" + "ü" * STATUS_CHARACTERS_MAX


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    silent = Notifier({})
    assert not silent.active
    silent.ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).watchdog()


@pytest.mark.parametrize(
    ("environment", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environment).watchdog_interval_s == interval_s
