"""`cad carousel`: what is sent when. `simulate` needs no daemon; it runs the same code in simulated time."""

from typing import Any, Final

import click
import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.table import Table

from cad.cli.shell.options import json_option
from cad.cli.shell.output import console, show_json, table
from emm.pacer import PACKINGS, cost_bits
from emm.rotation.arithmetic import recommended_kbps
from emm.rotation.policy import CarouselPolicy
from emm.rotation.simulation import Burst, Figures, Scenario, Simulation

EMMS_MAX: Final = 20_000_000
"""More transmissions than these take longer than anyone waits: many minutes."""


class SimulatedOperator(BaseModel):
    """What came of the changes of one operator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float
    changes: int
    first_p99_s: float
    first_max_s: float
    first_missed: int
    bulk_max_s: float
    hour_apart_max_s: float


class SimulatedFigures(BaseModel):
    """What came of it; times in seconds, null: never.

    `first_*`: from a change to its first transmission (`bulk_*`: of changes without a promise); `*_apart_max_s`: the
    longest spacing of a card in the first hour after its change, and of any card; `*_missed`: how often the promise was
    broken; `promises_broken`: how often what was forecast for a change; `worst_second`: sent to allocated in the worst
    second. `shortfall_at_s`, `outlook_at_s`: when it was first said that the promise cannot be kept, or will not if
    changes go on so; `missed_at_s`: when it was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    changes: int
    sent: int
    first_mean_s: float
    first_p99_s: float
    first_max_s: float
    bulk_max_s: float
    first_missed: int
    never_sent: int
    promises_broken: int
    hour_apart_max_s: float
    hour_missed: int
    base_apart_max_s: float
    base_missed: int
    sent_to_allocated: float
    worst_second: float
    shortfall_kinds: list[str]
    shortfall_at_s: float | None
    outlook_at_s: float | None
    missed_at_s: float | None
    operators: list[SimulatedOperator]


class SimulatedDocument(BaseModel):
    """`cad carousel simulate --json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cards: int
    bytes: int
    kbps: float
    changes_per_s: float
    hours: float
    mass: int
    seed: int
    recommended_kbps: int
    kept: bool
    figures: SimulatedFigures


@click.group("carousel")
def group() -> None:
    """See or simulate what is sent when."""


@group.command("simulate")
@click.option("--cards", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True)
@click.option("--bytes", "size", type=click.IntRange(20, 256), default=128, show_default=True, help="Of one EMM.")
@click.option("--kbps", type=click.FloatRange(0, 65_535, min_open=True), default=100.0, show_default=True)
@click.option(
    "--changes", "changes_per_s", type=click.FloatRange(0, 1000), default=0.2, show_default=True, help="A second."
)
@click.option("--hours", type=click.FloatRange(0, 24, min_open=True), default=1.0, show_default=True)
@click.option(
    "--weight",
    "weights",
    type=click.FloatRange(0.01, 100),
    multiple=True,
    default=(1.0,),
    show_default=True,
    help="Of an operator; once for each. The cards are dealt out to them.",
)
@click.option(
    "--mass", type=click.IntRange(0, 1_000_000), default=0, help="Cards of the first operator changed at once, halfway."
)
@click.option("--packing", type=click.Choice(PACKINGS), default="packed", show_default=True, help="Of the multiplexer.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed gives the same figures."
)
@json_option
def simulate(
    cards: int,
    size: int,
    kbps: float,
    changes_per_s: float,
    hours: float,
    weights: tuple[float, ...],
    mass: int,
    packing: str,
    seed: int,
    as_json: bool,
) -> None:
    """Run the carousel of one multiplex in simulated time: is the bandwidth enough for the promise?

    The promise: first transmission within 10 s, again within 60 s for an hour, every card within 30 minutes.
    Changes fall on cards at random. Nothing is sent, and no daemon is asked.
    """
    on_air = -(-cost_bits(size, packing) // 8)
    sendings = kbps * 1000 * hours * 3600 / (on_air * 8)
    if sendings > EMMS_MAX:
        raise click.UsageError(
            f"these are {sendings / 1e6:.0f} million transmissions, and at most {EMMS_MAX / 1e6:.0f} million are "
            "simulated: take fewer hours or a lower rate"
        )
    if mass > cards // len(weights):
        raise click.UsageError(
            f"the first operator has {cards // len(weights)} cards, and {mass} of them cannot change"
        )
    policy = CarouselPolicy()
    scenario = Scenario(
        cards=cards,
        size_min=on_air,
        size_max=on_air,
        rates=((0.0, kbps * 1000),),
        duration_s=hours * 3600,
        changes_per_s=changes_per_s,
        policy=policy,
        weights=weights,
        bursts=(Burst(hours * 1800, mass, urgent=False, operator=0),) if mass else (),
    )
    with console(err=True).status("simulating …"):
        figures = Simulation(scenario, np.random.default_rng(seed)).run()
    needed = recommended_kbps(cards, on_air, changes_per_s * 3600, policy)
    document = SimulatedDocument(
        cards=cards,
        bytes=size,
        kbps=kbps,
        changes_per_s=changes_per_s,
        hours=hours,
        mass=mass,
        seed=seed,
        recommended_kbps=needed,
        kept=figures.missed_at_s is None,
        figures=SimulatedFigures.model_validate(figures.as_dict()),
    )
    if as_json:
        show_json(document.model_dump())
        return
    _show(document, figures, policy)


def _show(document: SimulatedDocument, figures: Figures, policy: CarouselPolicy) -> None:
    title = (
        f"{document.cards:,} cards, EMMs of {document.bytes} bytes, {document.kbps:g} kbit/s, "
        f"{document.changes_per_s:g} changes/s, {document.hours:g} h, seed {document.seed}"
    )
    first = (figures.first_max_s, policy.first_transmission_s, figures.first_missed)
    hour = (figures.hour_apart_max_s, policy.first_hour_repeat_s, figures.hour_missed)
    base = (figures.base_apart_max_s, policy.cycle_s, figures.base_missed)
    rows = [
        [what, f"{worst:.2f} s", f"{limit:g} s", "kept" if missed == 0 else f"missed {missed:,} times"]
        for what, (worst, limit, missed) in {
            "first transmission after a change": first,
            "spacing in the first hour": hour,
            "spacing of every card": base,
        }.items()
    ]
    out = console()
    out.print(table(["promise", "worst", "limit", "outcome"], rows, title))
    rest: list[list[Any]] = [
        ["changes", figures.changes],
        ["transmissions", figures.sent],
        ["first transmission, mean", f"{figures.first_mean_s:.2f} s"],
        ["first transmission, 99 of 100 within", f"{figures.first_p99_s:.2f} s"],
        ["of the rate used", f"{figures.sent_to_allocated:.2%}"],
        ["of the rate used in the busiest second", f"{figures.worst_second:.2%}"],
        ["shortfall announced", _when(figures.shortfall_at_s)],
        ["announced that it will be short", _when(figures.outlook_at_s)],
        ["first miss", _when(figures.missed_at_s)],
        ["bandwidth recommended", f"{document.recommended_kbps} kbit/s"],
    ]
    out.print(table(["figure", "value"], rest))
    if len(figures.operators) > 1:
        out.print(_operators(figures))


def _operators(figures: Figures) -> Table:
    rows = [
        [
            number,
            f"{one.weight:g}",
            one.changes,
            f"{one.first_p99_s:.2f} s",
            f"{one.first_max_s:.2f} s",
            f"{one.bulk_max_s:.0f} s",
            f"{one.hour_apart_max_s:.0f} s",
        ]
        for number, one in enumerate(figures.operators, 1)
    ]
    columns = ["operator", "weight", "changes", "first, 99 of 100", "first, worst", "of a mass", "first hour, apart"]
    return table(columns, rows)


def _when(moment: float | None) -> str:
    return "never" if moment is None else f"after {moment:,.0f} s"
