"""The AsyncAPI document and the schemas are what the models say, and cover every message there is."""

from pathlib import Path
from typing import get_args

import pytest

from protocol.portal import events
from protocol.portal.commands import snapshot
from protocol.portal.commands.invoice import FactName
from protocol.portal.commands.parsing import COMMANDS
from protocol.portal.documents import asyncapi, schemas
from protocol.portal.documents.schemas import Described, Kind
from tests.support import portal_pages

MESSAGES = list(schemas.messages())


@pytest.mark.slow
def test_what_stands_in_docs_is_what_the_models_say() -> None:
    written = {
        str(file.relative_to(portal_pages.FOLDER)): file.read_text(encoding="utf-8")
        for file in [portal_pages.FOLDER / "asyncapi.yaml", *portal_pages.FOLDER.glob("schemas/*.json")]
    }
    made = portal_pages.pages()
    assert written.keys() == made.keys(), "run scripts/portal-schemas"
    for name, text in made.items():
        assert written[name] == text, f"{name} is out of date: run scripts/portal-schemas"


@pytest.mark.slow
def test_files_of_messages_that_are_no_more_are_removed(tmp_path: Path) -> None:
    portal_pages.write(tmp_path)
    (tmp_path / "schemas" / "command.card.explode.json").touch()
    portal_pages.write(tmp_path)
    assert {f"schemas/{file.name}" for file in tmp_path.glob("schemas/*")} == portal_pages.pages().keys() - {
        "asyncapi.yaml"
    }


def test_every_command_and_every_event_is_described() -> None:
    assert [one.model for one in MESSAGES if one.kind is Kind.COMMAND] == list(COMMANDS.values())
    types = {value for name, value in vars(events).items() if name.endswith("_TYPE") and value.startswith("cad.")}
    types |= {events.invoice_type(name) for name in get_args(FactName)}
    types |= {snapshot.answer_type(name) for name in snapshot.ANSWERS}
    assert types == {one.ce_type for one in MESSAGES if one.ce_type}


@pytest.mark.parametrize("one", MESSAGES, ids=lambda one: one.name)
def test_every_message_has_a_summary_and_an_example(one: Described) -> None:
    assert one.summary.endswith(".") or len(one.summary) > 20
    assert one.example() is not None, "protocol/portal/documents/samples.py makes up no example that the model takes"


@pytest.mark.parametrize("one", MESSAGES, ids=lambda one: one.name)
def test_what_we_take_is_closed_and_what_we_publish_is_open(one: Described) -> None:
    assert one.schema().get("additionalProperties") == (False if one.sent_by_portal else None)


@pytest.mark.slow
def test_the_topics_are_those_of_the_headend() -> None:
    document = asyncapi.document()
    assert document["channels"]["command-card-assign"]["address"] == "cad/v1/{operator}/cmd/card/assign"
    assert {one["action"] for key, one in document["operations"].items() if key.startswith("command-")} == {"receive"}
