"""The guarded clock: steps are followed, jumps are not believed, time never goes back."""

from hypothesis import given
from hypothesis import strategies as st

from cad.frame.clock import EARLIEST, GAP_MAX_S, JUMP_MAX_S, SystemClock, spell
from tests.support.clock import ManualClock

NOW = 1_800_000_000.0


class Machine:
    """A wall clock and a counter that a test sets."""

    def __init__(self, wall: float = NOW) -> None:
        self.wall = wall
        self.counted = 1000.0

    def tick(self, seconds: float) -> None:
        self.wall += seconds
        self.counted += seconds

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.counted)


def test_follows_the_wall_clock_and_small_steps() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.tick(10)
    assert clock.now() == NOW + 10
    machine.wall += JUMP_MAX_S - 1
    assert clock.now() == machine.wall
    assert clock.suspect is None


def test_never_goes_backwards() -> None:
    machine = Machine()
    clock = machine.clock()
    first = clock.now()
    machine.wall -= 100
    assert clock.now() == first
    machine.tick(99)
    assert clock.now() == first
    machine.tick(5)
    assert clock.now() == first + 4
    assert clock.suspect is None


def test_a_jump_is_not_believed_until_the_operator_says_so() -> None:
    for jump in (JUMP_MAX_S + 1, 86_400 * 365, -JUMP_MAX_S - 1):
        machine = Machine()
        clock = machine.clock()
        machine.wall += jump
        machine.tick(7)
        assert clock.now() == NOW + 7
        assert spell(machine.wall) in (clock.suspect or "")
        machine.tick(3)
        assert clock.now() == NOW + 10
        clock.believe()
        assert clock.suspect is None
        assert clock.now() == max(machine.wall, NOW + 10)


def test_a_clock_that_comes_back_is_believed_again() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += 5000
    assert clock.suspect
    machine.wall -= 5000
    machine.tick(1)
    assert clock.suspect is None
    assert clock.now() == NOW + 1


def test_a_machine_without_battery_is_believed_once_its_clock_is_set() -> None:
    machine = Machine(wall=12.0)
    clock = machine.clock()
    assert clock.now() == EARLIEST
    assert "1970" in (clock.suspect or "")
    machine.wall = NOW
    assert clock.now() == NOW
    assert clock.suspect is None


def test_the_ledger_tells_what_is_plausible_at_start() -> None:
    for wall, believed in ((NOW, True), (NOW + GAP_MAX_S - 1, True), (NOW - 9 * JUMP_MAX_S, False), (NOW + 9e6, False)):
        machine = Machine(wall=wall)
        clock = machine.clock()
        clock.remember(NOW)
        machine.tick(5)
        assert (clock.suspect is None) == believed
        assert clock.now() == (wall + 5 if believed else NOW + 5)


def test_time_set_back_a_little_over_a_restart_stands_still_until_it_is_reached() -> None:
    machine = Machine(wall=NOW - 60)
    clock = machine.clock()
    clock.remember(NOW)
    assert clock.now() == NOW
    machine.tick(61)
    assert clock.now() == NOW + 1


def test_a_clock_wrong_at_start_is_believed_when_it_becomes_plausible() -> None:
    machine = Machine(wall=NOW + 1e9)
    clock = machine.clock()
    clock.remember(NOW)
    assert clock.suspect
    machine.wall = NOW + 86_400
    assert clock.now() == NOW + 86_400
    assert clock.suspect is None


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e9, 1e9)), max_size=30), st.sets(st.integers(0, 29)))
def test_whatever_the_wall_clock_does_time_only_rises(steps: list[tuple[float, float]], believed: set[int]) -> None:
    machine = Machine()
    clock = machine.clock()
    last = clock.now()
    for number, (counted, jump) in enumerate(steps):
        machine.tick(counted)
        machine.wall += jump
        if number in believed:
            clock.believe()
        assert clock.now() >= last
        last = clock.now()


async def test_the_system_clock_sleeps_at_least_as_long_as_asked() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.02)
    await clock.sleep(-1)
    assert clock.monotonic() - before >= 0.02


async def test_the_manual_clock_wakes_sleepers_in_order() -> None:
    from cad.frame.supervisor import Supervisor

    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic()))

    supervisor = Supervisor(clock, lambda: 0.0)
    jobs = [supervisor.spawn(name, sleeper(name, seconds)) for name, seconds in (("b", 2.0), ("a", 1.0), ("c", 9.0))]
    await clock.advance(5)
    assert woken == [("a", 1.0), ("b", 2.0)]
    await supervisor.stop_all()
    assert jobs[2].cancelled()
