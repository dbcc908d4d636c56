"""`cad card provision | batch | stock | labels`: from chips of a vendor's box to cards in stock."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cad.cli.cards.options import choose_reader
from cad.cli.shell.options import daemon_options

if TYPE_CHECKING:
    from cad.cli.cards.batch_view import View
    from cad.cli.shell.client import DaemonClient
    from cad.frame.clock import Clock
    from cad.stock.batch_file import BatchOrder
    from cad.stock.desk import Numbers
    from cad.stock.journal import ChipRecord, Journal
    from cad.stock.maker import Keys
    from config.settings import Settings

SHEETS: Final = ("card", "a4-24", "a4-65")
_file = click.Path(path_type=Path, dir_okay=False)
_again_option = click.option("--again", is_flag=True, help="Try chips once more that were put aside.")


@click.command("provision")
@click.option("--operator", required=True, help="Whose card it becomes.")
@click.option("--transport-keys", "delivery", type=_file, required=True, help="The delivery file of the chip.")
@click.option("--issuer", default=None, help="The name on the chip.  [default: the operator's id]")
@click.option("--number", default=None, help="The printed number it gets.  [default: the next free one]")
@click.option("--reader", default=None, help="The reader, by its name or a part of it.  [default: the one with a card]")
@click.option("--journal", "journal_path", type=_file, default=None, help="[default: cad-card-SERIAL.journal]")
@_again_option
@daemon_options
def provision_command(
    operator: str,
    delivery: Path,
    issuer: str | None,
    number: str | None,
    reader: str | None,
    journal_path: Path | None,
    again: bool,
    config: Path,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Make one card of the chip in a reader: keys, number, issuer; then it is in stock.

    Interrupted, it is finished by the same command. Needs the key store of the settings and the running daemon.
    """
    from cad.frame.clock import SystemClock
    from cad.stock.journal import Journal
    from cad.stock.maker import Maker
    from cards import pcsc
    from config.load import load

    settings = load(config)
    with _numbers(config, socket_path) as (_, numbers):
        keys = _keys(settings, delivery)
        with pcsc.connect(choose_reader(pcsc.list_readers(), reader), exclusive=True) as connection:
            serial = _serial_of(connection.transmit)
            order = _order_of_one(serial, operator, delivery, issuer, number)
            path = journal_path or Path(f"cad-card-{serial}.journal")
            with Journal.open(path, _spelling(SystemClock())) as journal:
                maker = Maker(order, settings.ca.card_aid, keys, numbers, journal, again=again)
                maker.begin()
                made = maker.make(connection.transmit, connection.reader)
                _show_card(journal.chips[made.serial], made.already, as_json)


@click.command("batch")
@click.argument("file", type=_file)
@click.option(
    "--reader", "readers", multiple=True, help="Use this reader only; may be given repeatedly.  [default: all]"
)
@click.option("--labels", "sheet", type=click.Choice(SHEETS), default=None, help="Make labels too, on such sheets.")
@_again_option
@daemon_options
def batch_command(
    file: Path,
    readers: tuple[str, ...],
    sheet: str | None,
    again: bool,
    config: Path,
    socket_path: Path | None,
    as_json: bool,
) -> int:
    """Make the batch of cards that FILE orders (docs/technician.md), in all readers at the same time.

    Put chips in and take cards out as each reader says; Ctrl-C ends after the cards under way. The same command goes on
    where it ended, whatever ended it. Beside FILE it keeps a journal (.journal), the result (.csv) and labels (.pdf).
    """
    from cad.frame.clock import SystemClock
    from cad.stock import batch_file, results
    from cad.stock.journal import Journal
    from config.load import load

    order, settings = batch_file.read(file), load(config)
    clock = SystemClock()
    with (
        _numbers(config, socket_path) as (_, numbers),
        Journal.open(file.with_suffix(".journal"), _spelling(clock)) as journal,
        _asked_to_stop() as stopped,
    ):
        keys = _keys(settings, order.transport_keys)
        try:
            made = _run_line(order, settings, keys, numbers, journal, clock, readers, stopped, as_json, again=again)
        finally:
            results.write(file.with_suffix(".csv"), journal.chips.values())
    if sheet is not None:
        _write_labels(file.with_suffix(".csv"), file.with_suffix(".pdf"), sheet, order.issuer)
    return _close(order, made, file, journal.chips.values(), as_json)


@click.command("stock")
@daemon_options
def stock_command(config: Path, socket_path: Path | None, as_json: bool) -> None:
    """Show the batches of cards that were made or begun, and how many of them are assigned."""
    from cad.cli.shell.client import daemon
    from cad.cli.shell.output import console, show_json, table

    with daemon(config, socket_path) as client:
        found = client.get("/v1/stock")
    if as_json:
        show_json(found)
        return
    columns = ("operator", "batch", "first", "last", "numbers", "begun", "made", "assigned", "reserved_at")
    rows = [[batch[column] for column in columns] for batch in found["batches"]]
    console().print(table([column.replace("_", " ") for column in columns], rows))


@click.command("labels")
@click.argument("result", type=_file)
@click.option("--output", type=_file, required=True, help="The PDF to write, in place of an older one.")
@click.option("--sheet", type=click.Choice(SHEETS), default="card", show_default=True, help="How they lie on a page.")
@click.option("--issuer", default="", help="A name above the number.")
def labels_command(result: Path, output: Path, sheet: str, issuer: str) -> None:
    """Make labels with barcode, as PDF, of the cards in the RESULT file of a batch."""
    count = _write_labels(result, output, sheet, issuer)
    click.echo(f"{output}: {count} labels")


def _run_line(
    order: "BatchOrder",
    settings: "Settings",
    keys: "Keys",
    numbers: "Numbers",
    journal: "Journal",
    clock: "Clock",
    readers: tuple[str, ...],
    stopped: Callable[[], bool],
    as_json: bool,
    *,
    again: bool,
) -> int:
    from cad.cli.cards.batch_view import Pace
    from cad.stock.line import ProductionLine
    from cad.stock.maker import Maker
    from cards import pcsc
    from cards.readers.watch import ReaderWatch

    # The maker tells the line of steps, the line runs the maker.
    lines: list[ProductionLine] = []
    maker = Maker(
        order,
        settings.ca.card_aid,
        keys,
        numbers,
        journal,
        lambda reader, step: lines[0].step(reader, step),
        again=again,
    )
    head = maker.begin()
    wanted = head.last - head.first + 1
    pace = Pace(wanted, maker.made, clock.monotonic())
    with _view(pace, clock, as_json) as view:
        lines.append(
            ProductionLine(
                maker,
                lambda name: pcsc.connect(name, exclusive=True),
                lambda tell: ReaderWatch(pcsc.Context, tell),
                view.tell,
                readers,
            )
        )
        return lines[0].run(wanted, lambda: not stopped())


def _view(pace: Any, clock: "Clock", as_json: bool) -> "View":
    from cad.cli.cards.batch_view import JsonView, LineView, LiveView
    from cad.cli.shell.output import console

    if as_json:
        return JsonView(pace)
    return LiveView(pace, clock.monotonic) if console().is_terminal else LineView(pace, clock.monotonic)


def _close(order: "BatchOrder", made: int, file: Path, chips: Any, as_json: bool) -> int:
    """Say how the batch stands; the exit code tells whether it is complete."""
    from cad.cli.shell.exit_codes import ExitCode

    aside = {chip.serial: chip.aside for chip in chips if chip.aside is not None}
    if as_json:
        result = str(file.with_suffix(".csv"))
        click.echo(
            json.dumps({"batch": order.batch, "made": made, "count": order.count, "aside": aside, "result": result})
        )
    else:
        click.echo(f"batch {order.batch}: {made} of {order.count} cards are in stock; {file.with_suffix('.csv')}")
        for serial, why in aside.items():
            click.echo(f"put aside: chip {serial}: {why}")
        if made < order.count:
            click.echo("not complete: the same command goes on")
    return ExitCode.OK if made >= order.count else ExitCode.ABORTED


def _write_labels(result: Path, output: Path, sheet: str, issuer: str) -> int:
    from cad.stock import labels, results

    rows = results.read(result)
    results.replace_file(output, labels.render([row.number for row in rows], labels.SHEETS[sheet], issuer))
    return len(rows)


@contextmanager
def _numbers(config: Path, socket_path: Path | None) -> "Iterator[tuple[DaemonClient, Numbers]]":
    from cad.cli.shell.client import daemon
    from cad.stock.desk import DaemonNumbers, PatientNumbers

    with daemon(config, socket_path) as client:
        yield client, PatientNumbers(DaemonNumbers(client), time.sleep)


def _keys(settings: "Settings", delivery: Path) -> "Keys":
    from cad import keystore
    from cad.stock.maker import Keys
    from cad.stock.transport_keys import read_delivery

    master = keystore.load(settings.keys)
    return Keys(master, read_delivery(delivery, master), os.urandom)


def _serial_of(transmit: Callable[[bytes], bytes]) -> str:
    from cards.apdu import ResponseApdu
    from cards.globalplatform.dialogue import link, run
    from cards.globalplatform.personalisation import read_chip

    chip = run(read_chip(link(extended=False)), lambda command: ResponseApdu.decode(transmit(command.encode())))
    return chip.serial.hex().upper()


def _order_of_one(serial: str, operator: str, delivery: Path, issuer: str | None, number: str | None) -> "BatchOrder":
    from pydantic import ValidationError

    from cad.stock.batch_file import BatchOrder

    said: dict[str, Any] = {
        "batch": f"single-{serial}",
        "operator": operator,
        "count": 1,
        "transport_keys": str(delivery),
    }
    said |= {"issuer": issuer} if issuer is not None else {}
    said |= {"first": number} if number is not None else {}
    try:
        return BatchOrder.model_validate(said)
    except ValidationError as error:
        one = error.errors()[0]
        name = {"first": "--number"}.get(str(one["loc"][0]), f"--{one['loc'][0]}")
        raise click.UsageError(f"{name}: {one['msg']}") from None


def _show_card(chip: "ChipRecord", already: bool, as_json: bool) -> None:
    from cad.cli.shell.output import show_json
    from protocol import card_number

    number = card_number.spell(chip.address)
    if as_json:
        show_json({"number": number, "serial": chip.serial, "already": already, "key_check_values": chip.check_values})
        return
    click.echo(f"card {number} {'was made before' if already else 'is made, and in stock'}")
    click.echo(f"chip {chip.serial}")
    click.echo("key check values " + " ".join(f"{name}={value}" for name, value in sorted(chip.check_values.items())))


def _spelling(clock: "Clock") -> Callable[[], str]:
    from cad.frame.clock import spell

    return lambda: spell(clock.now())


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; a second one ends the program at once."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])
        click.echo("ending after the cards under way …", err=True)

    for number in before:
        signal.signal(number, stop)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
