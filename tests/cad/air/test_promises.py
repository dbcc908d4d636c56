"""X2: what a commit promises command by command, when the alarm is raised, and mass changes that come in slices."""

import asyncio
import math
from collections.abc import Callable
from typing import cast

import pytest

from cad.air.links import Link
from cad.air.mass import MassChanges, Promised
from cad.air.muxes import Allocation, LinkEvent
from cad.air.network import NetworkOnAir
from cad.air.promises import NO_REPEATS, ROLLED_PER_S, TOO_LONG, URGENT_MAX, Promise, Told
from cad.frame.health import Health
from cad.frame.metrics import Metrics
from cad.ledger.model import CardChange
from config.settings import CarouselSettings, NetworkSettings
from emm.calendar import Calendar
from emm.carousel import Forecast
from emm.keys import KeyLadder, LocalMasterKey
from emm.plan import Right
from emm.seal import EmmSealer
from tests.support.clock import ManualClock

NOW = 1_800_000_000.0
ONE = Forecast(first_s=0.5, each_s=0.1, room=50, bulk_first_s=4.0, bulk_each_s=1.0, repeat_s=60.0)


def test_each_command_stands_behind_those_asked_for_before_it() -> None:
    promise = Promise(NOW, [ONE])
    first = promise.of(1)
    assert first == Told(math.ceil(NOW + 0.5 + 1), math.ceil(NOW + 0.5 + 1) + 60)
    for _ in range(39):
        later = promise.of(1)
    assert later.on_air_by == math.ceil(NOW + 0.5 + 39 * 0.1 + 1)
    for _ in range(20):
        late = promise.of(1)
    assert late.on_air_by == math.ceil(NOW + 4.0 + 59 * 1.0 + 1)  # no room for it in ten seconds


def test_a_mass_change_is_promised_its_last_card_and_holds_up_no_single_order() -> None:
    promise = Promise(NOW, [ONE], pending=100)
    mass = promise.of(URGENT_MAX + 1)
    cards = 100 + URGENT_MAX + 1
    assert mass.on_air_by == math.ceil(NOW + 4.0 + (cards - 1) * 1.0 + cards / ROLLED_PER_S + 1)
    assert promise.of(1).on_air_by == math.ceil(NOW + 0.5 + 1)
    assert promise.of(1000).on_air_by > mass.on_air_by


def test_a_commit_that_had_to_wait_promises_from_when_it_is_decided() -> None:
    waited_s = 0.0
    promise = Promise(NOW, [ONE], elapsed=lambda: waited_s)
    at_once = promise.of(1).on_air_by
    waited_s = 7.0
    assert promise.of(1).on_air_by == at_once + 7


def test_the_slowest_multiplex_decides_and_what_cannot_be_kept_is_said() -> None:
    slow = Forecast(first_s=10.0, each_s=1.0, room=50, bulk_first_s=4.0, bulk_each_s=1.0, repeat_s=4000.0)
    told = Promise(NOW, [ONE, slow], short=True).of(1)
    assert told.visible_by == math.ceil(NOW + 10 + 1) + 4000
    assert told.detail == f"{TOO_LONG}; {NO_REPEATS}"
    assert Promise(NOW, [ONE]).of(1).detail is None


class PlainLink:
    """A link with a rate and nothing behind it."""

    ready, last_error, since = True, None, None

    def __init__(self, bps: int) -> None:
        self.allocated_bps = bps

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        callback(Allocation(self.allocated_bps))


def change(address: int, seq: int, operator: str = "karjaa") -> CardChange:
    return CardChange(address, operator, False, seq, 1, (Right(1, 0),), seq, NOW, "id")


def network(clock: ManualClock, metrics: Metrics, bps: int) -> NetworkOnAir:
    settings = NetworkSettings.model_validate(
        {"id": "south", "multiplexes": [{"id": "mux-1", "host": "127.0.0.1", "port": 1, "client_id": 1}]}
    )
    sealer = EmmSealer(KeyLadder(LocalMasterKey(bytes(32))))
    links = {"mux-1": cast(Link, PlainLink(bps))}
    operators = {"karjaa": 1.0, "kaspnet": 1.0}
    return NetworkOnAir(
        settings, CarouselSettings(), links, Calendar(), sealer, clock, metrics, lambda items: None, operators
    )


@pytest.mark.slow
def test_the_alarm_is_raised_before_an_hour_cannot_be_kept_and_for_that_operator_alone() -> None:
    clock, metrics = ManualClock(NOW), Metrics(operators=["karjaa", "kaspnet"])
    health = Health(clock, metrics, expected=())
    air = network(clock, metrics, 4_000)
    air.look(health, 30.0, lambda operator: 0)
    assert {one.subject: one.ok for one in health.conditions() if one.name == "hour"} == {
        "karjaa": True,
        "kaspnet": True,
    }
    for number in range(4_000):
        air.apply(change(number, number + 1), Promised(), urgent=False)
    air.look(health, 30.0, lambda operator: 0)
    hours = {one.subject: one for one in health.conditions() if one.name == "hour"}
    assert not hours["karjaa"].ok
    assert "visible within" in hours["karjaa"].text
    assert hours["kaspnet"].ok
    promised = metrics.registry.get_sample_value
    assert promised("cad_order_promise_seconds", {"operator": "karjaa", "promise": "visible_by"}) > 3600  # type: ignore[operator]
    assert promised("cad_order_promise_seconds", {"operator": "kaspnet", "promise": "on_air_by"}) < 60  # type: ignore[operator]


def test_an_operator_that_comes_by_a_reload_has_a_part_at_once() -> None:
    clock = ManualClock(NOW)
    air = network(clock, Metrics(), 40_000)
    air.weigh({"karjaa": 2.0, "new": 1.0})
    air.apply(change(7, 1, operator="new"), Promised())
    rows = {row["operator"]: row for row in air.facts()[0]["operators"]}
    assert {name: row["weight"] for name, row in rows.items()} == {"karjaa": 2.0, "kaspnet": 0.01, "new": 1.0}
    assert rows["new"]["new_cards"] == 1


async def test_a_mass_change_comes_in_slices_and_others_have_their_turn_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cad.air.mass.SLICE_S", 0.0019)
    clock, applied = ManualClock(), list[int]()

    def apply(one: CardChange, promised: Promised) -> None:
        assert promised == Promised(1.0, 2.0)
        applied.append(one.address)
        clock.set(clock.now() + 0.0001)

    mass = MassChanges(apply, clock)
    mass.add([change(number, number + 1) for number in range(100)], Promised(1.0, 2.0))
    assert (mass.pending("karjaa"), mass.pending("kaspnet")) == (100, 0)
    task = asyncio.ensure_future(mass.run())
    seen = []
    while len(applied) < 100:
        await asyncio.sleep(0)
        seen.append(len(applied))
    task.cancel()
    assert applied == list(range(100))
    assert mass.pending("karjaa") == 0
    assert len(set(seen)) >= 5
