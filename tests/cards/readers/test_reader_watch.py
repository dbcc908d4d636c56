"""The watcher's thread: loss and return of the service, and its end."""

import threading

import pytest

from cards.errors import ServiceError
from cards.readers.state import CardPresence, ReaderEvent, ReaderState
from cards.readers.watch import ReaderWatch
from tests.support.waiting import wait_until

EMPTY = {"a": ReaderState("a", CardPresence.EMPTY)}
FULL = {"a": ReaderState("a", CardPresence.PRESENT, b"atr")}


class Script:
    """Contexts that show the looks given, one by one; an exception among them is raised, the end waits for cancel."""

    def __init__(self, *contexts):
        self.contexts = list(contexts)
        self.closed = 0

    def __call__(self):
        if not self.contexts:
            raise ServiceError("nobody is there")
        looks = self.contexts.pop(0)
        if isinstance(looks, Exception):
            raise looks
        return Context(self, looks)


class Context:
    def __init__(self, script, looks):
        self.script, self.looks, self.cancelled = script, list(looks), threading.Event()

    def states(self):
        return self._next({})

    def wait_for_change(self, known, timeout_s):
        return self._next(known)

    def _next(self, known):
        if not self.looks:
            self.cancelled.wait(10)
            return known
        look = self.looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look

    def cancel(self):
        self.cancelled.set()

    def close(self):
        self.script.closed += 1


def kinds(events: list[ReaderEvent]) -> list[str]:
    return [event.kind.value for event in events]


@pytest.mark.slow
def test_loss_is_told_once_with_advice_then_the_removals_then_what_is_found_again():
    events: list[ReaderEvent] = []
    lost = ServiceError("pcscd is gone", "start it")
    script = Script([EMPTY, FULL, lost], lost, lost, [FULL])
    with ReaderWatch(script, events.append):
        wait_until(lambda: kinds(events)[-1:] == ["card-inserted"] and "service-back" in kinds(events))
    assert kinds(events) == [
        "reader-added", "card-inserted",
        "service-lost", "card-removed", "reader-removed",
        "service-back", "reader-added", "card-inserted",
    ]  # fmt: skip
    assert (events[2].detail, events[2].advice) == ("pcscd is gone", "start it")
    assert script.closed == 2


def test_a_service_that_is_not_there_at_the_start_is_told_too():
    events: list[ReaderEvent] = []
    with ReaderWatch(Script(ServiceError("not there"), [EMPTY]), events.append):
        wait_until(lambda: len(events) == 3)
    assert kinds(events) == ["service-lost", "service-back", "reader-added"]


def test_what_the_listener_raises_ends_the_watch_and_comes_out_of_close():
    def tell(event: ReaderEvent) -> None:
        raise ZeroDivisionError

    watch = ReaderWatch(Script([EMPTY]), tell)
    watch.start()
    wait_until(lambda: not any(thread.name == "reader-watch" for thread in threading.enumerate()))
    with pytest.raises(ZeroDivisionError):
        watch.close()


def test_close_ends_a_watch_that_waits_for_a_service(monkeypatch):
    events: list[ReaderEvent] = []
    watch = ReaderWatch(Script(), events.append)
    watch.start()
    wait_until(lambda: kinds(events) == ["service-lost"])
    watch.close()
    assert not any(thread.name == "reader-watch" for thread in threading.enumerate())


def test_a_watch_that_never_began_can_be_closed():
    ReaderWatch(Script(), print).close()
