"""Stream links on real sockets: what is handed over is received; the network's errors take the link down and up."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from cad.air.links import link_to
from cad.air.muxes import Allocation, LinkDownError, LinkEvent, LinkLost, LinkUp, MuxLink
from cad.frame.clock import SystemClock
from cad.ts_out.link import StreamLink
from config.outlets import MultiplexSettings, StreamSettings
from protocol import rtp
from protocol.mpegts.packet import CAT_PID, NULL_PID, PAT_PID
from protocol.mpegts.section import ShortSection, build_section
from tests.support.ts_listening import Heard, UdpListener

CA, EMM_PID = 0x4ADC, 0x1F0
GROUP = "239.255.77.1"


def emm(number: int, size: int = 100) -> bytes:
    return build_section(ShortSection(0x82, number.to_bytes(4, "big").rjust(size - 3, b"\x11")))


def stream(port: int, **changes: object) -> StreamSettings:
    fields = {"id": "s-1", "host": "127.0.0.1", "port": port, "bandwidth_kbps": 500} | changes
    return StreamSettings.model_validate(fields)


class Running:
    def __init__(self, link: StreamLink) -> None:
        self.link = link
        self.events: list[LinkEvent] = []
        link.subscribe(self.events.append)

    async def ready(self) -> None:
        async with asyncio.timeout(5):
            await self.link.wait_ready()

    async def until(self, condition: object) -> None:
        async with asyncio.timeout(5):
            while not condition():  # type: ignore[operator]
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: StreamSettings) -> AsyncIterator[Running]:
    found = Running(StreamLink(settings, CA, SystemClock(), random=lambda: 0.5))
    task = asyncio.create_task(found.link.run())
    try:
        yield found
    finally:
        await found.link.close()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def listener():  # type: ignore[no-untyped-def]
    made = UdpListener()
    yield made
    made.close()


@pytest.mark.slow
async def test_what_is_handed_over_is_received_in_order(listener: UdpListener) -> None:
    sent = [emm(number, 20 + number % 230) for number in range(150)]
    async with running(stream(listener.port)) as at:
        assert not at.link.ready
        with pytest.raises(LinkDownError, match="stream s-1 is not sent: not opened yet"):
            await at.link.send([emm(1)])
        await at.ready()
        assert at.events == [LinkUp(reconnected=False), Allocation(500_000)]
        assert at.link.allocated_bps == 500_000
        for first in range(0, 150, 10):
            await at.link.send(sent[first : first + 10])
        await at.link.close()
    heard = Heard(listener.take())
    assert heard.sections(EMM_PID) == sent, "what waited at the end has gone out too"
    assert {CAT_PID, PAT_PID, NULL_PID} <= set(heard.packets)
    assert heard.busiest_second(EMM_PID) <= 500_000
    assert at.events[-1] == LinkLost("closed by us")
    assert not at.link.ready


@pytest.mark.slow
async def test_a_sender_that_is_too_quick_waits(listener: UdpListener) -> None:
    async with running(stream(listener.port, bandwidth_kbps=50, null_packets=False)) as at:
        await at.ready()
        began = asyncio.get_running_loop().time()
        await at.link.send([emm(number) for number in range(60)])
        assert 0.5 < asyncio.get_running_loop().time() - began < 3


@pytest.mark.slow
async def test_rtp_to_a_group_counts_and_stamps() -> None:
    listener = UdpListener(GROUP)
    settings = stream(listener.port, host=GROUP, interface="127.0.0.1", protocol="rtp", dscp=34)
    try:
        async with running(settings) as at:
            await at.ready()
            await at.link.send([emm(1), emm(2)])
            await asyncio.sleep(0.3)
        came = [(at_time, *rtp.parse(datagram)) for at_time, datagram in listener.take()]
    finally:
        listener.close()
    assert Heard((at_time, payload) for at_time, _, payload in came).sections(EMM_PID) == [emm(1), emm(2)]
    headers = [header for _, header, _ in came]
    assert [header.sequence_number for header in headers] == [
        (headers[0].sequence_number + number) & 0xFFFF for number in range(len(headers))
    ]
    assert len({header.ssrc for header in headers}) == 1
    assert [header.marker for header in headers] == [True] + [False] * (len(headers) - 1)
    elapsed = (headers[-1].timestamp - headers[0].timestamp) % (1 << 32) / rtp.CLOCK_HZ
    assert elapsed == pytest.approx(came[-1][0] - came[0][0], abs=0.05)


async def test_several_streams_do_not_disturb_each_other() -> None:
    listeners = [UdpListener(f"239.255.77.{number}") for number in (2, 3, 4)]
    try:
        links = []
        for number, listener in enumerate(listeners, start=2):
            settings = stream(listener.port, id=f"s-{number}", host=f"239.255.77.{number}", interface="lo")
            links.append(running(settings))
        async with links[0] as one, links[1] as two, links[2] as three:
            for number, at in enumerate((one, two, three)):
                await at.ready()
                await at.link.send([emm(number)])
        for number, listener in enumerate(listeners):
            heard = Heard(listener.take())
            assert heard.sections(EMM_PID) == [emm(number)]
            assert heard.jumps(EMM_PID) == heard.jumps(CAT_PID) == 0
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.slow
async def test_a_receiver_that_goes_takes_the_link_down_and_one_that_comes_finds_counting_gone_on(
    listener: UdpListener,
) -> None:
    async with running(stream(listener.port)) as at:
        await at.ready()
        await at.link.send([emm(1)])
        await asyncio.sleep(0.1)
        first = listener.take()
        listener.close()
        await at.until(lambda: not at.link.ready)
        assert at.link.last_error == f"nobody listens at 127.0.0.1:{listener.port}"
        assert at.link.allocated_bps == 0
        assert at.events[-1] == LinkLost(at.link.last_error)
        with pytest.raises(LinkDownError, match="nobody listens"):
            await at.link.send([emm(2)])
        again = UdpListener(port=listener.port)
        try:
            await at.ready()
            assert at.events[-2:] == [LinkUp(reconnected=True), Allocation(500_000)]
            await at.link.send([emm(3)])
            await asyncio.sleep(0.1)
            second = again.take()
        finally:
            again.close()
    heard = Heard(first + second)
    assert heard.sections(EMM_PID)[0] == emm(1)
    assert heard.sections(EMM_PID)[-1] == emm(3)
    assert heard.jumps(EMM_PID) == 0, "nothing went out on the EMM PID meanwhile"
    assert not any(packet.discontinuity for _, packet in heard.packets[EMM_PID][1:])


async def test_a_receiver_that_was_never_there_is_named_and_costs_no_emm() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with running(stream(port)) as at:
        await at.until(lambda: at.link.last_error)
        assert at.events == [LinkLost(f"nobody listens at 127.0.0.1:{port}")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "receiver.invalid"}, "the name receiver.invalid is not known"),
        ({"host": GROUP, "interface": "nowhere0"}, f"cannot send to {GROUP}:5000: "),
        ({"host": "255.255.255.255"}, "cannot send to 255.255.255.255:5000: Permission denied"),
    ],
)
async def test_what_the_machine_refuses_is_said(changes: dict[str, object], words: str) -> None:
    async with running(stream(5000, **changes)) as at:
        await at.until(lambda: at.link.last_error)
        assert at.link.last_error is not None
        assert at.link.last_error.startswith(words)


@pytest.mark.slow
async def test_waiting_senders_are_told_when_the_link_goes_down(listener: UdpListener) -> None:
    async with running(stream(listener.port, bandwidth_kbps=10)) as at:
        await at.ready()
        sending = asyncio.create_task(at.link.send([emm(number) for number in range(200)]))
        await asyncio.sleep(0.05)
        assert not sending.done()
        listener.close()
        with pytest.raises(LinkDownError, match="nobody listens"):
            await sending


def test_the_settings_say_which_link_it_is() -> None:
    clock = SystemClock()
    mux = MultiplexSettings.model_validate({"id": "m", "host": "h", "port": 1, "client_id": CA << 16})
    assert isinstance(link_to(mux, CA, clock), MuxLink)
    assert isinstance(link_to(stream(1), CA, clock), StreamLink)
