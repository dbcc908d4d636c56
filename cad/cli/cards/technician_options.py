"""Options of the commands that a technician uses, and what they stand for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cad.cli.shell.options import Decorator

if TYPE_CHECKING:
    from cad.field.work import FieldWork
    from config.technician_file import TechnicianFile

DEFAULT_FILE: Final = Path("~/.config/cad/technician.toml")

technician_option: Decorator = click.option(
    "--technician",
    "technician",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    envvar="CAD_TECHNICIAN",
    show_envvar=True,
    help="The technician's settings: headend, certificate, state directory.",
)

reader_option: Decorator = click.option(
    "--reader", default=None, help="The reader, by its name or a part of it.  [default: the one with a card]"
)

offline_option: Decorator = click.option(
    "--offline", is_flag=True, help="Do not ask the headend: use the extract taken along."
)


def load_file(path: Path) -> "TechnicianFile":
    """The technician's settings. Raises SettingsError."""
    from config import technician_file

    return technician_file.load(path.expanduser())


@contextmanager
def field_work(path: Path, offline: bool) -> Iterator["FieldWork"]:
    """All that is needed to work on cards. Raises SettingsError, StateError, TlsFilesError."""
    from cad.field.api import HeadendApi
    from cad.field.laptop import Laptop
    from cad.field.work import FieldWork
    from cad.frame.clock import SystemClock

    settings = load_file(path)
    api = None if offline else HeadendApi(settings)
    try:
        yield FieldWork(api, Laptop(settings.state_dir), SystemClock(), settings.card_aid)
    finally:
        if api is not None:
            api.close()
