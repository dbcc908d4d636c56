"""Messages and fingerprints as commands: what is refused by its form, and that what is accepted can be sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emm.notices.content import CONTENT_MAX, Message, build_content
from protocol.card_number import spell
from protocol.portal.commands.messages import CARDS_MAX, TEXT_BYTES_MAX, TEXT_MAX, CardFingerprint, MessagePut
from protocol.portal.commands.parsing import parse
from protocol.portal.errors import InvalidError

BODY: dict[str, Any] = {"id": "c", "message": "m-1", "rev": 1, "to": {"all": True}, "text": {"en": "Good evening"}}


def put(**changed: Any) -> MessagePut:
    command = parse("message", "put", json.dumps(BODY | changed).encode())
    assert isinstance(command, MessagePut)
    return command


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"text": {}}, "text"),
        ({"text": {"en": ""}}, "text.en"),
        ({"text": {"en": "bell\x07"}}, "text.en"),
        ({"text": {"en": "x" * (TEXT_MAX + 1)}}, "text.en"),
        ({"text": {"English": "x"}}, "text.English"),
        ({"text": dict.fromkeys(("en", "fi", "sv"), "я" * 400)}, "text"),
        ({"text": dict.fromkeys(("en", "fi", "sv", "ru", "et"), "x")}, "text"),
        ({"to": {}}, "to"),
        ({"to": {"all": False}}, "to.all"),
        ({"to": {"all": True, "offer": "sport"}}, "to"),
        ({"to": {"region": "coast", "all": True}}, "to"),
        ({"to": {"region": "The Coast"}}, "to.region"),
        ({"to": {"cards": []}}, "to.cards"),
        ({"to": {"cards": [spell(7), spell(7)]}}, "to"),
        ({"to": {"cards": [spell(number) for number in range(CARDS_MAX + 1)]}}, "to.cards"),
        ({"mode": "loud"}, "mode"),
        ({"repeat_s": 29}, "repeat_s"),
        ({"message": "two words"}, "message"),
    ],
)
def test_what_is_refused_names_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        put(**changed)
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize(
    "changed", [{"position": "left"}, {"duration_s": 0}, {"duration_s": 601}, {"text": {"en": "x"}}]
)
def test_a_fingerprint_out_of_form_is_refused(changed: dict[str, Any]) -> None:
    body = {name: BODY[name] for name in ("id", "message", "rev", "to")}
    assert isinstance(parse("card", "fingerprint", json.dumps(body).encode()), CardFingerprint)
    with pytest.raises(InvalidError):
        parse("card", "fingerprint", json.dumps(body | changed).encode())


def test_the_order_of_languages_is_no_other_content() -> None:
    one, other = {"en": "x", "fi": "y"}, {"fi": "y", "en": "x"}
    assert put(text=one).body() == put(text=other).body()


@given(
    st.dictionaries(
        st.sampled_from(["en", "fi", "sv", "ru", "zh-Hant-TW"]),
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=TEXT_MAX),
        min_size=1,
        max_size=4,
    )
)
def test_every_message_that_is_accepted_fits_the_air(texts: dict[str, str]) -> None:
    if sum(len(text.encode()) for text in texts.values()) > TEXT_BYTES_MAX:
        return
    command = put(text=texts)
    content = build_content(Message(False, 0, 1, tuple(command.text.items())))
    assert len(content) <= CONTENT_MAX


def test_the_largest_message_fits_the_air() -> None:
    languages = ("de-AAAAAAAA-AAAAAAAA", "en-AAAAAAAA-AAAAAAAA", "fi-AAAAAAAA-AAAAAAAA", "sv-AAAAAAAA-AAAAAAAA")
    command = put(text=dict.fromkeys(languages, "я" * (TEXT_BYTES_MAX // 8)))
    assert len(build_content(Message(True, 0, 1, tuple(command.text.items())))) <= CONTENT_MAX
