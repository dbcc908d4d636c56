"""Within a major version nothing goes away or gets narrower, and the minor one rises with whatever differs."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from protocol.portal.version import MAJOR, SCHEMAS
from tests.support import portal_releases

ADVICE = "raise MINOR in protocol/portal/version.py, then run: python -m tests.support.portal_releases"
PRESENT = portal_releases.present()
Messages = dict[str, Any]


def test_the_present_schemas_are_those_of_their_version() -> None:
    assert portal_releases.frozen().get(SCHEMAS[0]) == PRESENT, ADVICE


@pytest.mark.parametrize("version", [one for one in portal_releases.frozen() if one.startswith(f"{MAJOR}.")])
def test_what_was_promised_with_an_earlier_version_holds(version: str) -> None:
    assert portal_releases.broken(portal_releases.frozen()[version], PRESENT) == []


def put(messages: Messages) -> Any:
    return messages["command.offer.put"]


@pytest.mark.parametrize(
    "change",
    [
        lambda all_: all_.pop("command.card.pair"),
        lambda all_: put(all_)["properties"].pop("heading"),
        lambda all_: put(all_)["required"].append("heading"),
        lambda all_: put(all_)["properties"]["products"].update(maxItems=63),
        lambda all_: put(all_)["properties"]["kind"]["enum"].remove("mix"),
        lambda all_: put(all_)["properties"]["offer"].update(pattern="^[a-z]+$"),
        lambda all_: put(all_)["$defs"]["Terms"]["properties"].pop("price"),
        lambda all_: put(all_)["properties"]["names"].update(minProperties=2),
        lambda all_: put(all_)["properties"]["choose"]["anyOf"].pop(),
        lambda all_: all_["reply"]["properties"].pop("visible_by"),
        lambda all_: all_["reply"]["required"].remove("code"),
    ],
)
def test_what_breaks_a_portal_is_found(change: Callable[[Messages], object]) -> None:
    new = copy.deepcopy(PRESENT)
    change(new)
    assert portal_releases.broken(PRESENT, new) != []


@pytest.mark.parametrize(
    "change",
    [
        lambda all_: all_.update({"command.card.sing": {"type": "object"}}),
        lambda all_: put(all_)["properties"].update(colour={"type": "string"}),
        lambda all_: put(all_)["properties"]["products"].update(maxItems=65),
        lambda all_: put(all_)["properties"]["kind"]["enum"].append("bouquet"),
        lambda all_: all_["reply"]["properties"].update(colour={"type": "string"}),
    ],
)
def test_an_addition_breaks_nothing(change: Callable[[Messages], object]) -> None:
    new = copy.deepcopy(PRESENT)
    change(new)
    assert portal_releases.broken(PRESENT, new) == []
    assert new != PRESENT
