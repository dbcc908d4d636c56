"""The demo's broker: mosquitto where it is installed, else one that comes in a Python wheel. Loopback only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cad.errors import CadError

START_TIMEOUT_S: Final = 10.0

MOSQUITTO: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
log_dest file {directory}/mosquitto.log
"""

EMBEDDED: Final = """\
id = 0
[router]
id = 0
max_connections = 50
max_outgoing_packet_count = 10000
max_segment_size = 10485760
max_segment_count = 10
[v5.1]
name = "demo"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 65536
max_inflight_count = 200
"""


class DemoBrokerError(CadError):
    """No broker could be started, and why."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_mosquitto() -> str | None:
    """Path of mosquitto, which Debian keeps where a user's PATH does not look."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def running_broker(directory: Path, port: int, mosquitto: str | None) -> Iterator[str]:
    """Run a broker on `port` as long as the context lasts; gives its name. Raises DemoBrokerError."""
    if mosquitto is None:
        with _embedded(directory, port):
            yield "embedded broker (iotcore, MQTT 5 only)"
        return
    configuration = directory / "mosquitto.conf"
    configuration.write_text(MOSQUITTO.format(port=port, directory=directory))
    process = subprocess.Popen(  # noqa: S603 - the path comes from the machine's own PATH
        [mosquitto, "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield "mosquitto"
    finally:
        process.terminate()
        process.wait(timeout=5)


@contextmanager
def _embedded(directory: Path, port: int) -> Iterator[None]:
    try:
        from iotcore import Broker
    except ImportError as error:
        raise DemoBrokerError(
            "neither mosquitto nor the embedded broker is installed; run `make demo`, or install cad[demo]"
        ) from error
    configuration = directory / "broker.toml"
    configuration.write_text(EMBEDDED.format(port=port))
    broker = Broker(config_path=str(configuration))
    try:
        broker.start(timeout=START_TIMEOUT_S)
    except (OSError, RuntimeError) as error:
        raise DemoBrokerError(f"the embedded broker does not start: {error}") from error
    try:
        yield
    finally:
        broker.stop()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoBrokerError(f"mosquitto ended at once, with exit code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise DemoBrokerError(f"mosquitto did not listen within {START_TIMEOUT_S:.0f} s")
