"""`cad card`: the card in a reader, and cards in software."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.cli.cards.options import aid_option, choose_aid, choose_reader, names_option, settings_if_any
from cad.cli.shell.options import json_option

if TYPE_CHECKING:
    from cad.cli.cards.report import CardDocument
    from cards.pcsc import Connection
    from cards.software_card import SoftwareCard
    from config.settings import Settings


@click.group("card")
def group() -> None:
    """Read a card in a reader, or run one in software."""


@group.command("read")
@click.option("--reader", default=None, help="The reader, by its name or a part of it.  [default: the one with a card]")
@click.option("--all", "all_readers", is_flag=True, help="Read the cards in all readers.")
@aid_option
@names_option
@json_option
def read_command(reader: str | None, all_readers: bool, aid: bytes | None, config: Path | None, as_json: bool) -> int:
    """Show a card's number, state, versions, rights and messages."""
    from cad.cli.cards.view import card_view
    from cad.cli.shell.output import console, show_json
    from cards import pcsc

    if reader is not None and all_readers:
        raise click.UsageError("give --reader or --all, not both")
    settings = settings_if_any(config)
    wanted = choose_aid(aid, settings)
    states = pcsc.list_readers()
    if all_readers:
        return _read_all([state.name for state in states if state.atr], wanted, settings, as_json)
    with pcsc.connect(choose_reader(states, reader)) as connection:
        document = _read(connection, wanted, settings)
    if as_json:
        show_json(document.model_dump(mode="json"))
    else:
        console().print(card_view(document, settings))
    return 0


@group.command("soft")
@click.argument("state", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--create", "number", default=None, help="Make a new card of this number first, with the settings' keys.")
@click.option("--key-version", type=click.IntRange(0, 255), default=1, show_default=True, help="With --create.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the virtual reader (vpcd) listens.")
@click.option("--port", type=click.IntRange(1, 65_535), default=35_963, show_default=True, help="Its port.")
@aid_option
@names_option
def soft_command(
    state: Path, number: str | None, key_version: int, host: str, port: int, aid: bytes | None, config: Path | None
) -> None:
    """Run the software card in the file STATE in a virtual reader of pcscd, until Ctrl-C.

    The file holds the card's keys. The card goes in again by itself when pcscd is restarted.
    """
    from cad.frame.core_dumps import forbid_core_dumps
    from cards.software_card import SoftwareCard
    from cards.vpcd import VirtualSlot
    from protocol import card_number

    forbid_core_dumps()
    settings = settings_if_any(config)
    wanted = choose_aid(aid, settings)
    if number is not None:
        card = _create(state, card_number.parse(number), key_version, wanted, settings)
    else:
        card = SoftwareCard.open(state, wanted)
    with card, VirtualSlot(card, host, port, keep=True) as slot:
        click.echo(f"card {card_number.spell(card.memory.address)} is in the virtual reader at {host} port {port}")
        _wait_for_the_end(slot.wait)
    click.echo("the card is out")


def _read(connection: "Connection", aid: bytes, settings: "Settings | None") -> "CardDocument":
    from cad.cli.cards.report import card_document
    from cad.frame.clock import SystemClock
    from cards.errors import WrongCardError
    from cards.readers.names import card_names
    from cards.session import CardSession

    with connection.transaction():
        try:
            session = CardSession(connection.transmit, aid)
            info, letters = session.read_info(), session.letters()
        except WrongCardError as error:
            names = card_names(connection.atr())
            perhaps = f"; by its answer to reset it may be: {names[0]}" if names else ""
            raise WrongCardError(error.message + perhaps, error.advice) from None
    return card_document(info, connection.reader, SystemClock().now(), settings, letters)


def _read_all(readers: list[str], aid: bytes, settings: "Settings | None", as_json: bool) -> int:
    """Read all cards at the same time; the exit code is that of a card error when one could not be read."""
    from cad.cli.cards.report import CardsDocument, FailureDocument
    from cad.cli.cards.view import card_view
    from cad.cli.shell.exit_codes import ExitCode
    from cad.cli.shell.output import console, show_json
    from cards import pcsc
    from cards.errors import CardsError, NoCardError
    from cards.readers.pool import ReaderPool

    if not readers:
        raise NoCardError("there is no card in any reader")
    cards: list[CardDocument] = []
    failures: list[FailureDocument] = []
    with ReaderPool(pcsc.connect) as pool:
        jobs = [pool.submit(reader, lambda connection: _read(connection, aid, settings)) for reader in readers]
        for reader, job in zip(readers, jobs, strict=True):
            try:
                cards.append(job.result())
            except CardsError as error:
                failures.append(FailureDocument(reader=reader, error=error.message, advice=error.advice))
    if as_json:
        show_json(CardsDocument(cards=cards, failures=failures).model_dump(mode="json"))
    else:
        for document in cards:
            console().print(card_view(document, settings))
        for failure in failures:
            click.echo(f"{failure.reader}: {failure.error}; {failure.advice}", err=True)
    return ExitCode.CARD if failures else ExitCode.OK


def _create(state: Path, address: int, key_version: int, aid: bytes, settings: "Settings | None") -> "SoftwareCard":
    """A new card with the keys that the headend of these settings uses for it."""
    from cad import keystore
    from cards.memory.contents import CardKeys
    from cards.software_card import SoftwareCard
    from emm.keys import KeyLadder

    if settings is None:
        raise click.UsageError(
            "--create takes the card's keys from the headend's master key: give its settings by --config"
        )
    ladder = KeyLadder(keystore.load(settings.keys))
    return SoftwareCard.create(state, address, CardKeys.derive(ladder, address, key_version), aid)


def _wait_for_the_end(card_is_out: Callable[[float], bool]) -> None:
    """Return on SIGTERM or Ctrl-C, or when the card is out."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not asked.wait(0.2) and not card_is_out(0):
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
