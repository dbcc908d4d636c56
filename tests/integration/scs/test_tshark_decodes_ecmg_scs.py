"""The whole conversation of a scrambler and the ECMG, decoded by tshark: nothing malformed, nothing missing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import pcap, scrambler
from tests.support.ecmg import SPORT, SUPER_CAS_ID, RunningEcmg, running_ecmg
from tests.support.scrambler import EcmgError, StrictScrambler

pytestmark = pytest.mark.integration

EXPECTED = [
    scrambler.CHANNEL_STATUS,
    scrambler.STREAM_STATUS,
    *[scrambler.ECM_RESPONSE] * 6,
    scrambler.STREAM_ERROR,
    scrambler.CHANNEL_ERROR,
    scrambler.CHANNEL_STATUS,
    scrambler.STREAM_STATUS,
    scrambler.CLOSE_RESPONSE,
    scrambler.CHANNEL_CLOSE,
]


def tshark(capture: Path, port: int, *options: str) -> str:
    """Run tshark on the capture, with the port decoded as SimulCrypt."""
    command = ["tshark", "-r", str(capture), "-d", f"tcp.port=={port},simulcrypt", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def malformed(capture: Path, port: int) -> str:
    """What tshark does not like about the capture, warnings included; empty when it likes all of it."""
    return tshark(capture, port, "-Y", "_ws.malformed || _ws.expert.severity >= 0x600000")


def fields(capture: Path, port: int, direction: str) -> list[dict[str, list[str]]]:
    """The fields of every SimulCrypt message in one direction ("src": of ours), flat, lists of values."""
    shown = f"simulcrypt && tcp.{direction}port == {port}"
    packets = json.loads(tshark(capture, port, "-T", "json", "-Y", shown, "--no-duplicate-keys"))
    return [flat(packet["_source"]["layers"]["simulcrypt"]) for packet in packets]


def flat(layer: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    waiting = [layer]
    while waiting:
        here = waiting.pop(0)
        if isinstance(here, list):
            waiting = here + waiting
        elif isinstance(here, dict):
            for name, value in here.items():
                if isinstance(value, str):
                    found.setdefault(name, []).append(value)
                elif isinstance(value, list) and all(isinstance(one, str) for one in value):
                    found.setdefault(name, []).extend(value)
                else:
                    waiting.insert(0, value)
    return found


async def converse(ecmg: RunningEcmg, scs: StrictScrambler) -> list[bytes]:
    """Set-up, ECMs with words of both sizes, errors, tests, the orderly close; returns the ECMs."""
    await scs.open_channel()
    await scs.open_stream(5)
    ecms = []
    for cp in range(65_533, 65_539):
        size = 8 if cp % 2 else 16
        words = {cp % 65_536: b"w" * size, (cp + 1) % 65_536: b"x" * size}
        ecms.append(await scs.order(5, cp % 65_536, words, SPORT))
    with pytest.raises(EcmgError):
        await scs.order(5, 4, {4: b"12345678", 5: b"12345678"}, b"\x01")
    scs.raw(bytes([scs.version]) + bytes.fromhex("0002 000b 000e 0002 0001 0042 0001 00"))
    with pytest.raises(EcmgError):
        await scs.expect(scrambler.CHANNEL_STATUS)
    scs.send(scrambler.CHANNEL_TEST, [(scrambler.CHANNEL_ID, 1)])
    await scs.expect(scrambler.CHANNEL_STATUS)
    scs.send(scrambler.STREAM_TEST, [(scrambler.CHANNEL_ID, 1), (scrambler.STREAM_ID, 5)])
    await scs.expect(scrambler.STREAM_STATUS, 5)
    await scs.close_stream(5)
    await ecmg.server.stop()
    assert (await scs.hear())[0] == scrambler.CHANNEL_CLOSE
    return ecms


@pytest.mark.parametrize("mode", ["section", "packet"])
@pytest.mark.parametrize("version", [2, 3])
async def test_tshark_decodes_every_message(version: int, mode: str, tmp_path: Path) -> None:
    async with running_ecmg(mode=mode) as ecmg, ecmg.scrambler(version=version) as scs:
        ecms = await converse(ecmg, scs)
        capture = tmp_path / "conversation.pcap"
        pcap.write_tcp(capture, scs.conversation, ecmg.port)
    assert malformed(capture, ecmg.port) == ""
    ours = fields(capture, ecmg.port, "src")
    assert [int(one, 16) for layer in ours for one in layer["simulcrypt.message.type"]] == EXPECTED
    assert {one for layer in ours for one in layer["simulcrypt.version"]} == {f"0x{version:02x}"}
    datagrams = [one for layer in ours for one in layer.get("simulcrypt.ecm_datagram", [])]
    assert [bytes.fromhex(one.replace(":", "")) for one in datagrams] == ecms
    theirs = fields(capture, ecmg.port, "dst")
    assert {one for layer in theirs for one in layer.get("simulcrypt.super_cas_id", [])} == {f"0x{SUPER_CAS_ID:08x}"}
    assert not [name for layer in ours for name in layer if "unknown" in name.lower()]


def test_the_check_for_malformed_messages_can_fail(tmp_path: Path) -> None:
    capture = tmp_path / "bad.pcap"
    pcap.write_tcp(capture, [(1.0, "down", bytes.fromhex("03 0202 0008 000e 0009 0001 0000"))], 4000)
    assert "Malformed" in malformed(capture, 4000)
