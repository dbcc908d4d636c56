"""Read a catalogue file: TOML or JSON in, a checked document out, or one error with everything there is to mend."""

import json
import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any, Final, NoReturn

from cad.errors import CatalogueFileError
from config.errors import Problem
from config.toml_lines import Location, find_lines, with_line
from protocol.portal.commands import catalogue
from protocol.portal.commands.catalogue import CatalogueError

BYTES_MAX: Final = 2 * 1024 * 1024


def read(path: Path) -> dict[str, Any]:
    """Return the catalogue as plain JSON. A name ending in .json is JSON, any other TOML. Raises CatalogueFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            _refuse(path, [Problem("", f"is larger than {BYTES_MAX} bytes; this is no catalogue")])
        text = content.decode()
        found, lines = _json(text) if path.suffix == ".json" else _toml(text)
    except OSError as error:
        _refuse(path, [Problem("", f"cannot be read: {error.strerror}")])
    except UnicodeDecodeError as error:
        _refuse(path, [Problem("", f"is not UTF-8 (byte {error.start})")])
    except ValueError as error:
        _refuse(path, [Problem("", f"is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}")])
    except RecursionError:
        _refuse(path, [Problem("", "is nested too deeply")])
    try:
        catalogue.read(found)
    except CatalogueError as error:
        _refuse(path, [with_line(Problem(one.field, one.text), lines) for one in error.errors])
    return found


def _toml(text: str) -> tuple[dict[str, Any], Mapping[Location, int]]:
    # A time that TOML knows as such is spelled as it stands in a command.
    plain = json.dumps(tomllib.loads(text), default=_spell)
    return json.loads(plain), find_lines(text)


def _json(text: str) -> tuple[dict[str, Any], Mapping[Location, int]]:
    return json.loads(text, object_pairs_hook=_each_once), {}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _spell(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no spelling in JSON")


def _refuse(path: Path, problems: list[Problem]) -> NoReturn:
    raise CatalogueFileError("\n".join([f"{path} cannot be used:", *(f"  {one}" for one in problems)])) from None
