"""Tasks have names and owners: crashed ones come back with growing pauses, all end in order."""

import asyncio

import pytest
from structlog.testing import capture_logs

from cad.frame.supervisor import BACK_OFF_MAX_S, CRASHES_MAX, HEALTHY_AFTER_S, Supervisor
from tests.support.clock import ManualClock


def supervisor(clock: ManualClock, crashes: list[str] | None = None) -> Supervisor:
    return Supervisor(clock, lambda: 1.0, crashes.append if crashes is not None else None)


async def test_a_crashed_task_is_started_again_after_growing_pauses() -> None:
    clock, starts, crashes = ManualClock(), [], list[str]()

    async def crash() -> None:
        starts.append(clock.monotonic())
        raise RuntimeError("broken")

    tasks = supervisor(clock, crashes)
    with capture_logs() as logs:
        tasks.start("pump", crash)
        await clock.advance(6)
    assert starts == pytest.approx([0, 0.2, 0.6, 1.4, 3.0])
    assert crashes == ["pump"] * 5
    assert {entry["task"] for entry in logs if entry["event"] == "task crashed"} == {"pump"}
    await tasks.stop_all()


async def test_pauses_have_an_upper_limit_and_stuck_tasks_are_named() -> None:
    clock, starts = ManualClock(), []

    async def crash() -> None:
        starts.append(clock.monotonic())
        raise RuntimeError("broken")

    tasks = supervisor(clock)
    with capture_logs():
        tasks.start("pump", crash)
        tasks.start("side", crash, vital=False)
        assert tasks.stuck() == []
        await clock.advance(600)
    assert max(b - a for a, b in zip(starts[::2], starts[2::2], strict=False)) == pytest.approx(BACK_OFF_MAX_S)
    assert tasks.stuck() == ["pump: RuntimeError: broken"]
    await tasks.stop_all()


async def test_a_long_healthy_run_forgives_earlier_crashes() -> None:
    clock = ManualClock()

    async def crash_after_a_while() -> None:
        await clock.sleep(HEALTHY_AFTER_S + 1)
        raise RuntimeError("broken")

    tasks = supervisor(clock)
    with capture_logs():
        tasks.start("pump", crash_after_a_while)
        await clock.advance((HEALTHY_AFTER_S + 2) * CRASHES_MAX * 2)
    assert tasks.stuck() == []
    await tasks.stop_all()


async def test_a_vital_task_that_ends_is_stuck_and_one_without_restart_stays_down() -> None:
    clock, runs = ManualClock(), []

    async def end() -> None:
        runs.append("end")

    async def crash() -> None:
        runs.append("crash")
        raise RuntimeError("once")

    tasks = supervisor(clock)
    with capture_logs():
        tasks.start("ends", end)
        tasks.start("crashes", crash, restart=False)
        await clock.advance(100)
    assert runs == ["end", "crash"]
    assert tasks.stuck() == ["ends: ended", "crashes: RuntimeError: once"]
    assert tasks.names() == []


async def test_tasks_end_in_the_reverse_order_of_their_start() -> None:
    clock, ended = ManualClock(), []

    async def run(name: str) -> None:
        try:
            await clock.sleep(1e9)
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    tasks = supervisor(clock)
    for name in ("store", "links", "intake"):
        tasks.start(name, lambda name=name: run(name))
    await clock.settle()
    assert tasks.names() == ["store", "links", "intake"]
    await tasks.stop_all()
    assert ended == ["intake", "links", "store"]
    assert tasks.names() == []


async def test_a_task_that_will_not_end_is_named_and_does_not_hold_up_the_rest() -> None:
    clock, release = ManualClock(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    tasks = supervisor(clock)
    tasks.start("stubborn", stubborn)
    await clock.settle()
    with capture_logs() as logs:
        await tasks.stop("stubborn", timeout_s=0.02)
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task does not stop", "stubborn")]
    release.set()
    await clock.settle()


async def test_one_name_has_one_task() -> None:
    clock = ManualClock()
    tasks = supervisor(clock)
    tasks.start("pump", lambda: clock.sleep(1e9))
    with pytest.raises(ValueError, match="'pump' is running"):
        tasks.start("pump", lambda: clock.sleep(1e9))
    await tasks.stop("pump")
    await tasks.stop("never started")
    tasks.start("pump", lambda: clock.sleep(1e9))
    await tasks.stop_all()


async def test_a_job_on_the_side_gives_its_result_and_its_crash_is_logged() -> None:
    clock = ManualClock()
    tasks = supervisor(clock)

    async def seven() -> int:
        return 7

    async def fail() -> None:
        raise RuntimeError("job")

    assert await tasks.spawn("seven", seven()) == 7
    with capture_logs() as logs:
        job = tasks.spawn("fails", fail())
        await clock.settle()
    assert job.done()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("job failed", "fails")]
