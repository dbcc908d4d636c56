"""Read the settings file: TOML in, `Settings` out, or one error that names everything there is to mend."""

import copy
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config import crosscheck
from config.errors import Problem, SettingsError
from config.settings import Settings
from config.toml_lines import Location, find_lines, with_line

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
SECRET_WORDS: Final = ("password", "passphrase", "secret", "master_key")


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
        found = _problems(error)
        found += _cross_problems_of_the_rest(raw, error)
    else:
        found = crosscheck.problems(settings)
        if not found:
            return settings
    raise SettingsError(source, [with_line(problem, lines or {}) for problem in found]) from None


def _problems(error: ValidationError) -> list[Problem]:
    found = [details for details in error.errors(include_url=False) if not _follows_from_another(details, error)]
    return [Problem(_spell(details["loc"]), _explain(details)) for details in found]


def _follows_from_another(details: ErrorDetails, error: ValidationError) -> bool:
    """Whether this only says again that something inside, or beside, is wrong."""
    if details["type"] == "default_factory_not_called":
        return True
    location = details["loc"]
    inner = (other["loc"] for other in error.errors(include_url=False))
    return details["type"] == "too_short" and any(one[: len(location)] == location != one for one in inner)


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


def _explain(details: ErrorDetails) -> str:
    match details["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return _unknown_key(details["loc"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a table"
        case "tuple_type":
            return "must be an array"
        case "string_pattern_mismatch" if "a-z0-9-" in details["msg"]:
            return "must be a short name of a-z, 0-9 and '-', at most 32 characters, such as 'north-1'"
        case _:
            text = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return text[:1].lower() + text[1:]


def _unknown_key(location: Location) -> str:
    key = str(location[-1])
    known = _keys_at(location[:-1])
    if any(word in key for word in SECRET_WORDS) and key not in known:
        files = [name for name in known if name.endswith("_file") or name == "credential"]
        return f"unknown key; secrets are never written into this file{': use ' + ' or '.join(files) if files else ''}"
    near = difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known here: {', '.join(sorted(known))}"


def _keys_at(location: Location) -> list[str]:
    """Return the keys that the table at this place may have."""
    model: type[BaseModel] | None = Settings
    for step in location:
        if isinstance(step, int) or model is None:
            continue
        field = model.model_fields.get(step)
        model = _table_of(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, Union, UnionType):
        return next((table for part in get_args(annotation) if (table := _table_of(part))), None)
    return None


def _spell(location: Iterable[str | int]) -> str:
    return ".".join(str(step) for step in location)
