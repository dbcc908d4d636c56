"""docs/portal.md keeps its word: every message has an example, the examples run in order, the codes are the code's."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cad.ledger.model import EventGrant, Grants, OperatorGrant, Order
from cad.ledger.promise import NoPromise
from cad.orders.broker import Received
from cad.orders.intake import read
from emm.calendar import Calendar
from protocol import card_number
from protocol.portal.codes import Code
from protocol.portal.commands import snapshot
from protocol.portal.documents import schemas
from protocol.portal.documents.schemas import Kind
from tests.support import portal_codes, portal_limits
from tests.support.ledgers import open_store

EXAMPLE = re.compile(r"^```json (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = [(topic, json.loads(body)) for topic, body in EXAMPLE.findall(portal_codes.PAGE.read_text())]
NOW = 1_796_148_000  # 2026-12-01T18:00:00Z


def pattern(topic: str) -> str:
    return re.sub(r"\{\w+\}", "[^/]+", topic)


def described(topic: str) -> schemas.Described:
    return next(one for one in schemas.messages() if re.fullmatch(pattern(one.topic), topic))


def test_every_message_has_an_example() -> None:
    there = {described(topic).name for topic, _ in EXAMPLES}
    assert {one.name for one in schemas.messages()} - there == set(), "put an example of these into docs/portal.md"


@pytest.mark.parametrize(("topic", "body"), EXAMPLES, ids=[topic for topic, _ in EXAMPLES])
def test_each_example_is_what_its_model_takes(topic: str, body: dict[str, Any]) -> None:
    described(topic).model.model_validate_json(json.dumps(body))


def orders() -> list[Order]:
    found: list[Order] = []
    shown = "cad/v1/karjaa/cmd/subscription/put"
    first = next(number for number, (topic, _) in enumerate(EXAMPLES) if topic == shown)
    for number, (topic, body) in enumerate(EXAMPLES):
        if described(topic).kind is Kind.COMMAND:
            command_id = "3f1c9f0e" if number == first else f"id-{number}"
            payload = json.dumps(body).encode()
            received = Received(topic, payload, 1, 1, "cad/v1/karjaa/rep/web", user_properties=(("id", command_id),))
            order = read(received, {"karjaa"})
            assert isinstance(order, Order), order
            found.append(order)
    return found


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_its_order_and_are_answered_as_it_says(tmp_path: Path) -> None:
    card = card_number.parse("100000000008")
    products = {"sport": 1, "film": 2, "news": 3}
    events = EventGrant(frozenset({"sport-1"}), range(500, 510), 2, Calendar(), frozenset({"karjaa"}))
    grant = OperatorGrant(
        "south", products, ((card, card + 100),), ("mux-1", "mux-2"), events=events, regions={"coast": 1}
    )
    store = open_store(tmp_path / "state", grants=Grants({"karjaa": grant}), now=NOW)
    promises = {"karjaa": NoPromise(NOW + 10, NOW + 70)}
    try:
        answered = {}
        for number, order in enumerate(orders()):
            (outcome,) = store.commit([order], NOW, promises)
            assert outcome.code is Code.OK, f"example {number}: {outcome.reply}"
            assert outcome.reply is not None
            answered[outcome.reply.id] = json.loads(outcome.reply.model_dump_json())
    finally:
        store.close()
    shown = next(body for topic, body in EXAMPLES if topic.endswith("/rep/web"))
    assert answered["3f1c9f0e"].items() >= shown.items()


def test_the_reject_of_the_page_is_what_the_headend_says() -> None:
    shown = next(body for topic, body in EXAMPLES if topic.endswith("/rej"))
    told = read(Received("cad/v1/karjaa/cmd/card/refresh", b"{}", 1, 1), {"karjaa"})
    payload = json.dumps({"card": "100000000008"}).encode()
    without_id = read(Received("cad/v1/karjaa/cmd/card/refresh", payload, 1, 1), {"karjaa"})
    for one in (told, without_id):
        assert one is not None
        assert (one.code, one.reason) == (shown["code"], shown["reason"])  # type: ignore[union-attr]
    assert (told.hash, told.size) == (shown["hash"], shown["size"])  # type: ignore[union-attr]


def test_the_table_of_limits_is_that_of_the_models() -> None:
    assert portal_limits.written() == portal_limits.table(), "run: python -m tests.support.portal_limits"


def test_the_table_of_codes_is_that_of_the_code() -> None:
    assert portal_codes.written() == portal_codes.table(), "run: python -m tests.support.portal_codes"


def test_the_resync_example_is_computed_as_the_page_says() -> None:
    page = portal_codes.PAGE.read_text()
    taken, told = (next(one for topic, one in EXAMPLES if topic.endswith(f"/{name}")) for name in ("taken", "page"))
    (item,) = told["items"]
    key = snapshot.key("card", item["card"])
    buckets = snapshot.digests([(key, snapshot.line(item))])
    assert (taken["buckets"], taken["digest"]) == (buckets, snapshot.digest(buckets))
    assert f"`{key}`" in page
    assert f"\n{snapshot.line(item)}```" in page


def test_the_fields_of_items_on_the_page_are_those_of_the_models() -> None:
    page = portal_codes.PAGE.read_text().partition("## Resync")[2]
    for name, model in snapshot.MODELS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` | `{name}`"))
        assert set(re.findall(r"`([a-z_]+)`", row)) == set(model.model_fields) - {"item"} | {name}
