"""`cad card pin`: the subscriber's PIN, typed on the reader where it has a keypad, else on the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.cli.cards.options import aid_option, choose_aid, choose_reader, names_option, settings_if_any
from cad.cli.cards.technician_options import reader_option
from cad.cli.shell.options import json_option

if TYPE_CHECKING:
    from cards.session import CardSession


@click.group("pin")
def group() -> None:
    """Try or change the subscriber's PIN.

    On a reader with a keypad the PIN is typed there, and this machine never sees it; else it is asked for on the
    terminal, without echo. It is never taken from the command line, the environment or a pipe.
    """


@group.command("verify")
@reader_option
@aid_option
@names_option
@json_option
def verify_command(reader: str | None, aid: bytes | None, config: Path | None, as_json: bool) -> None:
    """Try a PIN. A wrong one costs a try: after three the card takes none until the operator resets it."""
    _work(reader, choose_aid(aid, settings_if_any(config)), as_json, change=False)


@group.command("change")
@reader_option
@aid_option
@names_option
@json_option
def change_command(reader: str | None, aid: bytes | None, config: Path | None, as_json: bool) -> None:
    """Give the card another PIN, of four digits. Needs the old one; a new card, and one that was reset, has 0000."""
    _work(reader, choose_aid(aid, settings_if_any(config)), as_json, change=True)


def _work(reader: str | None, aid: bytes, as_json: bool, *, change: bool) -> None:
    from cad.cli.shell.output import show_json
    from cad.frame.core_dumps import forbid_core_dumps
    from cards import pcsc
    from cards.readers.pin_pad import Feature
    from cards.session import CardSession

    forbid_core_dumps()
    feature = Feature.MODIFY_PIN_DIRECT if change else Feature.VERIFY_PIN_DIRECT
    with pcsc.connect(choose_reader(pcsc.list_readers(), reader)) as connection:
        on_reader = feature in connection.features()
        # Before the card is reserved: a person takes his time.
        give = None if on_reader else _asked_for(change=change)
        with connection.transaction():
            session = CardSession(connection.transmit, aid)
            if give is not None:
                give(session)
            else:
                click.echo("type the PIN on the reader, then its OK key", err=True)
                session.type_pin(connection.type_pin, change=change)
        name = connection.reader
    done = "changed" if change else "right"
    if as_json:
        show_json({"reader": name, "pin": done, "typed_on": "reader" if on_reader else "terminal"})
    else:
        click.echo("the PIN is changed" if change else "the PIN is right")


def _asked_for(*, change: bool) -> "Callable[[CardSession], None]":
    """What gives the card the PIN, which is asked for now."""
    if not sys.stdin.isatty():
        raise click.UsageError("the reader has no keypad, and the PIN is asked for on a terminal only: this is none")
    old = str(click.prompt("PIN", hide_input=True, err=True))
    if not change:
        return lambda session: session.give_pin(old)
    new = str(click.prompt("New PIN", hide_input=True, confirmation_prompt=True, err=True))
    return lambda session: session.change_pin(old, new)
