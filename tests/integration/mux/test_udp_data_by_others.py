"""data_provision over UDP, judged by tshark (its dissector takes UDP when told so) and by the `simulcrypt` package."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from simulcrypt import SimulcryptMessage

from cad.air.muxes import MuxLink
from cad.frame.clock import SystemClock
from config.outlets import MultiplexSettings
from tests.support import pcap
from tests.support.multiplexer import StrictMultiplexer

pytestmark = pytest.mark.integration

SECTIONS = [b"\x82\x70" + bytes([size]) + bytes(range(size)) for size in (13, 61, 125, 253)] * 12
PACKETS = [bytes([0x47, 0x1F, 0xFF, 0x10]) + bytes([number]) * 184 for number in range(48)]
CLIENT_ID = 0x4AE60001


def tshark(capture: Path, port: int, *options: str) -> str:
    command = ["tshark", "-r", str(capture), "-d", f"udp.port=={port},simulcrypt", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def malformed(capture: Path, port: int) -> str:
    return tshark(capture, port, "-Y", "_ws.malformed || _ws.expert.severity >= 0x600000 || !simulcrypt")


async def send_over_udp(mux: StrictMultiplexer, version: int, mode: str, datagrams: list[bytes]) -> None:
    multiplex = MultiplexSettings(
        id="m",
        host=mux.host,
        port=mux.port,
        client_id=CLIENT_ID,
        protocol_version=version,
        mode=mode,  # type: ignore[arg-type]
        transport="udp",
        udp_port=mux.udp_port,
    )
    link = MuxLink(multiplex, CLIENT_ID >> 16, SystemClock(), jitter=lambda: 0.0)
    task = asyncio.ensure_future(link.run())
    async with asyncio.timeout(20):
        await link.wait_ready()
        await link.send(datagrams)
        await mux.until(lambda: len(mux.sections) == len(datagrams))
        await link.close()
        await task


@pytest.mark.parametrize("mode", ["section", "packet"])
@pytest.mark.parametrize("version", [2, 3, 4, 5])
async def test_others_read_every_message_over_udp(version: int, mode: str, tmp_path: Path) -> None:
    datagrams = SECTIONS if mode == "section" else PACKETS
    async with StrictMultiplexer(100) as mux:
        await send_over_udp(mux, version, mode, datagrams)
    assert mux.faults == []
    capture = tmp_path / "data.pcap"
    pcap.write_udp(capture, mux.udp_messages, mux.udp_port)
    assert malformed(capture, mux.udp_port) == ""
    lines = tshark(capture, mux.udp_port, "-T", "fields", "-e", "simulcrypt.message.type", "-e", "simulcrypt.datagram")
    read = [line.split("\t") for line in lines.splitlines()]
    assert {kind for kind, _ in read} == {"0x0211"}
    assert [bytes.fromhex(one) for _, carried in read for one in carried.split(",")] == datagrams
    theirs = [SimulcryptMessage(message) for _, message in mux.udp_messages]
    assert [one.error_message for one in theirs if not one.is_valid] == []
    assert [p.value for one in theirs for p in one.parameters if p.name == "datagram"] == datagrams
    assert max(len(message) for _, message in mux.udp_messages) <= 1472


def test_the_check_for_malformed_messages_can_fail(tmp_path: Path) -> None:
    capture = tmp_path / "bad.pcap"
    pcap.write_udp(capture, [(1.0, bytes.fromhex("02 0211 0008 0001 0009 4ae60001"))], 4101)
    assert "Malformed" in malformed(capture, 4101)
