"""Garbage is looked for when little is under way, and then it is found."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from cad.frame import memory


class Knot:
    """Something that only a look at everything finds when it is dropped."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def dropped() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


@pytest.mark.slow
def test_what_was_dropped_is_found_when_little_is_under_way() -> None:
    memory.settle()
    gone = dropped()
    gc.collect(1)
    assert memory.tidy()
    assert gone() is None


@pytest.mark.slow
def test_while_much_is_under_way_not_everything_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.settle()
    assert gc.get_threshold()[2] == memory.NEVER
    monkeypatch.setattr(memory, "BUSY_OBJECTS", 50)
    held = [Knot() for _ in range(1000)]
    gc.collect(1)
    assert not memory.tidy()
    assert len(held) == 1000
