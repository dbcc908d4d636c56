"""Main and standby multiplexer of one stream: when it changes over, when it comes back, what it tells."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from cad.air.links import link_to, tasks_of
from cad.air.mux_pair import MAIN, STANDBY, MuxPair, SwitchRefusedError
from cad.air.muxes import Allocation, ChangedOver, LinkDownError, LinkEvent, LinkLost, LinkUp
from cad.frame.clock import SystemClock
from tests.support import multiplexer_grammar as grammar
from tests.support.eventually import eventually
from tests.support.multiplexer_pair import TwoMultiplexers, two_multiplexers

SECTION = b"\x82\x70\x3d" + bytes(61)
SET_UP = [grammar.CHANNEL_SETUP, grammar.STREAM_SETUP, grammar.BW_REQUEST]
CA_SYSTEM_ID = 0x4AE6


class Running:
    """A pair that runs, and all that it told."""

    def __init__(self, link: MuxPair) -> None:
        self.link = link
        self.events: list[LinkEvent] = []
        link.subscribe(self.events.append)

    def changes(self) -> list[str]:
        return [event.to for event in self.events if isinstance(event, ChangedOver)]

    async def on(self, side: str) -> None:
        await eventually(lambda: self.link.carrying == side and self.link.ready)


def started(link: MuxPair) -> list[asyncio.Task[None]]:
    """Everything of the pair, running."""
    return [asyncio.ensure_future(run()) for run in tasks_of("mux-1", link).values()]


@asynccontextmanager
async def running(two: TwoMultiplexers, **changes: object) -> AsyncIterator[Running]:
    link = link_to(two.settings(**changes), CA_SYSTEM_ID, SystemClock())  # type: ignore[arg-type]
    assert isinstance(link, MuxPair)
    run = Running(link)
    tasks = started(link)
    try:
        yield run
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.slow
async def test_the_main_carries_and_the_standby_is_left_in_peace() -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        await run.link.send([SECTION])
        await two.main.until(lambda: two.main.sections == [SECTION])
        assert two.standby.connections == 0
        assert run.events == [LinkUp(reconnected=False), Allocation(100_000)]
        assert run.link.verdict == ""


@pytest.mark.slow
async def test_when_the_main_is_gone_the_standby_carries() -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        two.standby.bandwidth_kbps = 60
        with capture_logs() as logs:
            await two.main.stop()
            await run.on(STANDBY)
        assert run.link.allocated_bps == 60_000
        await run.link.send([SECTION])
        await two.standby.until(lambda: two.standby.sections == [SECTION])
        assert [type(event) for event in run.events[:3]] == [LinkUp, Allocation, LinkLost]
        assert run.events[-3:] == [ChangedOver(STANDBY, run.events[-4].reason), LinkUp(True), Allocation(60_000)]  # type: ignore[union-attr]
        assert "cannot connect" in run.link.verdict
        told = [line for line in logs if line["event"] == "the stream changes over"]
        assert [(line["multiplex"], line["to"], line["log_level"]) for line in told] == [("mux-1", STANDBY, "warning")]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.9])
async def test_a_short_break_does_not_move_the_stream(after_s: float) -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        await asyncio.sleep(after_s)
        two.main.drop()
        await two.main.until(lambda: two.main.connections == 2 and run.link.ready)
        await asyncio.sleep(1.2)
        assert run.changes() == []
        assert two.standby.connections == 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "refuses", "no rate", "flaps"])
async def test_every_way_of_failing_moves_the_stream(fault: str) -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        flapping = None
        if fault == "silent":
            two.main.misbehave.silent = two.main.misbehave.deaf = True
        elif fault == "refuses":
            two.main.misbehave.fail_with = {grammar.CHANNEL_SETUP: 0x14}
            two.main.drop()
        elif fault == "no rate":
            two.main.allocate(0)
        else:
            flapping = asyncio.create_task(flap(two))
        await run.on(STANDBY)
        if flapping is not None:
            flapping.cancel()
        assert run.changes() == [STANDBY]
        if fault == "refuses":
            assert "client_id_in_use" in run.link.verdict
        if fault == "no rate":
            assert "allocates no rate" in run.link.verdict
            # What can be said is said: the main is left politely.
            await two.main.until(lambda: grammar.CHANNEL_CLOSE in two.main.types())


async def flap(two: TwoMultiplexers) -> None:
    """Cut the main again and again, soon after it has a stream."""
    for _ in itertools.count():
        await two.main.until(lambda: two.main.streaming)
        await asyncio.sleep(0.3)
        two.main.drop()


@pytest.mark.slow
async def test_back_to_the_main_only_by_word_and_without_a_gap() -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        await two.main.stop()
        await run.on(STANDBY)
        await two.main.listen()
        connections = two.main.connections
        await asyncio.sleep(1.5)
        assert run.link.carrying == STANDBY
        assert two.main.connections == connections, "a standby that carries is not disturbed by attempts on the main"
        begin = len(run.events)
        await run.link.switch(MAIN)
        assert (run.link.carrying, run.link.ready) == (MAIN, True)
        assert [type(event) for event in run.events[begin:]] == [ChangedOver, LinkLost, LinkUp, Allocation]
        await two.standby.until(lambda: two.standby.types()[-2:] == [grammar.CLOSE_REQUEST, grammar.CHANNEL_CLOSE])
        assert two.standby.faults == []
        await run.link.send([SECTION])
        await two.main.until(lambda: two.main.sections == [SECTION])


@pytest.mark.slow
async def test_back_to_the_main_by_itself_when_it_has_lasted() -> None:
    async with two_multiplexers() as two, running(two, return_after_s=1.0) as run:
        await run.on(MAIN)
        await two.main.stop()
        await run.on(STANDBY)
        await two.main.listen()
        await two.main.until(lambda: two.main.streaming)
        assert run.link.carrying == STANDBY, "it has to last"
        await run.on(MAIN)
        assert run.changes() == [STANDBY, MAIN]
        await two.standby.until(lambda: grammar.CHANNEL_CLOSE in two.standby.types())


@pytest.mark.slow
async def test_what_the_operator_chose_holds_against_the_automatic_return() -> None:
    async with two_multiplexers() as two, running(two, return_after_s=0.2) as run:
        await run.on(MAIN)
        await run.link.switch(STANDBY)
        await two.main.until(lambda: grammar.CHANNEL_CLOSE in two.main.types())
        await asyncio.sleep(1)
        assert run.link.carrying == STANDBY
        assert two.main.connections == 1
        await two.standby.stop()
        await run.on(MAIN)


@pytest.mark.slow
async def test_a_word_that_cannot_be_followed_changes_nothing() -> None:
    async with two_multiplexers() as two, running(two) as run:
        await run.on(MAIN)
        await two.standby.stop()
        with pytest.raises(SwitchRefusedError, match=r"cannot connect.*the main goes on"):
            await run.link.switch(STANDBY)
        assert (run.link.carrying, run.link.ready) == (MAIN, True)
        assert run.changes() == []
        await run.link.switch(MAIN)
        await two.standby.listen()
        await asyncio.sleep(0.7)
        assert two.standby.connections == 0, "it is not tried any more"


@pytest.mark.slow
async def test_two_addresses_of_one_multiplexer_never_carry_at_once() -> None:
    async with two_multiplexers() as two:
        settings = two.settings()
        proxy = await asyncio.start_server(lambda r, w: splice(r, w, two.main.port), "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        assert settings.standby is not None
        changed = settings.standby.model_copy(update={"port": port})
        link = MuxPair(settings.model_copy(update={"standby": changed}), changed, CA_SYSTEM_ID, SystemClock())
        tasks = started(link)
        await eventually(lambda: link.ready)
        with pytest.raises(SwitchRefusedError, match="takes the second only when the first is gone"):
            await link.switch(STANDBY)
        assert link.ready
        assert two.main.faults == []
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        proxy.close()


async def splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Pass bytes on, both ways, as a second network interface would."""
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(4096):
                sink.write(data)
        except ConnectionError:
            pass
        sink.close()

    await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))


@pytest.mark.slow
async def test_while_neither_answers_both_are_tried_in_turn() -> None:
    async with two_multiplexers() as two, running(two) as run:
        await two.main.stop()
        await two.standby.stop()
        await eventually(lambda: run.changes() == [STANDBY, MAIN])
        assert "main: cannot connect" in (run.link.last_error or "")
        assert "standby: cannot connect" in (run.link.last_error or "")
        with pytest.raises(LinkDownError):
            await run.link.send([SECTION])
        await two.standby.listen()
        await run.on(STANDBY)


@pytest.mark.slow
async def test_close_leaves_both_politely() -> None:
    async with two_multiplexers() as two, running(two, return_after_s=60.0) as run:
        await run.on(MAIN)
        await two.main.stop()
        await run.on(STANDBY)
        await two.main.listen()
        await two.main.until(lambda: two.main.streaming)
        async with asyncio.timeout(5):
            await run.link.close()
        for mux in two:
            assert mux.types()[-2:] == [grammar.CLOSE_REQUEST, grammar.CHANNEL_CLOSE]
        assert not run.link.ready
