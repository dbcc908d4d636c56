"""The demo multiplexer over real sockets: EMMGs in every mode, grants, rude peers, and where the stream goes."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cad.demo.multiplexer import DemoMultiplexer
from cad.demo.outputs import FileOutput, Subscription, UdpOutput
from cad.demo.stream import StreamPlan
from cad.errors import ListenError
from cad.frame.clock import SystemClock
from protocol.mpegts.packet import PACKET_SIZE, Packing, SectionPacketizer, packet_pid, split_packets
from protocol.simulcrypt.emmg_mux import DataForm
from tests.support.demo_multiplexer import CA, EMM_PID, Running, emms, multiplexer_running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with multiplexer_running(StreamPlan(CA, EMM_PID), bandwidth_kbps=1000) as running:
        yield running


@pytest.mark.parametrize("version", [1, 2, 5])
async def test_sections_over_tcp_come_out_on_the_emm_pid(running: Running, version: int) -> None:
    client = await running.emmg(protocol_version=version)
    sent = emms(50)
    await client.send(sent)
    assert await running.receive(50) == sent


async def test_sections_over_udp(running: Running) -> None:
    client = await running.emmg(data_over_udp=True)
    sent = emms(30)
    await client.send(sent)
    assert await running.receive(30) == sent


@pytest.mark.parametrize("packing", Packing)
async def test_packets_get_the_pid_of_the_stream(running: Running, packing: Packing) -> None:
    client = await running.emmg(form=DataForm.TS_PACKET)
    packer, sent = SectionPacketizer(0x1234, packing, 5), emms(30)
    await client.send([packet for section in sent for packet in packer.push(section)] + packer.flush())
    assert await running.receive(30) == sent


async def test_two_emmgs_with_sections_share_the_pid(running: Running) -> None:
    first, second = await running.emmg(), await running.emmg(data_channel_id=2)
    await asyncio.gather(first.send(emms(20, seed=1)), second.send(emms(20, seed=2)))
    assert sorted(await running.receive(40)) == sorted(emms(20, seed=1) + emms(20, seed=2))
    assert running.multiplexer.composer.emm_rate_bps == 1_000_000


async def test_who_brings_packets_must_be_alone(running: Running) -> None:
    first = await running.emmg()
    with pytest.raises(AssertionError, match="hung up"):
        await running.emmg(data_channel_id=2, form=DataForm.TS_PACKET)
    await first.send(emms(5))
    assert await running.receive(5) == emms(5)


async def test_less_is_granted_and_changed_and_given_back(running: Running) -> None:
    client = await running.emmg(bandwidth_kbps=3000)
    assert client.session.allocated_kbps == 1000
    (connection,) = running.multiplexer.connections
    connection.allocate(200)
    await client.exchange()
    assert client.session.allocated_kbps == 200
    assert running.multiplexer.composer.emm_rate_bps == 200_000
    await client.close()
    await until(lambda: running.multiplexer.composer.emm_rate_bps == 0)


async def test_the_multiplexer_tests_its_emmgs(running: Running) -> None:
    client = await running.emmg()
    (connection,) = running.multiplexer.connections
    connection.test()
    await client.exchange()
    await client.send(emms(1))
    assert await running.receive(1) == emms(1)


async def test_an_emmg_that_connects_anew_takes_the_place_of_its_old_connection(running: Running) -> None:
    old = await running.emmg()
    new = await running.emmg()
    assert await old.hung_up()
    await new.send(emms(3))
    assert await running.receive(3) == emms(3)


@pytest.mark.parametrize(
    ("form", "datagram"),
    [(DataForm.SECTION, b"\x82\x70\x05abc"), (DataForm.SECTION, b"\x82"), (DataForm.TS_PACKET, bytes(188))],
)
async def test_data_that_is_not_what_was_announced_ends_the_connection(
    running: Running, form: DataForm, datagram: bytes
) -> None:
    client = await running.emmg(form=form)
    message = client.session.provision([b"\x82\x70\x00" if form is DataForm.SECTION else b"\x47".ljust(188, b"\0")])[0]
    size = 3 if form is DataForm.SECTION else 188
    head = bytearray(message[:-size])
    head[-2:] = len(datagram).to_bytes(2, "big")
    head[3:5] = (len(head) + len(datagram) - 5).to_bytes(2, "big")
    client.writer.write(bytes(head) + datagram)
    assert await client.hung_up()
    again = await running.emmg()
    await again.send(emms(2))
    assert await running.receive(2) == emms(2)


async def test_garbage_ends_only_its_own_connection(running: Running) -> None:
    client = await running.emmg()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"\x02\xff\xff\x00\x00" * 3)
    async with asyncio.timeout(5):
        while await reader.read(4096):
            pass
    writer.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"\xff" * 100, ("127.0.0.1", running.port))
    await client.send(emms(4))
    assert await running.receive(4) == emms(4)


async def test_a_port_in_use_is_named(running: Running) -> None:
    other = DemoMultiplexer(StreamPlan(CA, EMM_PID), SystemClock(), 100)
    with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{running.port}.*choose another port"):
        await other.start(port=running.port)


async def test_the_stream_goes_into_a_file_and_over_udp(running: Running, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        file = FileOutput(tmp_path / "demo.ts")
        udp = UdpOutput("127.0.0.1", listener.getsockname()[1])
        running.multiplexer.add_output(file)
        running.multiplexer.add_output(udp)
        client = await running.emmg()
        await client.send(emms(5))
        await running.receive(5)
        running.multiplexer.remove_output(file)
        running.multiplexer.remove_output(udp)
        datagram = listener.recv(2000)
    assert len(datagram) == 7 * PACKET_SIZE
    packets = split_packets((tmp_path / "demo.ts").read_bytes())
    assert packets[:7] == split_packets(datagram)
    assert EMM_PID in map(packet_pid, packets)


async def test_a_slow_subscriber_loses_the_oldest_and_finds_the_end() -> None:
    subscription = Subscription(queue_max=3)
    for number in range(5):
        subscription.write(bytes([number]) * PACKET_SIZE)
    assert subscription.lost == 2
    subscription.close()
    read: list[bytes] = [await subscription.read() for _ in range(3)]
    assert read == [b"\x03" * PACKET_SIZE, b"\x04" * PACKET_SIZE, b""]


async def test_a_hook_hears_what_arrives(running: Running) -> None:
    heard: list[bytes] = []
    running.multiplexer.on_datagrams = heard.extend
    await (await running.emmg()).send(emms(3))
    await running.receive(3)
    assert heard == emms(3)
