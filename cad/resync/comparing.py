"""Compare a portal's view, as a file, with all items of a snapshot."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from cad.errors import QuestionError
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import Item

_ITEM: Final[TypeAdapter[Any]] = TypeAdapter(Item)

Document = dict[str, Any]


def read_view(lines: Iterable[str]) -> dict[str, Document]:
    """Return the items of a file by their keys. Raises QuestionError, which names the line."""
    found: dict[str, Document] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = snapshot.spell(_ITEM.validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in first["loc"])
            raise QuestionError(f"line {number} is no item: {where or 'it'}: {first['msg']}") from None
        found[snapshot.key(item["item"], snapshot.name_of(item))] = item
    return found


def compare(here: Iterable[Document], there: Mapping[str, Document]) -> dict[str, list[Document]]:
    """Return what only one has, and what is not the same."""
    missing_there: list[Document] = []
    different: list[Document] = []
    left = dict(there)
    for item in here:
        name = snapshot.name_of(item)
        theirs = left.pop(snapshot.key(item["item"], name), None)
        if theirs is None:
            missing_there.append(item)
        else:
            different += [
                {"item": item["item"], "name": name} | one.model_dump() for one in snapshot.differing(item, theirs)
            ]
    return {"missing_here": list(left.values()), "missing_there": missing_there, "different": different}
