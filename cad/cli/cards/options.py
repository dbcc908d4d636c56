"""Options and choices that `cad reader` and `cad card` share."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cad.cli.shell.options import DEFAULT_CONFIG, Decorator

if TYPE_CHECKING:
    from cards.readers.state import ReaderState
    from config.settings import Settings


def _parse_aid(_context: click.Context, _parameter: click.Parameter, value: str | None) -> bytes | None:
    """An application identifier, 5 to 16 bytes in hexadecimal (ISO/IEC 7816-4 clause 12.2.3)."""
    if value is None:
        return None
    try:
        aid = bytes.fromhex(value)
    except ValueError:
        raise click.BadParameter("write hexadecimal digits, such as F0434144454D4D01") from None
    if not 5 <= len(aid) <= 16:
        raise click.BadParameter(f"an application identifier has 5 to 16 bytes, not {len(aid)}")
    return aid


aid_option: Decorator = click.option(
    "--aid",
    metavar="HEX",
    default=None,
    callback=_parse_aid,
    help="The card application's identifier.  [default: that of the settings]",
)

names_option: Decorator = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    envvar="CAD_CONFIG",
    show_envvar=True,
    help=f"Settings that name the products.  [default: {DEFAULT_CONFIG} where it can be read, else numbers only]",
)


receiver_option: Decorator = click.option(
    "--receiver",
    "receiver_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Who this program is to a paired card: the file that cad keys receiver made.",
)


def settings_if_any(config: Path | None) -> "Settings | None":
    """The settings asked for; without --config those of this machine, where there are any. Raises SettingsError."""
    import os

    from config.load import load

    if config is not None:
        return load(config)
    return load(DEFAULT_CONFIG) if os.access(DEFAULT_CONFIG, os.R_OK) else None


def choose_aid(aid: bytes | None, settings: "Settings | None") -> bytes:
    """The application identifier: --aid, else that of the settings, else the default."""
    from cards.application import DEFAULT_AID

    return aid or (settings.ca.card_aid if settings else DEFAULT_AID)


def choose_reader(states: "list[ReaderState]", name: str | None) -> str:
    """The reader to use: the one named (a part of its name will do, if only one has it), or the one that holds a card.

    Raises NoReaderError, NoCardError, CardUnresponsiveError or AmbiguousReaderError, which say what to do.
    """
    from cards.errors import AmbiguousReaderError, CardUnresponsiveError, NoCardError, NoReaderError
    from cards.readers.state import CardPresence

    if not states:
        raise NoReaderError("no reader is connected", "plug a reader in and look at: cad reader list")
    listed = ", ".join(state.name for state in states)
    if name is not None:
        fitting = [state.name for state in states if state.name == name]
        fitting = fitting or [state.name for state in states if name.casefold() in state.name.casefold()]
        if not fitting:
            raise NoReaderError(f"there is no reader named {name!r}; connected are: {listed}")
        if len(fitting) > 1:
            raise AmbiguousReaderError(f"{name!r} fits several readers: {', '.join(fitting)}")
        return fitting[0]
    with_card = [state.name for state in states if state.presence is CardPresence.PRESENT]
    if len(with_card) > 1:
        raise AmbiguousReaderError(f"there are cards in several readers: {', '.join(with_card)}")
    if not with_card:
        mute = [state.name for state in states if state.presence is CardPresence.MUTE]
        if mute:
            raise CardUnresponsiveError(f"the card in {mute[0]} does not answer to reset")
        raise NoCardError(f"there is no card in any reader ({listed})")
    return with_card[0]
