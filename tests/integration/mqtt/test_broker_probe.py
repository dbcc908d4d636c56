"""The deep check's look at the broker, against a real mosquitto: in clear, with mutual TLS, with a password."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cad.frame import tls
from cad.orders import broker_probe
from config.settings import MqttSettings, MqttTlsSettings
from tests.support.broker import HOST, Authority

pytestmark = pytest.mark.integration

Start = Callable[[str], int]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start mosquitto with the given lines for its listener and return the port."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(lines: str) -> int:
        port = free_port()
        config = tmp_path / f"{port}.conf"
        config.write_text(f"user root\nlistener {port} 127.0.0.1\n{lines}\n")
        started.append(
            subprocess.Popen(["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            assert started[-1].poll() is None, "mosquitto ended"
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    yield begin
    for process in started:
        process.terminate()
        process.wait(10)


def settings(port: int, **more: object) -> MqttSettings:
    return MqttSettings.model_validate({"host": HOST, "port": port, "client_id": "cad-test"} | more)


def test_a_broker_in_clear(start: Start) -> None:
    assert broker_probe.probe(settings(start("allow_anonymous true")), 5) is None


def test_a_password(start: Start, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "cad", "right"], check=True, capture_output=True)
    port = start(f"allow_anonymous false\npassword_file {passwords}")
    ours = tmp_path / "password"
    ours.write_text("right\n")
    mqtt = settings(port, username="cad", password_file=ours)
    assert broker_probe.probe(mqtt, 5) is None
    ours.write_text("wrong\n")
    found = broker_probe.probe(mqtt, 5)
    assert found is not None
    assert "Not authorized" in found.text
    assert "wrong" not in found.text
    ours.unlink()
    assert "cannot be read" in str(broker_probe.probe(mqtt, 5))


def test_mutual_tls(start: Start, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    certificate, key = authority.issue("broker")
    port = start(
        f"cafile {authority.ca_file}\ncertfile {certificate}\nkeyfile {key}\n"
        "require_certificate true\nuse_identity_as_username true"
    )
    cert_file, key_file = authority.issue("cad")
    ours = MqttTlsSettings(ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file)
    assert broker_probe.probe(settings(port, tls=ours), 5) is None

    wrong_authority = ours.model_copy(update={"ca_file": stranger.ca_file})
    found = broker_probe.probe(settings(port, tls=wrong_authority), 5)
    assert found is not None
    assert "certificate is not accepted" in found.text

    other_name = settings(port, tls=ours).model_copy(update={"host": "127.0.0.1"})
    found = broker_probe.probe(other_name, 5)
    assert found is not None
    assert "ca_file must hold" in found.advice

    without = MqttTlsSettings(ca_file=authority.ca_file)
    assert broker_probe.probe(settings(port, tls=without), 5) is not None
    assert broker_probe.probe(settings(port), 2) is not None


def test_tls_where_there_is_none(start: Start, tmp_path: Path) -> None:
    ours = MqttTlsSettings(ca_file=Authority(tmp_path / "authority").ca_file)
    found = broker_probe.probe(settings(start("allow_anonymous true"), tls=ours), 3)
    assert found is not None
    assert "TLS" in found.advice or "TLS" in found.text


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    first, second = authority.issue("one"), authority.issue("two")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for made, words in (
        (MqttTlsSettings(ca_file=tmp_path / "nowhere.pem"), r"ca_file .*No such file"),
        (MqttTlsSettings(ca_file=nonsense), r"ca_file .*not PEM"),
        (MqttTlsSettings(ca_file=authority.ca_file, cert_file=first[0], key_file=second[1]), "do not belong together"),
        (MqttTlsSettings(ca_file=authority.ca_file, cert_file=nonsense, key_file=first[1]), "cert_file .*not PEM"),
    ):
        with pytest.raises(tls.TlsFilesError, match=words):
            tls.client_context(made)


def test_nobody_listens_and_nobody_answers() -> None:
    found = broker_probe.probe(settings(free_port()), 2)
    assert found is not None
    assert "refused" in found.text
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = broker_probe.probe(settings(silent.getsockname()[1]), 0.5)
    assert found is not None
    assert "no answer to CONNECT" in found.text
