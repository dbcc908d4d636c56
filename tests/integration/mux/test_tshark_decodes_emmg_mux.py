"""The whole conversation of a link and a multiplexer, decoded by tshark: nothing malformed, nothing missing."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cad.air.muxes import MuxLink
from cad.frame.clock import SystemClock
from config.outlets import MultiplexSettings
from tests.support import multiplexer_grammar as grammar
from tests.support import pcap
from tests.support.multiplexer import StrictMultiplexer

pytestmark = pytest.mark.integration

SECTIONS = [b"\x82\x70" + bytes([size]) + bytes(range(size)) for size in (13, 61, 125, 253)] * 12
PACKETS = [bytes([0x47, 0x1F, 0xFF, 0x10]) + bytes([number]) * 184 for number in range(48)]
CLIENT_ID = 0x4AE60001
EXPECTED = [
    grammar.CHANNEL_SETUP,
    grammar.STREAM_SETUP,
    grammar.BW_REQUEST,
    grammar.CHANNEL_STATUS,
    grammar.STREAM_STATUS,
    grammar.CHANNEL_TEST,
    grammar.STREAM_TEST,
    grammar.CHANNEL_ERROR,
    grammar.CLOSE_REQUEST,
    grammar.CHANNEL_CLOSE,
]


def tshark(capture: Path, port: int, *options: str) -> str:
    """Run tshark on the capture, with the port decoded as SimulCrypt."""
    command = ["tshark", "-r", str(capture), "-d", f"tcp.port=={port},simulcrypt", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def malformed(capture: Path, port: int) -> str:
    """What tshark does not like about the capture, warnings included; empty when it likes all of it."""
    return tshark(capture, port, "-Y", "_ws.malformed || _ws.expert.severity >= 0x600000")


def simulcrypt_layers(capture: Path, port: int) -> list[dict[str, Any]]:
    """The fields of every packet that we sent with SimulCrypt in it: a list of values for each field."""
    ours = f"simulcrypt && tcp.dstport == {port}"
    packets = json.loads(tshark(capture, port, "-T", "json", "-Y", ours, "--no-duplicate-keys"))
    return [flat(packet["_source"]["layers"]["simulcrypt"]) for packet in packets]


def flat(layer: Any) -> dict[str, list[str]]:
    """All fields of a dissected layer by name, whatever they are nested in."""
    fields: dict[str, list[str]] = {}
    waiting = [layer]
    while waiting:
        here = waiting.pop(0)
        if isinstance(here, list):
            waiting = here + waiting
        elif isinstance(here, dict):
            for name, value in here.items():
                if isinstance(value, str):
                    fields.setdefault(name, []).append(value)
                elif isinstance(value, list) and all(isinstance(one, str) for one in value):
                    fields.setdefault(name, []).extend(value)
                else:
                    waiting.insert(0, value)
    return fields


async def converse(mux: StrictMultiplexer, version: int, mode: str) -> None:
    """Set-up, tests both ways, data, a changed allocation, a fault and its answer, the orderly close."""
    multiplex = MultiplexSettings(
        id="m",
        host=mux.host,
        port=mux.port,
        client_id=0x4AE60001,
        protocol_version=version,
        mode=mode,
        test_interval_s=1,
    )
    link = MuxLink(multiplex, 0x4AE6, SystemClock(), jitter=lambda: 0.0)
    task = asyncio.create_task(link.run())
    async with asyncio.timeout(20):
        await link.wait_ready()
        await link.send(SECTIONS if mode == "section" else PACKETS)
        mux.test()
        mux.allocate(77)
        await mux.until(lambda: grammar.STREAM_TEST in mux.types())
        mux.say(bytes([version]) + bytes.fromhex("0112 000e 0001 0004 4ae60001 0003 0002 0001"))
        await mux.until(lambda: mux.errors_received)
        await link.close()
        await task


@pytest.mark.parametrize("mode", ["section", "packet"])
@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_tshark_decodes_every_message_of_ours(version: int, mode: str, tmp_path: Path) -> None:
    async with StrictMultiplexer(100) as mux:
        await converse(mux, version, mode)
        assert mux.faults == []
        assert sorted(mux.types()) == sorted(EXPECTED)
        capture = tmp_path / "conversation.pcap"
        pcap.write_tcp(capture, mux.conversation, mux.port)
        assert malformed(capture, mux.port) == ""
        layers = simulcrypt_layers(capture, mux.port)
        types = [int(kind, 16) for layer in layers for kind in layer["simulcrypt.message.type"]]
        assert [kind for kind in types if kind != grammar.DATA_PROVISION] == mux.types()
        datagrams = [one for layer in layers for one in layer.get("simulcrypt.datagram", [])]
        assert [bytes.fromhex(one.replace(":", "")) for one in datagrams] == (
            SECTIONS if mode == "section" else PACKETS
        )
        assert {one for layer in layers for one in layer["simulcrypt.version"]} == {f"0x{version:02x}"}
        assert {one for layer in layers for one in layer["simulcrypt.client_id"]} == {str(CLIENT_ID)}
        assert [one for layer in layers for one in layer.get("simulcrypt.bandwidth", [])] == ["100"]
        assert not [name for layer in layers for name in layer if "unknown" in name.lower()]


def test_the_check_for_malformed_messages_can_fail(tmp_path: Path) -> None:
    capture = tmp_path / "bad.pcap"
    pcap.write_tcp(capture, [(1.0, "up", bytes.fromhex("02 0011 0008 0001 0009 4ae60001"))], 4000)
    assert "Malformed" in malformed(capture, 4000)
