"""`python -m tests.support.portal_releases`: freeze the present schemas; and whether new ones keep to old ones."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from protocol.portal.documents import schemas
from protocol.portal.version import SCHEMAS

FOLDER: Final = Path(__file__).parents[1] / "vectors" / "portal-schemas"
Schema = dict[str, Any]
NOT_MORE: Final = ("minLength", "minItems", "minProperties", "minimum")
NOT_LESS: Final = ("maxLength", "maxItems", "maxProperties", "maximum")


def present() -> dict[str, Schema]:
    """All messages as they are, without what is for readers only."""
    return {one.name: _bare(one.schema()) for one in schemas.messages()}


def frozen() -> dict[str, dict[str, Schema]]:
    """The schemas of each version that was frozen."""
    return {file.stem: json.loads(file.read_text()) for file in FOLDER.glob("*.json")}


def broken(old: dict[str, Schema], new: dict[str, Schema]) -> list[str]:
    """What a portal written against `old` may trip over in `new`."""
    found = [f"{name}: it is no more" for name in old.keys() - new.keys()]
    for name in old.keys() & new.keys():
        taken = name.startswith("command.")
        found += [f"{name}{text}" for text in _differs(old[name], new[name], (old[name], new[name]), taken)]
    return sorted(found)


def _differs(old: Schema, new: Schema, documents: tuple[Schema, Schema], taken: bool) -> Iterator[str]:
    old, new = _followed(old, documents[0]), _followed(new, documents[1])
    if "anyOf" in old or "oneOf" in old:
        there = _alternatives(new)
        for one in _alternatives(old):
            if not any(not list(_differs(one, each, documents, taken)) for each in there):
                yield f": an alternative is no more: {json.dumps(one)[:80]}"
        return
    if "anyOf" in new or "oneOf" in new:  # more than before may be taken, but not published
        if not taken or all(list(_differs(old, each, documents, taken)) for each in _alternatives(new)):
            yield ": it became something else"
        return
    for key in ("type", "format", "pattern", "const"):
        if key in new and old.get(key) != new[key]:
            yield f": {key} was {old.get(key)}, is {new[key]}"
    if not taken and "type" in old and "type" not in new:
        yield ": type is open now"
    if taken:
        yield from _narrowed(old, new)
    had, has = set(old.get("required", ())), set(new.get("required", ()))
    for name in has - had if taken else had - has:
        yield f".{name}: {'it is wanted now' if taken else 'it need not be there any more'}"
    for keyword in ("properties", "patternProperties"):
        for name, field in old.get(keyword, {}).items():
            if name not in new.get(keyword, {}):
                yield f".{name}: it is no more"
            else:
                yield from (f".{name}{text}" for text in _differs(field, new[keyword][name], documents, taken))
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from (f"[]{text}" for text in _differs(old["items"], new["items"], documents, taken))


def _narrowed(old: Schema, new: Schema) -> Iterator[str]:
    for key in NOT_MORE:
        if key in new and new[key] > old.get(key, 0):
            yield f": {key} rose to {new[key]}"
    for key in NOT_LESS:
        if key in new and (key not in old or new[key] < old[key]):
            yield f": {key} fell to {new[key]}"
    if "enum" in new and not set(old.get("enum", ["anything"])) <= set(new["enum"]):
        yield ": a value is no more"


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf") or schema.get("oneOf") or [schema])


def _followed(schema: Schema, document: Schema) -> Schema:
    if "$ref" in schema:
        return dict(document["$defs"][schema["$ref"].rpartition("/")[2]])
    return schema


def _bare(value: Any, names: bool = False) -> Any:
    """A schema without its descriptions; where the keys are names of fields, none is taken for one."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if names or key != "description"}
    return {key: _bare(each, key in ("properties", "patternProperties", "$defs")) for key, each in kept.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{SCHEMAS[0]}.json").write_text(json.dumps(present(), indent=1, sort_keys=True) + "\n")
