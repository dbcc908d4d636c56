"""The independent `simulcrypt` package accepts every message of ours, and its MUX simulator serves our link."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulcrypt import SimulcryptMessage

from cad.air.muxes import Allocation, LinkUp, MuxLink
from cad.frame.clock import SystemClock
from config.outlets import MultiplexSettings
from protocol.simulcrypt.ecmg_scs import ECMG_SCS
from protocol.simulcrypt.emmg_mux import EMMG_MUX, DataForm, DataProvision
from protocol.simulcrypt.provision import ProvisionFramer
from protocol.simulcrypt.schema import Interface, Message
from tests.support.simulcrypt_strategies import messages

pytestmark = pytest.mark.integration

CLIENT_ID = 0x4AE60001
SECTION = b"\x82\x70\x3d" + bytes(61)


def known_to_the_package(drawn: tuple[Message, int]) -> bool:
    """The package has no parameters without a value, and wants a control word in each CW_provision.

    In version 1 it refuses data_id, which we only tolerate.
    """
    message, version = drawn
    given_values = [getattr(message, use.field) for use in message.uses]
    empty = any(value == b"" or (isinstance(value, tuple) and b"" in value) for value in given_values)
    ordered = getattr(message, "cp_cw_combination", True)
    return not empty and bool(ordered) and (version > 1 or getattr(message, "data_id", None) is None)


@pytest.mark.parametrize("interface", [EMMG_MUX, ECMG_SCS], ids=lambda interface: interface.name)
@given(data=st.data())
def test_every_message_of_ours_is_valid_and_means_the_same(interface: Interface, data: st.DataObject) -> None:
    message, version = data.draw(messages(interface).filter(known_to_the_package))
    theirs = SimulcryptMessage(interface.encode(message, version))
    assert theirs.is_valid, theirs.error_message
    assert (theirs.version, theirs.type, theirs.leftover) == (version, message.message_type, b"")
    for use in message.uses:
        own = getattr(message, use.field)
        if own in (None, ()):
            continue
        values = [parameter.value for parameter in theirs.parameters if parameter.type == use.parameter.parameter_type]
        expected = own if use.at_most > 1 else (own,)
        assert [use.parameter.read(value) for value in values] == list(expected)


@given(st.lists(st.integers(0, 253), min_size=1, max_size=40), st.integers(1, 5))
def test_the_fast_framing_is_valid_too(sizes: list[int], version: int) -> None:
    sections = [bytes([0x82, 0x70, size]) + bytes(size) for size in sizes]
    data_id = None if version == 1 else 4
    stream = DataProvision(client_id=1 << 16, data_channel_id=2, data_stream_id=3, data_id=data_id, datagram=(b"",))
    carried: list[bytes] = []
    for framed in ProvisionFramer(stream, version, DataForm.SECTION, 7, 4096).messages(sections):
        theirs = SimulcryptMessage(framed)
        assert theirs.is_valid, theirs.error_message
        carried += [parameter.value for parameter in theirs.parameters if parameter.name == "datagram"]
    assert carried == sections


class Simulator:
    """The package's MUX simulator as a process, and what it has printed."""

    def __init__(self, port: int, process: asyncio.subprocess.Process) -> None:
        self.port = port
        self.printed: list[str] = []
        self._process = process

    async def until(self, text: str) -> None:
        """Wait until it prints this."""
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while not any(text in line for line in self.printed):
                line = await self._process.stdout.readline()
                assert line, self.printed
                self.printed.append(line.decode())


@asynccontextmanager
async def simulator(kbps: int, version: int) -> AsyncIterator[Simulator]:
    """Run the simulator on a free port. 0 = it takes the version of the client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mux")), f"0x{CLIENT_ID:08x}", "-p", str(port), "-b", str(kbps), "-d"]
    command += ["--channel_id", "5", "--stream_id", "6", "--data_id", "7", *(["-v", str(version)] if version else [])]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        running = Simulator(port, process)
        await running.until("listening")
        yield running
    finally:
        process.kill()
        await process.communicate()


def link_to(port: int, version: int) -> MuxLink:
    """A link to the simulator."""
    multiplex = MultiplexSettings(
        id="m",
        host="127.0.0.1",
        port=port,
        client_id=CLIENT_ID,
        data_channel_id=5,
        data_stream_id=6,
        data_id=7,
        protocol_version=version,
        test_interval_s=1,
        bandwidth_kbps=200,
    )
    return MuxLink(multiplex, CLIENT_ID >> 16, SystemClock(), jitter=lambda: 0.0)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_the_mux_simulator_serves_our_link(version: int) -> None:
    async with simulator(64, 0) as mux, asyncio.timeout(30):
        link = link_to(mux.port, version)
        events: list[object] = []
        link.subscribe(events.append)
        task = asyncio.create_task(link.run())
        await link.wait_ready()
        assert events == [LinkUp(reconnected=False), Allocation(64_000)]
        await link.send([SECTION] * 3)
        await mux.until("DATA_PROVISION")
        await mux.until("STREAM_TEST")
        await mux.until("STREAM_STATUS")
        await link.close()
        await task
        await mux.until("closed per request")
        said = [line.split()[3] for line in mux.printed if "MUX <= EMMG" in line]
        assert said[:4] == ["CHANNEL_SETUP", "STREAM_SETUP", "STREAM_BW_REQUEST", "DATA_PROVISION"]
        assert said[-2:] == ["STREAM_CLOSE_REQUEST", "CHANNEL_CLOSE"]
        assert not [line for line in mux.printed if "ERROR" in line or "invalid" in line]


async def test_the_mux_simulator_makes_our_link_fall_back_to_its_version() -> None:
    async with simulator(64, 3) as mux, asyncio.timeout(30):
        link = link_to(mux.port, 2)
        task = asyncio.create_task(link.run())
        await link.wait_ready()
        await link.close()
        await task
        await mux.until("closed per request")
