"""The multiplexer link against the strict multiplexer: it gets through, keeps on, obeys, and says what is wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import structlog

from cad.air.muxes import Allocation, LinkDownError, LinkEvent, LinkLost, LinkUp, MuxLink
from cad.frame.clock import SystemClock
from config.outlets import MultiplexSettings
from protocol.errors import EncodeError
from tests.support import multiplexer_grammar as grammar
from tests.support.multiplexer import StrictMultiplexer

SECTION = b"\x82\x70\x3d" + bytes(61)
SET_UP = [grammar.CHANNEL_SETUP, grammar.STREAM_SETUP, grammar.BW_REQUEST]
CA_SYSTEM_ID = 0x4AE6


def settings(mux: StrictMultiplexer, **changes: object) -> MultiplexSettings:
    """A multiplex that is the strict multiplexer, impatient for tests."""
    usual = {
        "id": "mux-1",
        "host": mux.host,
        "port": mux.port,
        "client_id": CA_SYSTEM_ID << 16,
        "answer_timeout_s": 0.4,
    }
    return MultiplexSettings.model_validate(usual | changes)


class Running:
    """A link that runs, and all that it told."""

    def __init__(self, link: MuxLink, task: asyncio.Task[None]) -> None:
        self.link = link
        self.task = task
        self.events: list[LinkEvent] = []
        link.subscribe(self.events.append)

    def lost(self) -> list[str]:
        """The reasons of all losses so far."""
        return [event.reason for event in self.events if isinstance(event, LinkLost)]


@asynccontextmanager
async def running(mux: StrictMultiplexer, **changes: object) -> AsyncIterator[Running]:
    """Run a link to the multiplexer; at the end it is cancelled."""
    link = MuxLink(settings(mux, **changes), CA_SYSTEM_ID, SystemClock(), jitter=lambda: 0.0)
    task = asyncio.create_task(link.run())
    try:
        yield Running(link, task)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ready(link: MuxLink) -> None:
    """Wait for the link, not for ever."""
    async with asyncio.timeout(10):
        await link.wait_ready()


async def flood(link: MuxLink) -> None:
    """Send more than all buffers on the way can hold."""
    for _ in range(200):
        await link.send([SECTION] * 1000)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
async def test_sections_arrive_in_order_and_the_close_is_polite(version: int) -> None:
    sections = [b"\x82\x70\x03" + number.to_bytes(3, "big") for number in range(100)]
    async with StrictMultiplexer(100) as mux, running(mux, protocol_version=version) as run:
        await ready(run.link)
        assert run.link.allocated_bps == 100_000
        assert run.link.since is not None
        await run.link.send(sections)
        await mux.until(lambda: len(mux.sections) == 100)
        assert mux.sections == sections
        async with asyncio.timeout(5):
            await run.link.close()
            await run.task
        assert mux.types() == [*SET_UP, grammar.CLOSE_REQUEST, grammar.CHANNEL_CLOSE]
        assert mux.faults == []
        assert run.events == [LinkUp(reconnected=False), Allocation(100_000), LinkLost("closed by us")]
        with pytest.raises(LinkDownError, match="mux-1"):
            await run.link.send(sections)


async def test_messages_keep_to_the_limits_of_the_settings() -> None:
    async with StrictMultiplexer() as mux, running(mux, datagrams_per_message=3, message_bytes_max=512) as run:
        await ready(run.link)
        await run.link.send([SECTION] * 10)
        await mux.until(lambda: len(mux.sections) == 10)
        by_message = [
            sum(one.message == number for one in mux.arrivals) for number in {a.message for a in mux.arrivals}
        ]
        assert sorted(by_message) == [1, 3, 3, 3]


async def test_packet_mode_carries_ts_packets_and_nothing_else() -> None:
    packets = (b"\x47\x1f\xff\x10" + bytes(184)) * 3
    async with StrictMultiplexer() as mux, running(mux, mode="packet") as run:
        await ready(run.link)
        await run.link.send([packets, packets])
        with pytest.raises(EncodeError):
            await run.link.send([SECTION])
        await mux.until(lambda: mux.sections == [packets, packets])
        assert mux.faults == []


async def test_data_over_udp_goes_beside_the_tcp_connection() -> None:
    async with StrictMultiplexer() as mux, running(mux, transport="udp", udp_port=mux.udp_port) as run:
        await ready(run.link)
        await run.link.send([SECTION] * 20)
        await mux.until(lambda: len(mux.sections) == 20)
        assert {arrival.over for arrival in mux.arrivals} == {"udp"}
        assert mux.types() == SET_UP
        assert mux.faults == []


async def test_a_udp_port_where_nobody_listens_takes_the_link_down() -> None:
    async with StrictMultiplexer() as mux, StrictMultiplexer() as closed:
        await closed.stop()
        async with running(mux, transport="udp", udp_port=closed.udp_port) as run:
            await ready(run.link)
            await run.link.send([SECTION])
            await mux.until(lambda: run.lost())
            assert "UDP does not get through" in run.lost()[0]


async def test_fragmented_answers_with_user_parameters_are_understood() -> None:
    async with StrictMultiplexer() as mux, running(mux, answer_timeout_s=5) as run:
        mux.misbehave.fragment_s = 0.0005
        mux.misbehave.user_parameters = True
        await ready(run.link)
        await run.link.send([SECTION])
        await mux.until(lambda: mux.sections)
        assert run.lost() == []


async def test_after_a_cut_it_comes_back_and_says_so() -> None:
    async with StrictMultiplexer() as mux, running(mux) as run:
        await ready(run.link)
        mux.drop()
        await mux.until(lambda: mux.connections == 2 and run.link.ready)
        assert [type(event) for event in run.events] == [LinkUp, Allocation, LinkLost, LinkUp, Allocation]
        assert run.events[3] == LinkUp(reconnected=True)
        assert mux.purged == 2
        assert mux.types(connection=2) == SET_UP


@pytest.mark.slow
async def test_a_multiplexer_that_is_switched_off_is_found_again() -> None:
    async with StrictMultiplexer() as mux, running(mux) as run:
        await ready(run.link)
        await mux.stop()
        await mux.until(lambda: any("cannot connect" in reason for reason in run.lost()))
        assert not run.link.ready
        assert run.link.allocated_bps == 0
        await mux.listen()
        await ready(run.link)


async def test_the_allocation_is_obeyed_at_once_and_at_any_time() -> None:
    async with StrictMultiplexer(70) as mux, running(mux, bandwidth_kbps=200) as run:
        await ready(run.link)
        assert run.link.allocated_bps == 70_000
        mux.allocate(30)
        await mux.until(lambda: run.link.allocated_bps == 30_000)
        mux.allocate(0)
        await mux.until(lambda: not run.link.ready)
        with pytest.raises(LinkDownError):
            await run.link.send([SECTION])
        mux.allocate(90)
        await ready(run.link)
        assert [event for event in run.events if not isinstance(event, Allocation)] == [LinkUp(reconnected=False)]
        assert [event.bps for event in run.events if isinstance(event, Allocation)] == [70_000, 30_000, 0, 90_000]


async def test_an_allocation_without_a_figure_is_taken_for_what_was_asked() -> None:
    async with StrictMultiplexer(1000) as mux, running(mux, bandwidth_kbps=64) as run:
        mux.misbehave.allocation_lacks_bandwidth = True
        await ready(run.link)
        assert run.link.allocated_bps == 64_000


async def test_a_refused_version_is_followed_by_the_multiplexers_own() -> None:
    with structlog.testing.capture_logs() as logs:
        async with StrictMultiplexer(versions=(3,)) as mux, running(mux, protocol_version=2) as run:
            await ready(run.link)
            assert mux.types() == SET_UP
            mux.drop()
            await mux.until(lambda: mux.connections == 2 and run.link.ready)
            assert mux.faults == ["message 0x0011: error_status 0x0002"]
    assert [line["advice"] for line in logs if "refused" in line] == ["set protocol_version = 3 for this multiplex"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SET_UP)
async def test_silence_is_given_up_and_tried_again(kind: int) -> None:
    async with StrictMultiplexer() as mux, running(mux) as run:
        mux.misbehave.silent_to = {kind}
        await mux.until(lambda: run.lost())
        assert "within 0.4 s" in run.lost()[0]
        mux.misbehave.silent_to = set()
        await ready(run.link)


@pytest.mark.slow
async def test_a_second_client_hangs_and_gives_up_without_harm_to_the_first() -> None:
    async with StrictMultiplexer() as mux, running(mux) as first:
        await ready(first.link)
        async with running(mux) as second:
            await mux.until(lambda: second.lost())
            assert "no channel_status" in second.lost()[0]
            assert first.lost() == []
            # The spare node gets in by itself as soon as the first is gone, and begins with an empty queue.
            await first.link.close()
            await ready(second.link)
            await second.link.send([SECTION])
            await mux.until(lambda: mux.sections == [SECTION])
            assert mux.faults == []


async def test_a_multiplexer_that_takes_everybody_sends_both_which_only_the_manual_can_forbid() -> None:
    async with StrictMultiplexer(100) as mux:
        mux.misbehave.take_everybody = True
        async with running(mux) as first, running(mux) as second:
            await ready(first.link)
            await ready(second.link)
            await first.link.send([SECTION])
            await second.link.send([SECTION])
            await mux.until(lambda: len(mux.sections) == 2)
            assert {arrival.connection for arrival in mux.arrivals} == {1, 2}
            assert first.link.allocated_bps == second.link.allocated_bps == 100_000


@pytest.mark.slow
async def test_the_connection_is_tested_and_the_multiplexers_tests_are_answered() -> None:
    async with StrictMultiplexer() as mux, running(mux, test_interval_s=1) as run:
        await ready(run.link)
        mux.test()
        await mux.until(lambda: mux.types()[3:] == [grammar.CHANNEL_STATUS, grammar.STREAM_STATUS])
        await mux.until(lambda: mux.types()[5:] == [grammar.CHANNEL_TEST, grammar.STREAM_TEST])
        mux.misbehave.silent = True
        await mux.until(lambda: run.lost())
        assert "no channel_status" in run.lost()[0]


@pytest.mark.slow
async def test_a_multiplexer_that_takes_no_data_is_given_up() -> None:
    async with StrictMultiplexer() as mux, running(mux, message_bytes_max=65_540, datagrams_per_message=200) as run:
        await ready(run.link)
        mux.misbehave.deaf = True
        with pytest.raises(LinkDownError, match="takes no more data"):
            await flood(run.link)
        assert not run.link.ready


@pytest.mark.parametrize("error_status", [0x0E, 0x14, 0x7001])
async def test_an_error_is_logged_with_what_to_do(error_status: int) -> None:
    with structlog.testing.capture_logs() as logs:
        async with StrictMultiplexer() as mux, running(mux) as run:
            mux.misbehave.fail_with = {grammar.CHANNEL_SETUP: error_status}
            await mux.until(lambda: len(run.lost()) > 1)
            assert f"0x{error_status:04X}" in (run.link.last_error or "")
    down = [line for line in logs if line["event"] == "multiplexer link down"]
    assert len(down) == 1
    assert down[0]["advice"]
    assert down[0]["multiplex"] == "mux-1"


async def test_an_unreadable_message_is_told_to_the_multiplexer() -> None:
    async with StrictMultiplexer() as mux, running(mux) as run:
        await ready(run.link)
        mux.say(bytes.fromhex("02 0999 0000"))
        await mux.until(lambda: mux.errors_received)
        assert mux.errors_received == [0x0003]
        assert run.lost() == []


async def test_what_a_subscriber_raises_reaches_the_owner_of_the_task() -> None:
    async with StrictMultiplexer() as mux, running(mux) as run:

        def broken(event: LinkEvent) -> None:
            if isinstance(event, Allocation):
                raise ValueError("subscriber is broken")

        run.link.subscribe(broken)
        with pytest.raises(ValueError, match="subscriber is broken"):
            await asyncio.wait_for(run.task, 5)
        await mux.until(lambda: grammar.CHANNEL_CLOSE in mux.types())


async def test_cancelled_it_says_goodbye() -> None:
    async with StrictMultiplexer() as mux:
        async with running(mux) as run:
            await ready(run.link)
        await mux.until(lambda: mux.types() == [*SET_UP, grammar.CLOSE_REQUEST, grammar.CHANNEL_CLOSE])
        assert mux.faults == []


async def test_close_before_it_was_ever_up_and_without_run() -> None:
    async with StrictMultiplexer() as mux:
        mux.misbehave.refuse_connections = True
        async with running(mux) as run:
            await mux.until(lambda: run.lost())
            async with asyncio.timeout(3):
                await run.link.close()
        async with asyncio.timeout(3):
            await MuxLink(settings(mux), CA_SYSTEM_ID, SystemClock()).close()


async def test_the_pause_between_attempts_grows_and_is_spread() -> None:
    async with StrictMultiplexer() as mux:
        pauses = []
        for jitter in (0.0, 1.0):
            link = MuxLink(settings(mux), CA_SYSTEM_ID, SystemClock(), jitter=lambda jitter=jitter: jitter)
            pauses.append([link._pause() for _ in range(8)])
        assert pauses[0] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
        assert pauses[1] == [0.5, 1, 2, 4, 8, 16, 30, 30]


async def test_a_client_id_without_the_ca_system_id_is_pointed_out() -> None:
    async with StrictMultiplexer() as mux:
        with structlog.testing.capture_logs() as logs:
            MuxLink(settings(mux, client_id=1), CA_SYSTEM_ID, SystemClock())
    assert [line["ca_system_id"] for line in logs] == ["0x4AE6"]


async def test_a_wrong_client_id_is_refused_by_name() -> None:
    async with StrictMultiplexer(client_id=0x11110000) as mux, running(mux) as run:
        await mux.until(lambda: run.lost())
        assert "inv_client_id" in run.lost()[0]
