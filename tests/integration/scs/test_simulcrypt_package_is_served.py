"""The independent `simulcrypt` package: our ECMG serves its SCS simulator, and it accepts every answer of ours."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from simulcrypt import SimulcryptMessage, SimulcryptSpecification

from emm.ecm import open_ecm, parse_ecm
from tests.support.cards import LADDER
from tests.support.ecmg import FILM, FREE, SPORT, SUPER_CAS_ID, RunningEcmg, running_ecmg
from tests.support.scrambler import section_in

pytestmark = pytest.mark.integration


class Simulator:
    """The package's SCS simulator as a process, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.printed: list[str] = []
        self._process = process

    async def until(self, text: str, times: int = 1) -> None:
        """Wait until it has printed this so often."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while sum(text in line for line in self.printed) < times:
                line = await self._process.stdout.readline()
                assert line, self.printed
                self.printed.append(line.decode())

    def heard(self) -> list[str]:
        """The types of the messages that it got."""
        return [line.split()[3] for line in self.printed if "SCS <= ECMG" in line]


@asynccontextmanager
async def simulator(ecmg: RunningEcmg, *options: str) -> AsyncIterator[Simulator]:
    """Run the simulator as a client of our ECMG."""
    command = [str(Path(sys.executable).with_name("scs")), f"0x{SUPER_CAS_ID:08x}", "-s", "127.0.0.1"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "-p",
        str(ecmg.port),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield Simulator(process)
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("more", [[], ["-128"]], ids=["words of 8", "words of 16"])
@pytest.mark.parametrize("mode", ["section", "packet"])
async def test_its_simulator_is_served(mode: str, more: list[str]) -> None:
    async with (
        running_ecmg(mode=mode) as ecmg,
        simulator(ecmg, "-a", SPORT.hex(), "-a", FILM.hex(), *more) as scs,
    ):
        await scs.until("ECM_RESPONSE", times=6)
        assert scs.heard()[0] == "CHANNEL_STATUS"
        assert sorted(scs.heard()[1:3]) == ["STREAM_STATUS", "STREAM_STATUS"]
        assert set(scs.heard()[3:]) == {"ECM_RESPONSE"}
        assert not [line for line in scs.printed if "error" in line.lower() or "invalid" in line.lower()]
        assert ecmg.server.facts()["streams"] == 2
        assert ecmg.trouble() == {}


async def test_its_simulator_answers_our_tests() -> None:
    async with running_ecmg(test_interval_s=1, min_cp_duration_s=60) as ecmg, simulator(ecmg, "-a", SPORT.hex()) as scs:
        await scs.until("CHANNEL_TEST", times=2)
        assert ecmg.server.connections == 1


async def test_its_simulator_understands_what_is_refused() -> None:
    async with running_ecmg() as ecmg, simulator(ecmg, "-a", FREE.hex()) as scs:
        await scs.until("STREAM_ERROR")
        await scs.until("STREAM_CLOSE_RESPONSE")
        assert "in no product" in ecmg.trouble()["local"]


class PackageScrambler:
    """A scrambler whose every message is spelled, and every answer judged, by the package."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self._reader = reader
        self._writer = writer
        self._version = version

    async def ask(self, kind: int, **parameters: Any) -> SimulcryptMessage:
        self._writer.write(SimulcryptMessage(type=kind, version=self._version, ECM_channel_id=1, **parameters).data)
        head = await self._reader.readexactly(5)
        answer = SimulcryptMessage(head + await self._reader.readexactly(int.from_bytes(head[3:], "big")))
        assert answer.is_valid, answer.error_message
        assert answer.version == self._version
        return answer


@pytest.mark.parametrize("mode", ["section", "packet"])
@pytest.mark.parametrize("version", [2, 3, 4, 5])
async def test_it_drives_the_ecmg_and_finds_every_answer_valid(version: int, mode: str) -> None:
    spec = SimulcryptSpecification
    async with running_ecmg(mode=mode, versions=[2, 3, 4, 5]) as ecmg:
        scs = PackageScrambler(*await asyncio.open_connection("127.0.0.1", ecmg.port), version)
        status = await scs.ask(spec.ECMG_CHANNEL_SETUP, super_CAS_id=SUPER_CAS_ID)
        assert (status.type, status.lead_CW, status.CW_per_msg) == (spec.ECMG_CHANNEL_STATUS, 1, 2)
        assert (await scs.ask(spec.ECMG_CHANNEL_TEST)).type == spec.ECMG_CHANNEL_STATUS
        stream: dict[str, Any] = {"ECM_stream_id": 4}
        status = await scs.ask(spec.ECMG_STREAM_SETUP, **stream, ECM_id=9, nominal_CP_duration=100)
        assert (status.type, status.ECM_id) == (spec.ECMG_STREAM_STATUS, 9)
        assert (await scs.ask(spec.ECMG_STREAM_TEST, **stream)).type == spec.ECMG_STREAM_STATUS
        words = [b"word-1-1", b"word-2-2"]
        combinations = [(7 + number).to_bytes(2, "big") + word for number, word in enumerate(words)]
        order = {**stream, "CP_number": 7, "CP_CW_combination": combinations}
        answer = await scs.ask(spec.CW_PROVISION, **order, access_criteria=SPORT)
        assert (answer.type, answer.CP_number) == (spec.ECM_RESPONSE, 7)
        ecm = parse_ecm(section_in(answer.ECM_datagram) if mode == "packet" else answer.ECM_datagram)
        assert list(open_ecm(ecm, 1, LADDER.product_key(1, ecm.header.epoch))) == words
        refused = await scs.ask(spec.CW_PROVISION, **order, access_criteria=FREE)
        assert (refused.type, refused.error_status) == (spec.ECMG_STREAM_ERROR, 0x11)
        assert (await scs.ask(spec.ECMG_STREAM_CLOSE_REQUEST, **stream)).type == spec.ECMG_STREAM_CLOSE_RESPONSE
        assert (await scs.ask(spec.CW_PROVISION, **order, access_criteria=SPORT)).error_status == 7
        scs._writer.transport.abort()
