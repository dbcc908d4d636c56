"""What pydantic finds wrong with a file, in the words of whoever has to mend it."""

import difflib
from collections.abc import Iterable
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.errors import Problem
from config.toml_lines import Location

SECRET_WORDS: Final = ("password", "passphrase", "secret", "master_key")


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Return what is wrong with a file of that model, each at its place; what only follows from another is left out."""
    found = [details for details in error.errors(include_url=False) if not _follows_from_another(details, error)]
    return [Problem(_spell(details["loc"]), _explain(details, model)) for details in found]


def _follows_from_another(details: ErrorDetails, error: ValidationError) -> bool:
    """Whether this only says again that something inside, or beside, is wrong."""
    if details["type"] == "default_factory_not_called":
        return True
    location = details["loc"]
    inner = (other["loc"] for other in error.errors(include_url=False))
    return details["type"] == "too_short" and any(one[: len(location)] == location != one for one in inner)


def _explain(details: ErrorDetails, model: type[BaseModel]) -> str:
    match details["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return _unknown_key(details["loc"], model)
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a table"
        case "tuple_type":
            return "must be an array"
        case "string_pattern_mismatch" if "a-z0-9-" in details["msg"]:
            return "must be a short name of a-z, 0-9 and '-', at most 32 characters, such as 'north-1'"
        case _:
            text = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return text[:1].lower() + text[1:]


def _unknown_key(location: Location, model: type[BaseModel]) -> str:
    key = str(location[-1])
    known = _keys_at(location[:-1], model)
    if any(word in key for word in SECRET_WORDS) and key not in known:
        files = [name for name in known if name.endswith("_file") or name == "credential"]
        return f"unknown key; secrets are never written into this file{': use ' + ' or '.join(files) if files else ''}"
    near = difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known here: {', '.join(sorted(known))}"


def _keys_at(location: Location, root: type[BaseModel]) -> list[str]:
    """Return the keys that the table at this place may have."""
    model: type[BaseModel] | None = root
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
