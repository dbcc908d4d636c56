"""`cad demo`: the main job on embedded defaults, shown to a person."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import click
from rich.console import Console

from cad.demo import scenario
from cad.demo.narrator import Narrator
from cad.demo.scenario import DemoResult, Stage
from cad.frame import logs
from cad.frame.clock import SystemClock


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end and nothing else.")
@click.option(
    "--stay/--no-stay", default=None, help="Leave the daemon up afterwards until Ctrl-C.  [default: on a terminal]"
)
@click.option("--portal", "for_portal", is_flag=True, help="Run a sandbox to develop a portal against, until Ctrl-C.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000),
    help="With --portal: how fast the clock runs; 43200 is a month in a minute.  [default: 1]",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="With --portal: the broker's port.  [default: a free one]")
def command(as_json: bool, stay: bool | None, for_portal: bool, rate: float | None, port: int | None) -> None:
    """Show the main job: an order over MQTT opens a channel on a TV card.

    Starts a broker, the daemon, a multiplexer and two receivers with a card each, all on loopback and in a directory
    that is gone afterwards. Ends with exit code 0 when the ordered channel opened on the one card and stayed closed on
    the other.

    With --portal nothing is shown, but a headend stays up for a portal to be tried against, with four cards in
    receivers and a clock that can be sped up (docs/portal/README.md). --json then prints where everything is.
    """
    if not for_portal and (rate is not None or port is not None):
        raise click.UsageError("--rate and --port go with --portal")
    logs.configure("error", "console")
    console = Console(highlight=False)
    if stay is None:
        stay = sys.stdout.isatty() and not as_json
    try:
        if for_portal:
            from cad.cli import demo_portal

            asyncio.run(_until_told(demo_portal.run(console, 1.0 if rate is None else rate, port, as_json)))
            return
        result = asyncio.run(_show(console, as_json, stay))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None
    if as_json:
        click.echo(json.dumps(document(result)))


def document(result: DemoResult) -> dict[str, Any]:
    """The demo's result as `--json` prints it. Seconds from the publication of the order."""
    return {
        "channel": result.channel,
        "card": result.card,
        "closed_card": result.other_card,
        "broker": result.broker,
        "replied_after_s": round(result.replied_after_s, 3),
        "on_air_after_s": round(result.on_air_after_s, 3),
        "visible_after_s": round(result.visible_after_s, 3),
        "on_air_by": result.reply["on_air_by"],
        "visible_by": result.reply["visible_by"],
    }


async def _show(console: Console, as_json: bool, stay: bool) -> DemoResult:
    tell = Narrator(console, SystemClock(), silent=as_json)
    _end_in_order()
    async with scenario.staged(tell) as stage:
        result = await scenario.play(stage, tell)
        if not as_json:
            console.print(_headline(result))
        if stay:
            _invite(console, stage)
            await _until_interrupted(stage)
    return result


async def _until_told(sandbox: Coroutine[Any, Any, None]) -> None:
    _end_in_order()
    await sandbox


def _end_in_order() -> None:
    """What was started is stopped, and the directory removed, however the demo is ended."""
    itself = asyncio.current_task()
    assert itself is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, itself.cancel)


def _headline(result: DemoResult) -> str:
    return f"{result.channel} became visible on card {result.card} after {result.visible_after_s:.2f} s."


def _invite(console: Console, stage: Stage) -> None:
    settings = stage.place.settings
    console.print("\nThe daemon stays up until Ctrl-C. Look around, in another terminal:\n")
    for words in ("status", f"explain {stage.rooms[0].number}", "carousel top"):
        console.print(f"  .venv/bin/cad {words} --socket {settings.node.socket}")
    console.print(f"  mosquitto_sub -p {settings.mqtt.port} -V 5 -v -t 'cad/v1/#'")
    console.print(f"  metrics and probes: {settings.node.http_listen}, /metrics /livez /readyz")
    console.print(f"  the daemon's log: {stage.log_path}")


async def _until_interrupted(stage: Stage) -> None:
    await asyncio.get_running_loop().run_in_executor(None, stage.daemon.wait)
    raise scenario.DemoFailedError(f"the daemon ended by itself; its log ends:\n{stage.log_tail()}")
