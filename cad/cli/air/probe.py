"""`cad probe`: what receivers really get."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cad.cli.shell.exit_codes import ExitCode
from cad.cli.shell.options import json_option

if TYPE_CHECKING:
    from cad.probe.report import Expected
    from cad.probe.watch import Look, Watch

_EVERY_S: Final = 1.0


def _system_id(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        found = int(value, 0)
    except ValueError:
        found = 0
    if not 1 <= found <= 0xFFFF:
        raise click.BadParameter(f"{value!r} is no CA_system_id: give 1..0xFFFF")
    return found


@click.command("probe")
@click.argument("source")
@click.option("--ca-system-id", callback=_system_id, metavar="ID", help="Whose EMMs and ECMs.  [default: first in CAT]")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take ca_system_id from this settings file.",
)
@click.option("--interface", metavar="NAME", help="Name or local address where multicast comes in.")
@click.option("--for", "for_s", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Listen for so long, then end.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0.2, 3600), default=_EVERY_S, show_default=True, help="Seconds."
)
@click.option("--rate-kbps", type=click.FloatRange(min=1), help="Rate of a recording without clock references (PCR).")
@click.option(
    "--cards",
    "cards_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of card numbers, one a line: the cards that should hear something.",
)
@click.option("--allocated-kbps", type=click.IntRange(min=1), help="Alarm when a second has more EMMs than this.")
@click.option("--min-share", type=click.FloatRange(0, 1), default=1.0, show_default=True, help="Cards to be heard.")
@click.option(
    "--max-period",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Longest crypto-period, seconds.",
)
@click.option(
    "--remember", type=click.FloatRange(min=1), default=24.0, show_default=True, help="Hours until a card is forgotten."
)
@click.option("--listen", metavar="HOST:PORT", help="Serve Prometheus metrics.")
@click.option("--textfile", type=click.Path(path_type=Path, dir_okay=False), help="Write metrics for node_exporter.")
@json_option
def command(source: str, as_json: bool, for_s: float | None, every_s: float, **options: Any) -> int:
    """Listen to a transport stream as a receiver does: a recording, udp://GROUP:PORT, rtp://GROUP:PORT, or "-".

    Shows whether the CAT is right, the rate of EMMs, how far apart each card hears its own, the share of cards heard
    in the last 30 and 60 minutes, ECMs and crypto-periods per service, and malformed sections. On a terminal it stays,
    live, until Ctrl-C; otherwise alarms are printed as they come. A recording, and --for, end with one report; exit
    code 4 says that something happened that the operator should be woken for. --json without an end prints a line
    every --every.
    """
    from cad.probe.metrics import ProbeMetrics
    from cad.probe.sources import open_source

    rate_kbps = options.pop("rate_kbps")
    listened = open_source(source, options.pop("interface"), rate_kbps and rate_kbps * 1000)
    with contextlib.closing(listened), contextlib.closing(ProbeMetrics(source)) as metrics:
        watch = _watch(listened, source, options)
        if options["listen"]:
            metrics.serve(options["listen"])
        ends = for_s is not None or not listened.live
        with _stopped_by_signals(watch, listened.live), _showing(as_json, ends) as show:

            def each(look: "Look") -> None:
                metrics.update(look.found)
                if options["textfile"]:
                    metrics.write(options["textfile"])
                show(look)

            last = watch.run(every_s, for_s, each)
            metrics.update(last.found)
            if options["textfile"]:
                metrics.write(options["textfile"])
    _show_last(last, as_json, ends)
    return ExitCode.CHECK_FAILED if ends and watch.alarms.woke else ExitCode.OK


def _watch(listened: Any, name: str, options: dict[str, Any]) -> "Watch":
    from cad.frame.clock import SystemClock
    from cad.probe.alarms import Limits
    from cad.probe.analysis import StreamProbe
    from cad.probe.watch import Watch

    system_id = options["ca_system_id"]
    if system_id is None and options["config"] is not None:
        from config.load import load

        system_id = load(options["config"]).ca.ca_system_id
    allocated = options["allocated_kbps"]
    limits = Limits(
        emm_bps=allocated and allocated * 1000, share=options["min_share"], ecm_stuck_s=options["max_period"]
    )
    expected = None if options["cards_file"] is None else _cards(options["cards_file"])
    return Watch(
        listened, name, StreamProbe(system_id, 3600 * options["remember"]), limits, SystemClock(), expected=expected
    )


def _cards(path: Path) -> "Expected":
    """Read card numbers, one a line; what follows # is a remark."""
    import numpy as np

    from cad.probe.report import Expected
    from protocol import card_number
    from protocol.errors import CardNumberError

    found: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            try:
                found.append(card_number.parse(text))
            except CardNumberError as error:
                raise CardNumberError(f"{path}, line {number}: {error}") from None
    return Expected(np.unique(np.array(found, np.uint64)))


@contextlib.contextmanager
def _stopped_by_signals(watch: "Watch", live: bool) -> Iterator[None]:
    """SIGINT and SIGTERM end a live watch in an orderly way: with its last report."""

    def stop(_number: int, _frame: object) -> None:
        watch.stopping = True

    signals = (signal.SIGINT, signal.SIGTERM) if live else ()
    before = {one: signal.signal(one, stop) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _showing(as_json: bool, ends: bool) -> Iterator[Callable[["Look"], None]]:
    """What is done with each report before the last."""
    from cad.cli.air.probe_view import alarm_line, report
    from cad.cli.shell.output import console

    def lines(look: "Look") -> None:
        for alarm in (*look.began, *look.over):
            click.echo(alarm_line(alarm, look.found.at))

    def documents(look: "Look") -> None:
        click.echo(look.found.model_dump_json())

    out = console()
    if as_json:
        yield (lambda _look: None) if ends else documents
    elif ends and not out.is_terminal:
        yield lambda _look: None
    elif not out.is_terminal:
        yield lines
    else:
        from rich.live import Live

        with Live(console=out, auto_refresh=False, screen=True) as live:
            yield lambda look: live.update(report(look.found), refresh=True)


def _show_last(last: "Look", as_json: bool, ends: bool) -> None:
    from cad.cli.air.probe_view import report
    from cad.cli.shell.output import console, show_json

    if not as_json:
        console().print(report(last.found))
    elif ends:
        show_json(last.found.model_dump(mode="json"))
    else:
        click.echo(last.found.model_dump_json())
