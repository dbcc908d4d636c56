"""The portal's commands go out in order where they speak of one thing, and side by side where they do not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.portal.departures import Departures
from cad.portal.order import Claims, Lanes, claims
from cad.portal.outbox import Entry
from protocol.card_number import spell
from protocol.portal.commands.parsing import COMMANDS, AnyCommand, parse
from protocol.portal.documents.schemas import messages

CARD, OTHER = spell(7), spell(8)


def command(resource: str, verb: str, **body: Any) -> AnyCommand:
    return parse(resource, verb, json.dumps(body).encode())


def offer(number: int = 0, name: str = "sport") -> AnyCommand:
    return command(
        "offer", "put", id=f"o{number}", rev=number, offer=name, kind="channel", names={"en": "x"}, products=["sport"]
    )


def assign(number: int = 0, card: str = CARD) -> AnyCommand:
    return command("card", "assign", id=f"a{number}", rev=number, card=card, subscriber="c")


def subscribe(number: int = 0, card: str = CARD, name: str = "s-1") -> AnyCommand:
    return command("subscription", "put", id=f"s{number}", rev=number, subscription=name, card=card, offer="sport")


def entries(*commands: AnyCommand) -> list[Entry]:
    return [Entry(seq, one, one.id.encode(), 0.0) for seq, one in enumerate(commands, 1)]


def departures(*commands: AnyCommand, window: int = 100) -> Departures:
    made = Departures(repeat_after_s=10, repeat_max_s=60, window=window)
    for entry in entries(*commands):
        made.add(entry)
    return made


def gone(made: Departures, now: float = 0.0) -> list[str]:
    return [entry.id for entry in made.due(now)]


def test_what_commands_speak_of() -> None:
    assert claims(offer()) == Claims(frozenset({"offer/sport"}))
    assert claims(assign()) == Claims(frozenset({f"card/{CARD}"}))
    assert claims(subscribe()) == Claims(frozenset({"subscription/s-1"}), frozenset({f"card/{CARD}", "offer/sport"}))
    body = {"id": "m", "message": "m-1", "rev": 1, "text": {"en": "x"}}
    own = frozenset({"message/m-1"})
    assert claims(command("message", "put", to={"cards": [CARD, OTHER]}, **body)) == Claims(
        own, frozenset({f"card/{CARD}", f"card/{OTHER}"})
    )
    assert claims(command("message", "put", to={"offer": "sport"}, **body)).uses == {"offer/sport"}
    assert claims(command("message", "put", to={"region": "coast"}, **body)) == Claims(own)
    assert claims(command("card", "message", card=CARD, **body)).own == {"message/m-1", f"card/{CARD}"}
    printed = command("card", "fingerprint", id="f", message="m-1", rev=1, to={"all": True})
    assert claims(printed) == claims(command("message", "withdraw", id="w", message="m-1", rev=2)) == Claims(own)
    assert claims(command("subscription", "end", id="e", subscription="s-1", rev=2)).own == {"subscription/s-1"}


@pytest.mark.parametrize("model", COMMANDS.values())
def test_every_command_has_a_place_in_the_order(model: type[AnyCommand]) -> None:
    example = next(one for one in messages() if one.model is model).example()
    assert example is not None
    assert claims(command(model.resource, model.verb, **example)).own


def test_a_subscription_waits_for_its_card_and_its_offer() -> None:
    made = departures(offer(1), assign(2), subscribe(3), assign(4, OTHER), subscribe(5, OTHER, "s-2"))
    assert gone(made) == ["o1", "a2", "a4"]
    made.settle(2)
    assert gone(made) == []
    made.settle(1)
    assert gone(made) == ["s3"]
    made.settle(4)
    assert gone(made) == ["s5"]


def test_many_subscriptions_to_one_offer_go_side_by_side() -> None:
    made = departures(*(subscribe(number, CARD, f"s-{number}") for number in range(50)))
    assert len(gone(made)) == 50


def test_commands_on_one_resource_go_one_by_one() -> None:
    made = departures(assign(1), assign(2), assign(3))
    assert gone(made) == ["a1"]
    made.settle(1)
    assert gone(made) == ["a2"]
    made.settle(2)
    assert gone(made) == ["a3"]
    made.settle(3)
    assert len(made) == 0


def test_an_unanswered_command_goes_out_again_ever_more_rarely() -> None:
    made = departures(assign(1))
    times = [at for at in range(400) if gone(made, float(at))]
    assert times == [0, 10, 30, 70, 130, 190, 250, 310, 370]


def test_after_a_new_connection_everything_under_way_goes_out_again_the_oldest_first() -> None:
    made = departures(assign(1), assign(2, OTHER), subscribe(3))
    assert gone(made) == ["a1", "a2"]
    made.rewind()
    assert gone(made, 1.0) == ["a1", "a2"]
    assert made.next_at(1.0) == 11.0


def test_no_more_than_the_window_are_under_way() -> None:
    made = departures(*(subscribe(number, CARD, f"s-{number}") for number in range(5)), window=2)
    assert gone(made) == ["s0", "s1"]
    made.settle(1)
    assert gone(made) == ["s2"]


def test_an_answered_command_is_not_known_any_more() -> None:
    made = departures(assign(1))
    entry = made.by_id("a1")
    assert entry is not None
    assert made.by_digest(entry.digest) is entry
    made.settle(entry.seq)
    assert made.by_id("a1") is None
    assert made.by_digest(entry.digest) is None
    assert gone(made) == []


keys = st.frozensets(st.sampled_from("abcd"), max_size=3)


@given(st.lists(st.tuples(keys.filter(bool), keys), max_size=30), st.randoms(use_true_random=False))
def test_every_command_goes_out_once_and_after_all_that_it_needs(
    drawn: list[tuple[frozenset[str], frozenset[str]]], order: Any
) -> None:
    lanes = Lanes()
    out: set[int] = set()
    settled: list[int] = []
    for number, (own, uses) in enumerate(drawn):
        if lanes.add(number, Claims(own, uses - own)):
            out.add(number)
    while out:
        number = order.choice(sorted(out))
        out.discard(number)
        settled.append(number)
        freed = lanes.settle(number)
        assert not set(freed) & (out | set(settled))
        out.update(freed)
    assert sorted(settled) == list(range(len(drawn)))
    for place, number in enumerate(settled):
        own, uses = drawn[number]
        before = set(settled[:place])
        assert all(earlier in before for earlier in range(number) if drawn[earlier][0] & (own | uses)), (
            "something it needs was not answered yet"
        )
