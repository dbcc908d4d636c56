"""The settings of a technician's laptop: a small TOML file of its own, beside the certificate."""

import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationError

from config.errors import Problem, SettingsError
from config.fields import Aid, Table
from config.problems import problems_of

FILE_BYTES_MAX: Final = 64 * 1024


def _home(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


def _url(value: object) -> object:
    if not isinstance(value, str) or not value.startswith("https://") or len(value) > 300:
        raise ValueError("write the headend's address as https://host:port")
    return value.rstrip("/")


OwnPath = Annotated[Path, Field(strict=False), BeforeValidator(_home)]


class TechnicianFile(Table):
    """The whole file. A path may begin with `~`; one that is not absolute counts from the file's own folder."""

    headend: Annotated[str, BeforeValidator(_url)]
    ca_file: OwnPath
    cert_file: OwnPath
    key_file: OwnPath
    state_dir: OwnPath = Path("~/.local/state/cad")
    card_aid: Aid = bytes.fromhex("F0434144454D4D01")


def load(path: Path) -> TechnicianFile:
    """Read the file. Raises SettingsError with every problem."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from None
    if len(data) > FILE_BYTES_MAX:
        raise SettingsError(str(path), [Problem("", "is too large for a technician's settings")])
    try:
        raw = tomllib.loads(data.decode())
        found = TechnicianFile.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(str(path), problems_of(error, TechnicianFile)) from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(str(path), [Problem("", f"is not TOML: {error}")]) from None
    folder = path.absolute().parent
    absolute = {name: folder / getattr(found, name).expanduser() for name in _PATHS}
    return found.model_copy(update=absolute)


_PATHS: Final = ("ca_file", "cert_file", "key_file", "state_dir")
