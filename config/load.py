"""Read the settings file: TOML in, `Settings` out, or one error that names everything there is to mend."""

import copy
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from config import crosscheck
from config.errors import Problem, SettingsError
from config.problems import problems_of
from config.settings import Settings
from config.toml_lines import Location, find_lines, with_line

FILE_BYTES_MAX: Final = 4 * 1024 * 1024


def load(path: Path) -> Settings:
    """Read the file. Raises SettingsError with every problem, each with its TOML path and line."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from None
    return loads(data, str(path))


def loads(data: bytes, source: str = "settings") -> Settings:
    """Read settings from bytes of TOML. Raises SettingsError, and nothing else, on any input."""
    if len(data) > FILE_BYTES_MAX:
        raise SettingsError(
            source, [Problem("", f"is larger than {FILE_BYTES_MAX} bytes; this is not a settings file")]
        )
    try:
        text = data.decode()
        raw = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise SettingsError(source, [Problem("", f"is not UTF-8 (byte {error.start})")]) from None
    except ValueError as error:
        raise SettingsError(source, [Problem("", f"is not TOML: {error}")]) from None
    except RecursionError:
        raise SettingsError(source, [Problem("", "is not TOML of ours: nested too deeply")]) from None
    return from_mapping(raw, source, find_lines(text))


def from_mapping(
    raw: Mapping[str, Any], source: str = "settings", lines: Mapping[Location, int] | None = None
) -> Settings:
    """Check settings that are parsed already. Raises SettingsError with every problem."""
    try:
        settings = Settings.model_validate(dict(raw))
    except ValidationError as error:
        found = problems_of(error, Settings)
        found += _cross_problems_of_the_rest(raw, error)
    else:
        found = crosscheck.problems(settings)
        if not found:
            return settings
    raise SettingsError(source, [with_line(problem, lines or {}) for problem in found]) from None


def _cross_problems_of_the_rest(raw: Mapping[str, Any], error: ValidationError) -> list[Problem]:
    """Check across tables with the offending keys left out, so that one typing mistake does not hide the rest."""
    rest = copy.deepcopy(dict(raw))
    for details in error.errors(include_url=False):
        _drop(rest, details["loc"])
    try:
        return crosscheck.problems(Settings.model_validate(rest))
    except ValidationError:
        return []


def _drop(raw: Any, location: Location) -> None:
    try:
        for step in location[:-1]:
            raw = raw[step]
    except (LookupError, TypeError):
        return
    if isinstance(raw, dict) and location:
        raw.pop(location[-1], None)
