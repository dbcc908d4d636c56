"""What holds and what does not: conditions with the time since, the reason and what to do about it.

`/livez`, `/readyz`, `cad status`, the metric `cad_condition_ok` and the watchdog all read from here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import structlog

from cad.frame import clock as clocks
from cad.frame.clock import Clock
from cad.frame.metrics import Metrics

log = structlog.get_logger("cad.frame.health")


class Level(StrEnum):
    """What it means when a condition does not hold."""

    ALIVE = "alive"  # the process is of no use any more: the watchdog is not fed, systemd starts it again
    READY = "ready"  # orders are not taken or not sent
    WARNING = "warning"  # the work goes on, but somebody should look


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of condition: what it says when it holds, and what to do when it does not."""

    level: Level
    meaning: str
    advice: str


KINDS: Final[Mapping[str, Kind]] = {
    "loop": Kind(
        Level.ALIVE,
        "the event loop turns",
        "the machine is overloaded or the daemon hangs; systemd restarts it. Look at the load, and report it",
    ),
    "tasks": Kind(
        Level.ALIVE,
        "every vital task runs",
        "a task crashes again and again; systemd restarts the daemon. Report the log line 'task crashed'",
    ),
    "ledger": Kind(
        Level.READY,
        "orders are stored durably",
        "look at the disk under node.state_dir: full, read-only or failing. Orders wait at the broker meanwhile",
    ),
    "broker": Kind(
        Level.READY,
        "the MQTT broker is connected",
        "look whether the broker runs and whether host, port, certificates and password are right: cad check --deep."
        " Orders wait at the broker, replies in the outbox",
    ),
    "link": Kind(
        Level.WARNING,
        "the stream on the multiplexer is open and has a rate",
        "look at the multiplexer: is it reachable, does it expect these ids, has it allocated a rate above 0?",
    ),
    "standby": Kind(
        Level.WARNING,
        "the main multiplexer carries the stream",
        "the standby carries it and nothing is lost; mend the main, then: cad multiplex switch MULTIPLEX main",
    ),
    "rate": Kind(
        Level.WARNING,
        "the allocated rate suffices for the promised repetition",
        "have the multiplexer allocate more (bandwidth_kbps), or accept a longer cycle_s",
    ),
    "hour": Kind(
        Level.WARNING,
        "an order of this operator is visible within an hour",
        "the bandwidth does not suffice for what this operator has ordered: cad carousel top; have the multiplexer"
        " allocate more, or spread mass changes over more time. Replies name the later time",
    ),
    "backlog": Kind(
        Level.WARNING,
        "changes are first sent in time",
        "see the condition link and rate of the same multiplex, and: cad carousel top",
    ),
    "scrambler": Kind(
        Level.WARNING,
        "the scrambler gets what it asks for",
        "see docs/headend.md: its ids, Super_CAS_id and access criteria must be those of the settings; cad check shows"
        " the access criteria of every service",
    ),
    "outbox": Kind(Level.WARNING, "replies and events leave soon", "see the condition broker"),
    "disk": Kind(
        Level.WARNING,
        "there is room on the disk of the state directory",
        "make room below node.state_dir before the ledger cannot write any more",
    ),
    "clock": Kind(
        Level.WARNING,
        "the machine's clock is believed",
        "look at chronyc tracking or timedatectl; when the machine's clock is right: cad clock --believe",
    ),
    "settings": Kind(
        Level.WARNING,
        "the daemon runs with the settings that are in the file",
        "mend the settings file (cad check), then: systemctl reload cad, or systemctl restart cad where it says so",
    ),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """How one thing is. `subject` tells several of a kind apart (the multiplex); `since` is Unix seconds."""

    name: str
    subject: str
    ok: bool
    since: float
    text: str

    @property
    def kind(self) -> Kind:
        """What it means and what to do."""
        return KINDS[self.name]

    def as_dict(self) -> dict[str, Any]:
        """Return what status and the health endpoints show."""
        return {
            "name": self.name,
            "subject": self.subject,
            "ok": self.ok,
            "level": str(self.kind.level),
            "since": clocks.spell(self.since),
            "text": self.text or self.kind.meaning,
            "advice": "" if self.ok else self.kind.advice,
        }


@dataclass(slots=True)
class _Pulse:
    name: str
    within_s: float
    last: float


class Health:
    """The register of conditions. `expected` do not hold until somebody says that they do."""

    def __init__(self, clock: Clock, metrics: Metrics, expected: Iterable[str] = ("ledger", "broker")) -> None:
        self._clock = clock
        self._metrics = metrics
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._pulses: dict[str, _Pulse] = {}
        for name in expected:
            self._put(Condition(name, "", False, clock.now(), "starting"))

    def set(self, name: str, ok: bool, text: str = "", *, subject: str = "") -> None:
        """Say how a condition is; a change is logged. `name` is one of KINDS (KeyError), `text` the reason in words."""
        kind = KINDS[name]
        before = self._conditions.get((name, subject))
        changed = before is None or before.ok != ok
        self._put(Condition(name, subject, ok, self._clock.now() if before is None or changed else before.since, text))
        if ok and before is not None and changed:
            log.info("condition holds again", condition=name, subject=subject, text=text or kind.meaning)
        elif not ok and changed:
            log.warning("condition does not hold", condition=name, subject=subject, text=text, advice=kind.advice)

    def forget(self, name: str, subject: str = "") -> None:
        """Remove a condition whose subject is gone (a multiplex taken out of the settings)."""
        if self._conditions.pop((name, subject), None) is not None:
            self._metrics.condition.remove(name, subject)

    def pulse(self, name: str, within_s: float) -> Callable[[], None]:
        """Return a function that `name` must call at least every `within_s` seconds, or the daemon is not alive."""
        pulse = self._pulses[name] = _Pulse(name, within_s, self._clock.monotonic())

        def beat() -> None:
            pulse.last = self._clock.monotonic()

        return beat

    def end_pulse(self, name: str) -> None:
        """Expect no more of that pulse (orderly end)."""
        self._pulses.pop(name, None)

    def conditions(self) -> list[Condition]:
        """Return all conditions, those that do not hold first, the worst of them first."""
        order = list(Level)
        return sorted(self._conditions.values(), key=lambda c: (c.ok, order.index(c.kind.level), c.name, c.subject))

    def overdue(self) -> list[str]:
        """Return in words the pulses that are missing."""
        now = self._clock.monotonic()
        return [
            f"{pulse.name}: no sign of life for {now - pulse.last:.0f} s"
            for pulse in self._pulses.values()
            if now - pulse.last > pulse.within_s
        ]

    def against_life(self) -> list[Condition]:
        """Return what makes the process useless; empty = alive."""
        return [one for one in self.conditions() if not one.ok and one.kind.level is Level.ALIVE]

    def against_readiness(self) -> list[Condition]:
        """Return what keeps orders from being taken; empty = ready."""
        found = [one for one in self.conditions() if not one.ok and one.kind.level is not Level.WARNING]
        self._metrics.ready.set(0 if found else 1)
        return found

    def headline(self) -> str:
        """Return one line for `systemctl status`."""
        bad = [one for one in self.conditions() if not one.ok]
        if not bad:
            return "all well"
        words = "; ".join(f"{one.name}{' ' + one.subject if one.subject else ''}: {one.text}" for one in bad)
        return f"{'not ready' if self.against_readiness() else 'running'}, {len(bad)} to look at: {words}"

    def _put(self, condition: Condition) -> None:
        self._conditions[condition.name, condition.subject] = condition
        self._metrics.condition.labels(condition.name, condition.subject).set(1 if condition.ok else 0)
