"""The sandbox's clock: fast, steady, the same for all who share its file, never backwards."""

from pathlib import Path

import pytest

from cad.demo.sandbox_clock import LATEST, SandboxClock, SandboxClockError, Timeline
from cad.frame.clock import SystemClock, boot_time


def test_a_timeline_goes_on_where_it_is_when_its_rate_changes() -> None:
    line = Timeline(real=100.0, shown=1_000.0, rate=10.0)
    assert line.at(101.0) == 1_010.0
    later = line.run(101.0, rate=2.0, advance_s=5.0)
    assert [later.at(real) for real in (101.0, 102.0)] == [1_015.0, 1_017.0]
    assert later.run(102.0, advance_s=3.0) == Timeline(102.0, 1_020.0, 2.0)
    assert line.run(101.0, rate=0).at(500.0) == 1_010.0


def test_it_never_goes_beyond_what_an_emm_can_say() -> None:
    assert Timeline(0.0, 0.0, 100_000.0).at(1e9) == LATEST


@pytest.mark.parametrize("asked", [{"rate": -1.0}, {"rate": 1e9}, {"advance_s": -1.0}, {"advance_s": 1e12}])
def test_what_is_not_possible_is_refused(asked: dict[str, float]) -> None:
    with pytest.raises(SandboxClockError):
        Timeline(0.0, 0.0, 1.0).run(1.0, **asked)


def test_all_who_share_the_file_see_the_same_time(tmp_path: Path) -> None:
    mine = SandboxClock.start(tmp_path / "clock", 1000.0)
    began = boot_time()
    other = SandboxClock(tmp_path / "clock")
    assert abs(mine.now() - SystemClock().now()) < 600
    mine.set(rate=0.0, advance_s=86_400.0)
    stands = mine.now()
    while other.now() < stands:
        assert boot_time() - began < 5
    assert other.now() == stands
    assert other.rate == mine.rate == 0.0
    assert other.suspect is None


def test_it_begins_when_it_is_told_to(tmp_path: Path) -> None:
    clock = SandboxClock.start(tmp_path / "clock", 0.0, at=1_800_000_000.0)
    assert clock.now() == SandboxClock(tmp_path / "clock").now() == 1_800_000_000.0


def test_it_never_goes_back(tmp_path: Path) -> None:
    clock = SandboxClock.start(tmp_path / "clock", 100_000.0)
    fast = [clock.now() for _ in range(50)]
    clock.set(rate=0.0)
    fast += [clock.now() for _ in range(50)]
    assert fast == sorted(fast)
    clock.remember(fast[-1] + 1000.0)
    assert clock.now() == fast[-1] + 1000.0
    clock.believe()
    assert clock.now() == fast[-1] + 1000.0
