"""Commands are read strictly: a good one gives a model, anything else its own error with the fields to mend."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.card_number import spell
from protocol.portal.codes import MEANINGS, Code, retryable, text
from protocol.portal.commands import parsing
from protocol.portal.commands.parsing import COMMANDS, PAYLOAD_MAX
from protocol.portal.errors import InvalidError, PortalError, UnreadableError
from protocol.portal.fields import spell_moment

CARD = spell(7)
GOOD: dict[tuple[str, str], dict[str, Any]] = {
    ("offer", "put"): {"offer": "basic", "rev": 1, "kind": "package", "names": {"fi": "Perus"}, "products": ["sport"]},
    ("card", "assign"): {"card": CARD, "rev": 1, "subscriber": "customer-1"},
    ("card", "suspend"): {"card": CARD, "rev": 1, "reason": "unpaid"},
    ("card", "reopen"): {"card": CARD, "rev": 1},
    ("card", "refresh"): {"card": CARD},
    ("subscription", "put"): {"subscription": "s-1", "rev": 1, "card": CARD, "offer": "basic"},
    ("subscription", "end"): {"subscription": "s-1", "rev": 1},
}


def read(name: tuple[str, str], body: Any, id_property: str | None = "id-1") -> Any:
    return parsing.parse(*name, json.dumps(body).encode(), id_property)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_command_is_read(name: tuple[str, str]) -> None:
    command = read(name, GOOD[name])
    assert isinstance(command, COMMANDS[name])
    assert command.id == "id-1"
    assert read(name, GOOD[name] | {"id": "id-1"}, None) == command


def without(name: tuple[str, str], field: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD[name].items() if key != field}


PUT, ASSIGN, SUBSCRIBE, END = ("offer", "put"), ("card", "assign"), ("subscription", "put"), ("subscription", "end")


@pytest.mark.parametrize(
    ("name", "body", "fields"),
    [
        (ASSIGN, without(ASSIGN, "card"), {"card"}),
        (ASSIGN, GOOD[ASSIGN] | {"card": "000000000076"}, {"card"}),
        (ASSIGN, GOOD[ASSIGN] | {"card": 75}, {"card"}),
        (ASSIGN, GOOD[ASSIGN] | {"card": "75"}, {"card"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": "1"}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": 1.0}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": True}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": -1}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": 2**53}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": 10**400}, {"rev"}),
        (ASSIGN, GOOD[ASSIGN] | {"subscriber": ""}, {"subscriber"}),
        (ASSIGN, GOOD[ASSIGN] | {"subscriber": "a b"}, {"subscriber"}),
        (ASSIGN, GOOD[ASSIGN] | {"subscriber": "x" * 65}, {"subscriber"}),
        (ASSIGN, GOOD[ASSIGN] | {"colour": "red"}, {"colour"}),
        (ASSIGN, GOOD[ASSIGN] | {"reply_to": "a/b"}, {"reply_to"}),
        (ASSIGN, GOOD[ASSIGN] | {"rev": -1, "card": "x"}, {"rev", "card"}),
        (("card", "refresh"), {"card": CARD, "rev": 1}, {"rev"}),
        (("card", "suspend"), GOOD["card", "suspend"] | {"reason": "line\nbreak"}, {"reason"}),
        (PUT, GOOD[PUT] | {"offer": "Basic"}, {"offer"}),
        (PUT, GOOD[PUT] | {"kind": "bundle"}, {"kind"}),
        (PUT, GOOD[PUT] | {"names": {}}, {"names"}),
        (PUT, GOOD[PUT] | {"names": {"Finnish!": "x"}}, {"names.Finnish!"}),
        (PUT, GOOD[PUT] | {"names": {"fi": "\x00"}}, {"names.fi"}),
        (PUT, GOOD[PUT] | {"products": []}, {"products"}),
        (PUT, GOOD[PUT] | {"products": ["sport", "sport"]}, {"products"}),
        (PUT, GOOD[PUT] | {"products": "sport"}, {"products"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "tomorrow"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "2026-12-01T18:00:00"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "2026-12-01T18:00:00.5Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "2026-02-30T18:00:00Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "2026-12-01T24:30:00Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "1969-12-31T23:59:59Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "2106-02-07T06:28:16Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": "0000-01-01T00:00:00Z"}, {"starts_at"}),
        (SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": 1_800_000_000}, {"starts_at"}),
        (
            SUBSCRIBE,
            GOOD[SUBSCRIBE] | {"starts_at": "2026-12-01T18:00:00Z", "ends_at": "2026-12-01T20:00:00+02:00"},
            {"ends_at"},
        ),
        (END, GOOD[END] | {"at": ""}, {"at"}),
    ],
)
def test_an_invalid_command_names_its_fields(name: tuple[str, str], body: dict[str, Any], fields: set[str]) -> None:
    with pytest.raises(InvalidError) as found:
        read(name, body)
    assert {error.field for error in found.value.errors} == fields
    assert all(error.text for error in found.value.errors)
    assert found.value.id == "id-1"
    assert found.value.code is Code.INVALID


@pytest.mark.parametrize(
    ("payload", "id_property", "code"),
    [
        (b"", "id-1", Code.UNREADABLE),
        (b"{", "id-1", Code.UNREADABLE),
        (b"\xff", "id-1", Code.UNREADABLE),
        (b'{"card": "\\ud800"}', "id-1", Code.UNREADABLE),
        (b"[" * 10_000, "id-1", Code.UNREADABLE),
        (b"null", "id-1", Code.UNREADABLE),
        (b"[]", "id-1", Code.UNREADABLE),
        (b'"text"', "id-1", Code.UNREADABLE),
        (b" " * (PAYLOAD_MAX + 1), "id-1", Code.TOO_LARGE),
        (b"{}", None, Code.BAD_ID),
        (b'{"id": ""}', "id-1", Code.BAD_ID),
        (b'{"id": 7}', "id-1", Code.BAD_ID),
        (b'{"id": "a b"}', None, Code.BAD_ID),
        (b'{"id": "id-2"}', "id-1", Code.BAD_ID),
        (b"{}", "", Code.BAD_ID),
        (b"{}", "x" * 129, Code.BAD_ID),
        (b"{}", "with\nbreak", Code.BAD_ID),
        (json.dumps(GOOD[ASSIGN]).encode(), None, Code.BAD_ID),
        (json.dumps(GOOD[ASSIGN] | {"id": "id-2"}).encode(), "id-1", Code.BAD_ID),
    ],
)
def test_what_cannot_be_answered_says_why(payload: bytes, id_property: str | None, code: Code) -> None:
    with pytest.raises(UnreadableError) as found:
        parsing.parse("card", "assign", payload, id_property)
    assert found.value.code is code
    assert found.value.detail


def test_a_command_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(UnreadableError, match="card assign") as found:
        parsing.parse("card", "explode", b"{}", "id-1")
    assert found.value.code is Code.UNKNOWN_COMMAND


def test_the_largest_command_is_taken() -> None:
    body = json.dumps(GOOD[ASSIGN]).encode()
    parsing.parse("card", "assign", body + b" " * (PAYLOAD_MAX - len(body)), "id-1")


def test_values_do_not_stand_in_errors() -> None:
    with pytest.raises(InvalidError) as found:
        read(ASSIGN, GOOD[ASSIGN] | {"subscriber": "private person"})
    assert "private" not in str(found.value) + repr(found.value.errors)


def digest_of(name: tuple[str, str], body: dict[str, Any], command_id: str = "id-1") -> bytes:
    command = read(name, body, command_id)
    return parsing.digest(command, command.body())


def test_equal_content_has_an_equal_digest_however_it_is_spelt() -> None:
    subscribe = GOOD[SUBSCRIBE] | {"starts_at": "2026-12-01T18:00:00+02:00"}
    same = [
        dict(reversed(subscribe.items())),
        subscribe | {"card": "0000 0000 0075"},
        subscribe | {"starts_at": "2026-12-01T16:00:00Z"},
        subscribe | {"ends_at": None},
        subscribe | {"id": "id-1"},
        subscribe | {"reply_to": "web"},
    ]
    assert {digest_of(SUBSCRIBE, one) for one in same} == {digest_of(SUBSCRIBE, subscribe)}
    assert digest_of(SUBSCRIBE, subscribe, "other-id") == digest_of(SUBSCRIBE, subscribe)
    offer = GOOD[PUT] | {"names": {"fi": "Perus", "en": "Basic"}}
    assert digest_of(PUT, offer) == digest_of(PUT, offer | {"names": {"en": "Basic", "fi": "Perus"}})


def test_other_content_has_another_digest() -> None:
    others = [GOOD[SUBSCRIBE], GOOD[SUBSCRIBE] | {"rev": 2}, GOOD[SUBSCRIBE] | {"ends_at": "2030-01-01T00:00:00Z"}]
    others.append(GOOD[SUBSCRIBE] | {"card": spell(8)})
    assert len({digest_of(SUBSCRIBE, one) for one in others}) == len(others)
    state = {"card": CARD, "rev": 1}
    assert digest_of(("card", "suspend"), state) != digest_of(("card", "reopen"), state)


def test_the_body_is_one_json_object_without_id_and_way_of_reply() -> None:
    body = json.loads(read(SUBSCRIBE, GOOD[SUBSCRIBE] | {"reply_to": "web"}).body())
    assert body == GOOD[SUBSCRIBE]


def test_every_code_has_a_text_and_says_whether_to_try_again() -> None:
    assert set(MEANINGS) == set(Code)
    for code in Code:
        assert text(code).endswith(".")
        assert isinstance(retryable(code), bool)
    assert not retryable(Code.OK)
    assert retryable(Code.INTERNAL)


@given(st.integers(0, 0xFFFF_FFFF))
def test_a_moment_is_spelt_and_read_again(at: int) -> None:
    assert read(SUBSCRIBE, GOOD[SUBSCRIBE] | {"starts_at": spell_moment(at)}).starts_at == at


names = st.sampled_from(sorted(COMMANDS))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@given(names, st.binary(max_size=200), st.none() | st.text(max_size=10))
def test_any_bytes_give_a_command_or_a_portal_error(
    name: tuple[str, str], payload: bytes, command_id: str | None
) -> None:
    with contextlib.suppress(PortalError):
        parsing.parse(*name, payload, command_id)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_good_command_with_any_value_put_in_gives_a_command_or_a_portal_error(
    name: tuple[str, str], data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from([*GOOD[name], "id", "reply_to", "starts_at"]))
    body = GOOD[name] | {field: data.draw(json_values)}
    try:
        command = parsing.parse(*name, json.dumps(body).encode("utf-8", "surrogatepass"), "id-1")
    except PortalError:
        return
    again = parsing.parse(*name, command.body(), command.id)
    assert again.body() == command.body(), "the canonical body reads as itself"
