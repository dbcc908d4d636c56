"""X5: `explain` gives one reason, and the right one."""

from dataclasses import replace
from typing import Any

import pytest

from cad.explain import explain_card, explain_channel
from cad.ledger.look.views import CardView, ChangeView, SubscriptionView
from config.settings import NetworkSettings, ProductSettings, ServiceSettings
from emm.calendar import Calendar
from emm.plan import Right

NOW = 1_800_000_000.0
CALENDAR = Calendar()
SPORT = ServiceSettings(id="sport-1", name="Sport 1", original_network_id=1, transport_stream_id=1, service_id=1)
FREE = ServiceSettings(id="unsold", name="Unsold", original_network_id=1, transport_stream_id=1, service_id=2)
NETWORK = NetworkSettings(
    id="net", services=(SPORT, FREE), products=(ProductSettings(id="sport", product_id=7, services=("sport-1",)),)
)
HEARD: list[dict[str, Any]] = [{"multiplex": "mux-1", "connected": True, "last_sent_at": "2027-01-15T08:00:00Z"}]
UNHEARD: list[dict[str, Any]] = [{"multiplex": "mux-1", "connected": False, "last_sent_at": None}]
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
    subscriptions=(SubscriptionView("s", 1, "sport-1", {"en": "Sport 1"}, ("sport",), int(NOW) - 50, None, NOW - 50),),
    changes=(ChangeView(2, 3, "cmd", NOW - 50, {"mux-1": NOW - 49}),),
)


def code(view: CardView, on_air: list[dict[str, Any]] = HEARD, service: ServiceSettings = SPORT) -> str:
    found = explain_channel(view, NETWORK, service, CALENDAR, NOW, on_air)
    assert found["visible"] == (found["code"] == "visible")
    assert service.name in found["sentence"] or found["code"] in {"suspended", "no_multiplex"}
    return str(found["code"])


@pytest.mark.parametrize(
    ("view", "on_air", "service", "expected"),
    [
        (VIEW, HEARD, SPORT, "visible"),
        (VIEW, HEARD, FREE, "no_product"),
        (replace(VIEW, state="suspended", reason="unpaid"), HEARD, SPORT, "suspended"),
        (replace(VIEW, rights=()), HEARD, SPORT, "no_subscription"),
        (replace(VIEW, rights=(Right(8, 0),)), HEARD, SPORT, "no_subscription"),
        (replace(VIEW, rights=(Right(7, int(NOW) + 60),)), HEARD, SPORT, "not_begun"),
        (replace(VIEW, rights=(Right(7, 0, int(NOW)),)), HEARD, SPORT, "ended"),
        (VIEW, UNHEARD, SPORT, "not_on_air"),
        (VIEW, [], SPORT, "no_multiplex"),
        (replace(VIEW, changes=(ChangeView(9, 4, "cmd", NOW, {}),)), HEARD, SPORT, "not_on_air"),
    ],
)
def test_one_reason(view: CardView, on_air: list[dict[str, Any]], service: ServiceSettings, expected: str) -> None:
    assert code(view, on_air, service) == expected


def mix(**changed: Any) -> CardView:
    """A card with a mix of sport and film, of which film was chosen."""
    held = SubscriptionView("m", 1, "mix-1", {"en": "Mix"}, ("film",), int(NOW) - 50, None, NOW - 50)
    chosen = replace(held, choice=("film",), listed=("film", "sport"), next_change_at=int(NOW) + 3600)
    return replace(VIEW, subscriptions=(replace(chosen, **changed),), rights=(Right(9, int(NOW) - 50),))


def test_what_was_not_chosen_out_of_a_mix_is_told_and_when_it_can_be() -> None:
    found = explain_channel(mix(), NETWORK, SPORT, CALENDAR, NOW, HEARD)
    assert found["code"] == "not_chosen"
    assert found["sentence"].endswith("not chosen. The choice can be changed from 2027-01-15T09:00:00Z on.")
    (shown,) = explain_card(mix(), NETWORK, CALENDAR, NOW, HEARD)["subscriptions"]
    assert (shown["choice"], shown["next_change_at"]) == (["film"], "2027-01-15T09:00:00Z")
    assert code(mix(listed=("film", "news"))) == "no_subscription"
    assert code(mix(ends_at=int(NOW) - 1)) == "no_subscription"
    assert code(mix(choice=("sport",), products=(), listed=("film",))) == "not_listed"


def test_the_reason_for_a_suspension_is_told() -> None:
    found = explain_channel(replace(VIEW, state="suspended", reason="unpaid"), NETWORK, SPORT, CALENDAR, NOW, HEARD)
    assert "unpaid" in found["sentence"]


def test_the_whole_card() -> None:
    found = explain_card(VIEW, NETWORK, CALENDAR, NOW, HEARD)
    assert found["card"] == "100000000008"
    assert found["subscriptions"][0]["state"] == "live"
    assert found["rights"][0]["products"] == ["sport"]
    assert found["changes"][0]["first_sent"] == {"mux-1": "2027-01-15T07:59:11Z"}
    assert found["emm"]["revision"] == 3
