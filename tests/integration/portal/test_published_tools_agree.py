"""The published tools (AsyncAPI's parser, ajv) find nothing wrong, and judge messages as the models do."""

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from protocol.portal.documents import schemas
from protocol.portal.documents.schemas import Described
from tests.support.node import FOLDER, run
from tests.support.portal_pages import FOLDER as DOCS

pytestmark = pytest.mark.integration

MESSAGES = list(schemas.messages())
WARNING = 1


def judge(payloads: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(str(FOLDER / "judge.mjs"), str(DOCS), given=json.dumps(payloads)))
    return found


def variants(one: Described) -> list[dict[str, Any]]:
    """The example, and what is wrong with it or not in many small ways."""
    example = one.example()
    assert example is not None
    made = [example, {}, example | {"colour": "red"}]
    for name in example:
        without = copy.deepcopy(example)
        del without[name]
        made.append(without)
        made += [example | {name: wrong} for wrong in (None, True, -1, 2**53, 1.5, "", "Ä b", "x" * 300, [], {}, [[]])]
    return made


def taken(one: Described, payload: dict[str, Any]) -> bool:
    try:
        one.model.model_validate_json(json.dumps(payload))
    except ValidationError:
        return False
    return True


def test_the_asyncapi_document_is_valid_and_has_every_topic() -> None:
    found = judge([])
    assert [one for one in found["diagnostics"] if one["severity"] <= WARNING] == []
    expected = [f"{'receive' if one.sent_by_portal else 'send'} {one.topic}" for one in MESSAGES]
    assert found["operations"] == expected
    assert found["schemas"] == sorted(one.name for one in MESSAGES)


def test_ajv_takes_every_command_that_the_model_takes_and_refuses_what_it_refuses() -> None:
    payloads = [(one, payload) for one in MESSAGES if one.sent_by_portal for payload in variants(one)]
    verdicts = judge([(one.name, payload) for one, payload in payloads])["verdicts"]
    assert len(verdicts) == len(payloads) > 100
    for (one, payload), verdict in zip(payloads, verdicts, strict=True):
        if taken(one, payload):
            assert verdict, ("the schema refuses what the headend takes", one.name, payload)
    refused = [not taken(one, payload) for one, payload in payloads]
    missed = [
        (one.name, payload)
        for (one, payload), verdict, bad in zip(payloads, verdicts, refused, strict=True)
        if bad and verdict
    ]
    # What a schema cannot say: check digits, days that do not exist, relations between fields.
    assert len(missed) <= sum(refused) // 20, missed


def test_ajv_takes_what_the_headend_publishes_also_with_additions() -> None:
    published = [one for one in MESSAGES if not one.sent_by_portal]
    payloads = [
        (one.name, (one.example() or {}) | extra) for one in published for extra in ({}, {"added": {"later": 1}})
    ]
    payloads.append(("reply", (MESSAGES[len(MESSAGES) - len(published)].example() or {}) | {"code": "a_new_code"}))
    assert judge(payloads)["verdicts"] == [True] * len(payloads)
