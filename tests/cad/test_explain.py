"""X5: `explain` gives one reason, and the right one; all that is missing; and no time that was not."""

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cad.air.sent import CardOnAir
from cad.explain.document import explain_card, explain_channel
from cad.ledger.look.views import CardView, ChangeView, SubscriptionView
from cad.ledger.model import OPEN_STATES, STATES
from config.settings import NetworkSettings, ProductSettings, ServiceSettings
from emm.calendar import Calendar
from emm.plan import Right
from emm.traits import Traits
from protocol import receiver_number

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
CALENDAR = Calendar()
SPORT = ServiceSettings(id="sport-1", name="Sport 1", original_network_id=1, transport_stream_id=1, service_id=1)
FREE = ServiceSettings(id="unsold", name="Unsold", original_network_id=1, transport_stream_id=1, service_id=2)
NETWORK = NetworkSettings(
    id="net", services=(SPORT, FREE), products=(ProductSettings(id="sport", product_id=7, services=("sport-1",)),)
)
HEARD = CardOnAir("mux-1", True, "base", NOW - 49, NOW - 20, NOW + 40)
EARLIER = replace(HEARD, last_sent_at=None)
"""As after a restart: sent in an earlier life of the daemon, and not in this one."""
WAITING = CardOnAir("mux-1", True, "new", None, NOW - 3600, NOW + 5)
DOWN = CardOnAir("mux-2", False, "base", NOW - 49, None, None)
DOWN_AND_NEW = replace(DOWN, ring="new", first_sent_at=None)
CHANGE = ChangeView(2, 3, "cmd", NOW - 50, {"mux-1": NOW - 49})
SUBSCRIPTION = SubscriptionView("s", 1, "sport-1", {"en": "Sport 1"}, ("sport",), int(NOW) - 50, None, NOW - 50)
VIEW = CardView(
    address=10_000_000_000,
    operator="op",
    state="active",
    reason=None,
    subscriber="customer",
    key_version=1,
    revision=3,
    rev=1,
    assigned_at=NOW - 100,
    changed_at=NOW - 50,
    rights=(Right(7, int(NOW) - 50),),
    subscriptions=(SUBSCRIPTION,),
    changes=(CHANGE,),
)
NEW_CHANGE = replace(VIEW, changes=(replace(CHANGE, aired={}),))
PAIRED = replace(VIEW, traits=Traits(receiver=receiver_number.of_serial(17)))
RECEIVER = receiver_number.spell(receiver_number.of_serial(17))
BARE = replace(VIEW, rights=(), subscriptions=())


def mix(**changed: Any) -> CardView:
    """A card with a mix of sport and film, of which film was chosen."""
    held = SubscriptionView("m", 1, "mix-1", {"en": "Mix"}, ("film",), int(NOW) - 50, None, NOW - 50)
    chosen = replace(held, choice=("film",), listed=("film", "sport"), next_change_at=int(NOW) + 3600)
    return replace(VIEW, subscriptions=(replace(chosen, **changed),), rights=(Right(9, int(NOW) - 50),))


def ask(view: CardView, *on_air: CardOnAir, service: ServiceSettings = SPORT, **more: Any) -> dict[str, Any]:
    found = explain_channel(view, NETWORK, service, CALENDAR, NOW, on_air, **more)
    assert found["visible"] == (found["code"] == "visible")
    assert found["visible"] or "may open" not in found["sentence"]
    assert "`" not in found["sentence"], "commands are for the agent"
    assert service.name in found["sentence"] or found["code"] in {"suspended", "card_stock"} | CLOSED
    assert all(need["text"].endswith(".") for need in found["needs"])
    return found


CLOSED = {f"card_{state}" for state in STATES - OPEN_STATES}


@pytest.mark.parametrize(
    ("view", "on_air", "service", "expected"),
    [
        (VIEW, [HEARD], SPORT, "visible"),
        (VIEW, [HEARD, DOWN], SPORT, "visible"),
        (VIEW, [WAITING, replace(HEARD, multiplex="mux-2")], SPORT, "visible"),
        (VIEW, [HEARD], FREE, "no_product"),
        (replace(VIEW, state="suspended", reason="unpaid"), [HEARD], SPORT, "suspended"),
        (BARE, [HEARD], SPORT, "no_subscription"),
        (replace(VIEW, rights=(Right(8, 0),)), [HEARD], SPORT, "no_subscription"),
        (replace(VIEW, rights=(Right(7, int(NOW) + 60),)), [HEARD], SPORT, "not_begun"),
        (replace(VIEW, rights=(Right(7, 0, int(NOW)),)), [HEARD], SPORT, "ended"),
        (VIEW, [], SPORT, "no_multiplex"),
        (VIEW, [DOWN], SPORT, "not_connected"),
        (NEW_CHANGE, [DOWN_AND_NEW], SPORT, "not_connected"),
        (NEW_CHANGE, [DOWN_AND_NEW, WAITING], SPORT, "not_on_air"),
        (VIEW, [WAITING], SPORT, "not_on_air"),
        (NEW_CHANGE, [HEARD], SPORT, "not_on_air"),
        (VIEW, [EARLIER], SPORT, "sent_before"),
        (VIEW, [EARLIER, DOWN], SPORT, "sent_before"),
        (VIEW, [WAITING, EARLIER], SPORT, "sent_before"),
        (replace(VIEW, changes=()), [replace(EARLIER, first_sent_at=None)], SPORT, "sent_before"),
        (replace(BARE, subscriptions=(SUBSCRIPTION,), behind=("sport-1",)), [HEARD], SPORT, "on_its_way"),
        (replace(BARE, subscriptions=(SUBSCRIPTION,), behind=("other",)), [HEARD], SPORT, "no_subscription"),
    ],
)
def test_one_reason(view: CardView, on_air: list[CardOnAir], service: ServiceSettings, expected: str) -> None:
    assert ask(view, *on_air, service=service)["code"] == expected


FAULT = "Because of a fault nothing is sent to the cards of this network at present. The right to Sport 1 "
MENDED = (
    "was sent to the card at 2027-01-15 07:59 UTC; a card that has not received it gets it when the fault is mended."
)
AGAIN = "The right to Sport 1 was sent to the card at 2027-01-15 07:59 UTC; it is sent again by 2027-01-15 08:01 UTC. "
MISSING = "If the picture is missing, leave the receiver on Sport 1 until then."


@pytest.mark.parametrize(
    ("view", "place", "sentence"),
    [
        (VIEW, DOWN, FAULT + MENDED),
        (NEW_CHANGE, DOWN_AND_NEW, FAULT + "goes to the card when the fault is mended."),
        (VIEW, EARLIER, AGAIN + MISSING),
        (
            replace(VIEW, changes=()),
            CardOnAir("mux-1", True, "base"),
            "The right to Sport 1 is sent to the card again soon. " + MISSING,
        ),
        (NEW_CHANGE, WAITING, "Sport 1 is ordered; the right is sent to the card by 2027-01-15 08:01 UTC."),
    ],
)
def test_it_says_when_the_right_was_sent_and_when_it_comes(view: CardView, place: CardOnAir, sentence: str) -> None:
    assert ask(view, place)["sentence"] == sentence


def test_times_for_the_customer_are_in_the_operators_time_zone() -> None:
    view = replace(VIEW, rights=(Right(7, int(NOW) + 60),))
    found = ask(view, HEARD, zone=ZoneInfo("Europe/Helsinki"))
    assert found["sentence"] == "The subscription with Sport 1 begins at 2027-01-15 10:01 EET."
    assert found["needs"][0]["at"] == "2027-01-15T08:01:00Z"


def need(code: str, *names: str, at: str | None = None) -> tuple[str, list[str], str | None]:
    return code, list(names), at


MULTIPLEX = need("multiplex", "mux-2")


@pytest.mark.parametrize(
    ("view", "on_air", "expected"),
    [
        (VIEW, [HEARD], []),
        (VIEW, [HEARD, DOWN], [MULTIPLEX]),
        (VIEW, [DOWN], [MULTIPLEX]),
        (VIEW, [], [need("multiplex")]),
        (VIEW, [WAITING], [need("wait", at="2027-01-15T08:00:05Z")]),
        (VIEW, [EARLIER], [need("wait", at="2027-01-15T08:00:40Z")]),
        (VIEW, [replace(EARLIER, next_by=None)], [need("wait")]),
        (PAIRED, [HEARD], [need("receiver", RECEIVER)]),
        (replace(PAIRED, rights=()), [HEARD], [need("offer", "sport-1", "package"), need("receiver", RECEIVER)]),
        (BARE, [HEARD], [need("offer", "sport-1", "package")]),
        (BARE, [DOWN], [need("offer", "sport-1", "package"), MULTIPLEX]),
        (replace(VIEW, rights=(Right(7, 0, int(NOW)),)), [HEARD], [need("offer", "sport-1", "package")]),
        (replace(VIEW, rights=(Right(7, int(NOW) + 60),)), [HEARD], [need("wait", at="2027-01-15T08:01:00Z")]),
        (mix(), [HEARD], [need("choice", "mix-1", at="2027-01-15T09:00:00Z")]),
        (
            mix(choice=("sport",), products=(), listed=("film",)),
            [HEARD],
            [need("offer", "sport-1", "package")],
        ),
        (
            replace(BARE, subscriptions=(SUBSCRIPTION,), behind=("sport-1",)),
            [HEARD],
            [need("offer_changed", "sport-1")],
        ),
        (replace(VIEW, state="suspended"), [HEARD], [need("reopen")]),
        (replace(BARE, state="suspended"), [DOWN], [need("reopen"), need("offer", "sport-1", "package"), MULTIPLEX]),
        (replace(BARE, state="stock"), [HEARD], [need("assign"), need("offer", "sport-1", "package")]),
        (replace(BARE, state="returned"), [HEARD], [need("assign"), need("offer", "sport-1", "package")]),
        *((replace(VIEW, state=state), [HEARD], [need("replace")]) for state in ("lost", "stolen", "defective")),
        (replace(VIEW, state="replaced", replaced_by=7), [DOWN], [need("other_card", "000000000075")]),
        (replace(VIEW, state="replaced"), [HEARD], [need("other_card")]),
        (replace(VIEW, state="blacklisted"), [DOWN], [need("other_card")]),
    ],
)
def test_what_the_card_needs(view: CardView, on_air: list[CardOnAir], expected: list[Any]) -> None:
    found = ask(view, *on_air, offers=("sport-1", "package"))["needs"]
    assert [(one["code"], one["names"], one["at"]) for one in found] == expected
    assert all(name in one["text"] for one in found for name in one["names"])


@pytest.mark.parametrize("state", sorted(STATES - OPEN_STATES))
def test_every_closed_state_says_what_is_to_be_done(state: str) -> None:
    found = ask(replace(VIEW, state=state), HEARD)
    assert found["code"] in {"suspended", f"card_{state}"}
    assert found["needs"]


def test_a_product_of_the_settings_or_an_offer_may_be_missing() -> None:
    assert [one["code"] for one in ask(VIEW, HEARD, service=FREE)["needs"]] == ["product"]
    (missing,) = ask(BARE, HEARD)["needs"]
    assert (missing["code"], missing["names"]) == ("offer", [])
    assert "must be put" in missing["text"]


def test_what_is_for_the_agent_is_not_in_the_sentence() -> None:
    found = ask(VIEW, HEARD)
    assert found["advice"] == "`card refresh` sends the right again at once."
    assert found["sentence"].endswith("leave the receiver on Sport 1 for some minutes.")
    assert RECEIVER in ask(PAIRED, HEARD)["sentence"]
    assert "cad status" in ask(VIEW, DOWN)["advice"]
    assert ask(BARE, HEARD)["advice"] is None


def test_an_offer_that_lost_the_product_is_told_while_the_card_shows_it_still() -> None:
    kept = replace(SUBSCRIPTION, products=("film",))
    leaving = ask(replace(VIEW, subscriptions=(kept,), behind=("sport-1",)), HEARD)
    assert leaving["code"] == "visible"
    gone = "sport-1 has changed and does not include Sport 1 any more; this card follows within minutes."
    assert leaving["sentence"].endswith(gone)
    assert "follows" not in ask(replace(VIEW, behind=("sport-1",)), HEARD)["sentence"]
    assert explain_card(replace(VIEW, behind=("sport-1",)), NETWORK, CALENDAR, NOW, [])["behind"] == ["sport-1"]


def test_what_was_not_chosen_out_of_a_mix_is_told_and_when_it_can_be() -> None:
    found = ask(mix(), HEARD)
    assert found["code"] == "not_chosen"
    assert found["sentence"].endswith("not chosen. The choice can be changed from 2027-01-15 09:00 UTC on.")
    (shown,) = explain_card(mix(), NETWORK, CALENDAR, NOW, [HEARD])["subscriptions"]
    assert (shown["choice"], shown["next_change_at"]) == (["film"], "2027-01-15T09:00:00Z")
    assert ask(mix(listed=("film", "news")), HEARD)["code"] == "no_subscription"
    assert ask(mix(ends_at=int(NOW) - 1), HEARD)["code"] == "no_subscription"
    assert ask(mix(choice=("sport",), products=(), listed=("film",)), HEARD)["code"] == "not_listed"


def test_the_reason_for_a_suspension_is_told() -> None:
    assert "unpaid" in ask(replace(VIEW, state="suspended", reason="unpaid"), HEARD)["sentence"]


def test_the_whole_card() -> None:
    found = explain_card(VIEW, NETWORK, CALENDAR, NOW, [HEARD, DOWN])
    assert found["card"] == "100000000008"
    assert found["subscriptions"][0]["state"] == "live"
    assert found["rights"][0]["products"] == ["sport"]
    assert found["changes"][0]["first_sent"] == {"mux-1": "2027-01-15T07:59:11Z"}
    assert found["emm"]["revision"] == 3
    assert found["behind"] == []
    assert found["on_air"] == [
        {
            "multiplex": "mux-1",
            "connected": True,
            "ring": "base",
            "first_sent_at": "2027-01-15T07:59:11Z",
            "last_sent_at": "2027-01-15T07:59:40Z",
            "last_sent_ago_s": 20.0,
            "next_by": "2027-01-15T08:00:40Z",
        },
        {
            "multiplex": "mux-2",
            "connected": False,
            "ring": "base",
            "first_sent_at": "2027-01-15T07:59:11Z",
            "last_sent_at": None,
            "last_sent_ago_s": None,
            "next_by": None,
        },
    ]
