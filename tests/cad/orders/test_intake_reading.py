"""What the intake makes of each kind of message, before the ledger sees it."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.ledger.model import Order, Refusal, Unreadable
from cad.orders.broker import Received
from cad.orders.intake import CORRELATION_MAX, apart, read
from protocol.card_number import spell
from protocol.portal.codes import Code

BODY = {"card": spell(7), "rev": 1, "subscriber": "anna"}
OPERATORS = {"karjaa", "kaspnet"}


def message(body: Any = BODY, **changed: Any) -> Received:
    fields: dict[str, Any] = {
        "topic": "cad/v1/karjaa/cmd/card/assign",
        "payload": body if isinstance(body, bytes) else json.dumps(body).encode(),
        "qos": 1,
        "mid": 1,
        "user_properties": (("id", "id-1"),),
    }
    return Received(**(fields | changed))


def test_a_command_becomes_an_order() -> None:
    order = read(message(response_topic="cad/v1/karjaa/rep/web", correlation=b"c"), OPERATORS)
    assert isinstance(order, Order)
    assert (order.operator, order.reply_topic, order.correlation) == ("karjaa", "cad/v1/karjaa/rep/web", b"c")
    assert order.command.id == "id-1"
    assert json.loads(order.body) == BODY
    assert len(order.digest) == 32


@pytest.mark.parametrize(
    ("changed", "body", "reply_topic"),
    [
        ({}, BODY, None),
        ({}, BODY | {"reply_to": "old"}, "cad/v1/karjaa/rep/old"),
        ({"response_topic": "cad/v1/karjaa/rep/web"}, BODY | {"reply_to": "old"}, "cad/v1/karjaa/rep/web"),
    ],
)
def test_where_the_reply_goes(changed: dict[str, Any], body: Any, reply_topic: str | None) -> None:
    order = read(message(body, **changed), OPERATORS)
    assert isinstance(order, Order)
    assert order.reply_topic == reply_topic


@pytest.mark.parametrize(
    ("body", "changed", "code"),
    [
        (b"{", {}, Code.UNREADABLE),
        (b"{" * 20_000, {}, Code.TOO_LARGE),
        (BODY, {"topic": "cad/v1/karjaa/cmd/card/explode"}, Code.UNKNOWN_COMMAND),
        (BODY, {"topic": "cad/v1/karjaa/cmd/card"}, Code.UNKNOWN_COMMAND),
        (BODY, {"topic": "cad/v1/stranger/cmd/card/assign"}, Code.UNKNOWN_OPERATOR),
        (BODY, {"user_properties": ()}, Code.BAD_ID),
        (BODY, {"user_properties": (("id", "a"), ("id", "b"))}, Code.BAD_ID),
        (BODY, {"response_topic": "cad/v1/kaspnet/rep/web"}, Code.BAD_REPLY_TOPIC),
        (BODY | {"rev": -1}, {"response_topic": "cad/v1/kaspnet/rep/web"}, Code.BAD_REPLY_TOPIC),
        (BODY, {"correlation": bytes(CORRELATION_MAX + 1)}, Code.TOO_LARGE),
        (BODY | {"rev": -1}, {}, Code.INVALID),
    ],
)
def test_what_is_told_on_rej(body: Any, changed: dict[str, Any], code: Code) -> None:
    received = message(body, **changed)
    told = read(received, OPERATORS)
    assert isinstance(told, Unreadable)
    assert told.code is code
    assert told.reason
    assert (told.hash, told.size) == (hashlib.sha256(received.payload).hexdigest(), len(received.payload))


def test_an_invalid_command_is_answered_where_an_answer_is_wanted() -> None:
    told = read(message(BODY | {"rev": -1}, response_topic="cad/v1/karjaa/rep/web"), OPERATORS)
    assert isinstance(told, Refusal)
    assert (told.id, told.code, told.errors[0].field) == ("id-1", Code.INVALID, "rev")


@pytest.mark.parametrize("topic", ["", "cad/v1/Karjaa/cmd/card/assign", "cad/v1/_node/cmd/card/assign"])
def test_a_topic_of_no_possible_operator_is_left(topic: str) -> None:
    assert read(message(topic=topic), OPERATORS) is None


texts = st.text(max_size=40)


@pytest.mark.slow
@given(
    topic=st.one_of(texts, texts.map("cad/v1/karjaa/cmd/{}".format), st.just("cad/v1/karjaa/cmd/card/assign")),
    payload=st.binary(max_size=100),
    response_topic=st.none() | texts,
    correlation=st.none() | st.binary(max_size=20),
    user_properties=st.lists(st.tuples(st.sampled_from(["id", "x"]), texts), max_size=3).map(tuple),
)
def test_any_message_is_taken_told_or_left(**fields: Any) -> None:
    told = read(Received(qos=1, mid=1, **fields), OPERATORS)
    assert told is None or isinstance(told, Order | Refusal | Unreadable)


OFFER = {"offer": "sport", "rev": 1, "kind": "channel", "names": {"fi": "x"}, "products": ["sport"]}


@given(st.lists(st.booleans(), max_size=12))
def test_what_may_change_very_many_cards_is_committed_by_itself_and_the_order_stays(offers: list[bool]) -> None:
    taken = [
        read(message(OFFER, topic="cad/v1/karjaa/cmd/offer/put") if offer else message(), OPERATORS) for offer in offers
    ]
    messages = [one for one in taken if one is not None]
    parts = list(apart(messages))
    assert [one for part in parts for one in part] == messages
    for part in parts:
        assert part
        assert len(part) == 1 or all(isinstance(one, Order) and one.command.resource == "card" for one in part)
    assert len(parts) <= 2 * sum(offers) + 1
