"""A broker that is away, comes back, forgets, falls silent or does not let us in: the daemon says why, goes on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import MqttSettings, MqttTlsSettings
from protocol.card_number import spell
from tests.support.broker import DAEMON, HOST, Authority, Mosquitto, free_port, running
from tests.support.eventually import eventually
from tests.support.order_desk import OrderDesk, mqtt_settings, order_desk
from tests.support.portal_client import portal

pytestmark = pytest.mark.integration


def assign(number: int) -> dict[str, object]:
    return {"card": spell(number), "rev": 1, "subscriber": "customer-1"}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with running(tmp_path) as one:
        yield one


async def works(broker: Mosquitto, desk: OrderDesk, number: int) -> None:
    async with asyncio.timeout(20):
        await desk.link.connection()
    async with portal(broker, "karjaa", f"web-{number}") as karjaa:
        await karjaa.reply(await karjaa.order("card", "assign", assign(number)), "committed")


async def test_a_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "broker", Authority(tmp_path / "pki"))
    async with order_desk(tmp_path / "state", mqtt_settings(broker), connected=False) as desk:
        await eventually(lambda: desk.link.last_error)
        assert "refused" in str(desk.link.last_error)
        assert "start the broker" in str(desk.link.last_error)
        assert desk.metric("cad_broker_up") == 0
        broker.start()
        try:
            await works(broker, desk, 1)
            assert desk.link.last_error is None
            assert desk.metric("cad_broker_up") == 1
        finally:
            broker.kill()


async def test_a_broker_killed_and_started_again_finds_the_daemon_again(broker: Mosquitto, tmp_path: Path) -> None:
    async with order_desk(tmp_path / "state", mqtt_settings(broker)) as desk:
        await works(broker, desk, 1)
        broker.save()
        for number in (2, 3):
            broker.kill()
            await eventually(lambda: not desk.link.connected)
            broker.start()
            await works(broker, desk, number)
        assert desk.link.sessions_lost == 0
        assert desk.metric("cad_broker_connects_total") == 3


async def test_a_broker_that_forgot_the_session_is_noticed_also_after_a_restart(
    broker: Mosquitto, tmp_path: Path
) -> None:
    settings = mqtt_settings(broker)
    async with order_desk(tmp_path / "state", settings) as desk:
        broker.kill()
        await eventually(lambda: not desk.link.connected)
        broker.forget()
        broker.start()
        await works(broker, desk, 1)
        assert desk.link.sessions_lost == 1
        await desk.stop()
    broker.kill()
    broker.forget()
    broker.start()
    async with order_desk(tmp_path / "state", settings) as desk:
        assert desk.link.sessions_lost == 1
        await works(broker, desk, 2)


async def test_a_broker_that_falls_silent_is_left_and_found_again(broker: Mosquitto, tmp_path: Path) -> None:
    async with order_desk(tmp_path / "state", mqtt_settings(broker, keepalive_s=5)) as desk:
        broker.freeze()
        await eventually(lambda: desk.link.last_error, 30)
        broker.thaw()
        await works(broker, desk, 1)


async def failure(folder: Path, settings: MqttSettings) -> str:
    async with order_desk(folder / "state", settings, connected=False) as desk:
        await eventually(lambda: desk.link.last_error, 20)
        assert not [one for one in desk.supervisor.stuck() if "link" in one]
        return str(desk.link.last_error)


def tls_settings(broker: Mosquitto, authority: Authority, own: Authority, **changed: object) -> MqttSettings:
    cert_file, key_file = own.issue(DAEMON)
    tls = MqttTlsSettings(ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file)
    return MqttSettings(**{"tls": tls, "host": HOST, "port": broker.port, **changed})


async def test_a_broker_of_another_authority_is_not_trusted(broker: Mosquitto, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "another authority")
    said = await failure(tmp_path, tls_settings(broker, other, broker.authority))
    assert "certificate verify failed" in said
    assert "mqtt.tls.ca_file" in said


async def test_a_broker_under_another_name_is_not_trusted(broker: Mosquitto, tmp_path: Path) -> None:
    said = await failure(tmp_path, tls_settings(broker, broker.authority, broker.authority, host="127.0.0.1"))
    assert "mqtt.host must be a name in it" in said


async def test_a_certificate_that_the_broker_does_not_accept(broker: Mosquitto, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "another authority")
    said = await failure(tmp_path, tls_settings(broker, broker.authority, other))
    assert "certificate" in said
    assert "mqtt.tls.cert_file" in said or "accept our certificate" in said


async def test_no_certificate_at_all(broker: Mosquitto, tmp_path: Path) -> None:
    tls = MqttTlsSettings(ca_file=broker.authority.ca_file)
    said = await failure(tmp_path, MqttSettings(tls=tls, host=HOST, port=broker.port))
    assert "certificate" in said


async def test_no_tls_where_the_broker_expects_it(broker: Mosquitto, tmp_path: Path) -> None:
    said = await failure(tmp_path, MqttSettings(host=HOST, port=broker.port))
    assert "does this port expect TLS" in said


async def test_tls_where_there_is_none(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x20\x03\x00\x00\x00 this is no TLS at all")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", port := free_port())
    async with server:
        cert_file, key_file = authority.issue(DAEMON)
        tls = MqttTlsSettings(ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file)
        said = await failure(tmp_path, MqttSettings(tls=tls, host=HOST, port=port))
    assert "does not speak TLS" in said or "expect TLS" in said


async def test_files_that_are_missing(broker: Mosquitto, tmp_path: Path) -> None:
    tls = MqttTlsSettings(ca_file=tmp_path / "nothing.pem")
    assert "nothing.pem" in await failure(tmp_path, MqttSettings(tls=tls, host=HOST, port=broker.port))


async def test_a_password_file_that_is_missing_is_named(broker: Mosquitto, tmp_path: Path) -> None:
    settings = mqtt_settings(broker, username="x", password_file=tmp_path / "nothing")
    assert "mqtt.password_file" in await failure(tmp_path, settings)


async def test_a_name_that_nobody_knows(broker: Mosquitto, tmp_path: Path) -> None:
    said = await failure(tmp_path, MqttSettings(host="broker.invalid", port=broker.port))
    assert "mqtt.host" in said


async def test_a_broker_that_refuses_the_user(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder, Authority(tmp_path / "pki"))
    (folder / "mosquitto.conf").write_text(
        f"listener {broker.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
    )
    broker.start()
    try:
        said = await failure(tmp_path, MqttSettings(host=HOST, port=broker.port, username="cad"))
    finally:
        broker.kill()
    assert "refuses us" in said
    assert "correct username, password or certificate" in said
