"""C6: messages and fingerprints to one card, by offer, by region, to all of an operator, under a moved clock."""

from typing import Any

import pytest

from cad.ledger.decide.messages import ACTIVE_MAX
from emm.notices.content import Fingerprint, Position
from protocol import card_number
from protocol.portal.fields import spell_moment as spelt
from tests.support.hand_headend import NUMBERS, HandHeadend, at

A, B, C = NUMBERS[:3]
KASPNETS = card_number.spell(1000)
DAY = 86_400
HOUR = 3_600


@pytest.fixture
def customers(headend: HandHeadend) -> HandHeadend:
    """A and B of karjaa with sport on A; a card of kaspnet with sport too."""
    headend.done("offer put", offer="sport", kind="channel", names={"fi": "Urheilu"}, products=["sport"])
    for number in (A, B):
        headend.done("card assign", card=number, subscriber="anna")
    headend.done("subscription put", subscription="s-1", card=A, offer="sport")
    headend.done("offer put", operator="kaspnet", offer="sport", kind="channel", names={"ru": "С"}, products=["sport"])
    headend.done("card assign", operator="kaspnet", card=KASPNETS, subscriber="ivan")
    headend.done("subscription put", operator="kaspnet", subscription="s-1", card=KASPNETS, offer="sport")
    return headend


def put(headend: HandHeadend, name: str = "m", text: str = "Hei!", **more: Any) -> dict[str, Any]:
    return headend.done("message put", **({"message": name, "to": {"all": True}, "text": {"fi": text}} | more))


def test_a_message_to_one_card_reaches_no_other(customers: HandHeadend) -> None:
    reply = customers.done("card message", card=A, message="hello", text={"ru": "Добрый вечер! " * 20, "en": "Good"})
    assert (reply["card"], reply["on_air_by"]) == (A, None)
    heard = {number: customers.card(number).hear_notices() for number in (A, B, KASPNETS)}
    assert {number: len(card.letters()) for number, card in heard.items()} == {A: 1, B: 0, KASPNETS: 0}
    assert heard[A].letters() == ["Good"]


def test_a_message_to_all_reaches_the_operators_cards_and_no_other_operators(customers: HandHeadend) -> None:
    put(customers, text="Huoltotyö ensi yönä")
    assert customers.card(A).hear_notices().letters() == ["Huoltotyö ensi yönä"]
    assert customers.card(C).hear_notices().letters() == ["Huoltotyö ensi yönä"], "whoever joins later hears it too"
    assert customers.card(KASPNETS).hear_notices().letters() == []
    put(customers, operator="kaspnet", text="Профилактика")
    assert customers.card(KASPNETS).hear_notices().letters() == ["Профилактика"]
    assert customers.card(A).hear_notices().letters() == ["Huoltotyö ensi yönä"]


def test_a_message_to_an_offer_reaches_who_has_it_now(customers: HandHeadend) -> None:
    put(customers, to={"offer": "sport"}, text="Jääkiekkoa!", ends_at="2026-12-20T00:00:00+02:00")
    assert [len(customers.card(each).hear_notices().letters()) for each in (A, B, KASPNETS)] == [1, 0, 0]
    customers.done("subscription put", subscription="s-2", card=B, offer="sport", starts_at="2026-12-03T00:00:00+02:00")
    customers.done("subscription put", subscription="s-1", card=A, offer="sport", ends_at="2026-12-02T00:00:00+02:00")
    assert customers.card(B).hear_notices().letters() == [], "not before it starts"
    customers.go_to(at("2026-12-03 00:00"))
    assert [len(customers.card(each).hear_notices().letters()) for each in (A, B)] == [0, 1]


def test_a_message_to_a_region_reaches_who_stands_there_now(customers: HandHeadend) -> None:
    customers.done("card region", card=A, region="coast")
    customers.done("card region", card=B, region="inland")
    put(customers, to={"region": "coast"}, text="Myrskyvaroitus")
    assert [customers.card(each).hear_notices().letters() for each in (A, B, C, KASPNETS)] == [
        ["Myrskyvaroitus"],
        [],
        [],
        [],
    ]
    customers.done("card region", card=A)
    customers.done("card region", card=B, region="coast")
    customers.done("card assign", card=C, subscriber="carl", region="coast")
    assert [len(customers.card(each).hear_notices().letters()) for each in (A, B, C)] == [0, 1, 1]
    customers.done("card fingerprint", message="f", to={"region": "inland"})
    assert customers.card(B).hear_notices().letters() == ["Myrskyvaroitus"]
    customers.done("card region", card=B, region="inland")
    assert customers.card(B).hear_notices().letters() == ["fingerprint"]


def test_a_region_is_the_operators_own_cards_there_also_where_another_has_cards_in_it(customers: HandHeadend) -> None:
    customers.done("card region", card=A, region="coast")
    customers.done("card region", operator="kaspnet", card=KASPNETS, region="coast")
    put(customers, to={"region": "coast"}, text="Hei rannikko")
    put(customers, operator="kaspnet", to={"region": "coast"}, text="Привет")
    assert customers.card(A).hear_notices().letters() == ["Hei rannikko"]
    assert customers.card(KASPNETS).hear_notices().letters() == ["Привет"]


def test_it_is_sent_in_its_window_and_no_longer(customers: HandHeadend) -> None:
    now = customers.now
    put(customers, starts_at=spelt(now + HOUR), ends_at=spelt(now + 2 * HOUR))
    for moment, sent in ((now, 0), (now + HOUR - 1, 0), (now + HOUR, 1), (now + 2 * HOUR - 1, 1), (now + 2 * HOUR, 0)):
        customers.go_to(moment)
        assert len(customers.notices()) == sent, moment


@pytest.mark.slow
def test_it_is_there_after_a_crash_and_a_restart_and_shown_once(customers: HandHeadend) -> None:
    put(customers)
    card = customers.card(A).hear_notices()
    before = customers.notices()
    customers.crash()
    assert customers.notices() == before, "the same bytes, which receivers drop"
    customers.sleep_until(customers.now + 3 * DAY)
    assert customers.notices() == before
    assert card.hear_notices().letters() == ["Hei!"]
    customers.sleep_until(customers.now + 4 * DAY)
    assert customers.notices() == [], "seven days are over"


def test_a_changed_text_is_a_new_message_and_the_same_is_not(customers: HandHeadend) -> None:
    put(customers)
    card = customers.card(A).hear_notices()
    customers.now += HOUR
    assert put(customers)["detail"].startswith("it was so already")
    assert card.hear_notices().letters() == ["Hei!"]
    put(customers, to={"cards": [B, A]})
    assert card.hear_notices().letters() == ["Hei!"], "other recipients: those who have it do not get it again"
    put(customers, text="Hei taas!")
    assert card.hear_notices().letters() == ["Hei!", "Hei taas!"]


def test_a_withdrawn_message_is_not_sent_and_may_be_put_again(customers: HandHeadend) -> None:
    put(customers)
    card = customers.card(A).hear_notices()
    customers.done("message withdraw", message="m")
    assert customers.notices() == []
    assert customers.done("message withdraw", message="m")["detail"].startswith("it was so already")
    put(customers)
    assert card.hear_notices().letters() == ["Hei!", "Hei!"]


@pytest.mark.slow
def test_whoever_is_given_the_card_later_does_not_read_what_was_written_to_another(customers: HandHeadend) -> None:
    customers.done("card message", card=B, message="debt", text={"fi": "Maksamaton lasku"})
    customers.now += HOUR
    customers.done("card release", card=B)
    assert customers.notices() == []
    customers.done("card assign", card=B, subscriber="bert")
    assert customers.card(B).hear_notices().letters() == []


def test_the_same_holds_within_one_moment_of_the_clock(customers: HandHeadend) -> None:
    for _ in range(2):
        customers.done("card message", card=B, message="debt", text={"fi": "Maksamaton lasku"})
        assert customers.card(B).hear_notices().letters() == ["Maksamaton lasku"]
        customers.done("card release", card=B)
        customers.done("card assign", card=B, subscriber="bert")
        assert customers.notices() == []


def test_a_card_that_stands_in_for_another_of_its_holder_is_still_written_to(customers: HandHeadend) -> None:
    customers.done("card message", card=B, message="hello", text={"fi": "Tervetuloa"})
    customers.now += HOUR
    customers.done("card replace", card=A, replacement=B)
    assert customers.card(B).hear_notices().letters() == ["Tervetuloa"]


def test_a_forced_message_is_due_and_a_mailbox_message_is_not(customers: HandHeadend) -> None:
    put(customers, mode="forced")
    put(customers, name="m-2")
    card = customers.card(A).hear().hear_notices()
    assert card.opens("sport")
    assert [held.due for held in card.session.mailbox()] == [True, False]
    assert card.opens("sport", customers.now + DAY - 1)
    assert card.session.mailbox()[0].due
    assert card.opens("sport", customers.now + DAY)
    assert not card.session.mailbox()[0].due, "a day, since the command says nothing"


def test_a_fingerprint_to_one_card_a_service_and_all(customers: HandHeadend) -> None:
    put_one = {"position": "bottom-right", "duration_s": 20, "service": "news"}
    customers.done("card fingerprint", message="f-1", to={"cards": [A]}, **put_one)
    customers.done("card fingerprint", message="f-2", to={"all": True})
    card = customers.card(A).hear_notices()
    held = card.session.mailbox()
    assert all(one.fingerprint and one.due for one in held)
    now = customers.now
    assert [card.session.letter(one.number, mark=True) for one in held] == [
        Fingerprint(now, now + 900, 20, Position.BOTTOM_RIGHT, 101),
        Fingerprint(now, now + 900, 10, Position.RANDOM, 0),
    ]
    assert card.hear_notices().letters() == [], "shown once"
    assert customers.card(B).hear_notices().letters() == ["fingerprint"]
    assert customers.card(KASPNETS).hear_notices().letters() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "body", "code"),
    [
        ("message put", {"to": {"cards": [KASPNETS]}}, "unknown_card"),
        ("message put", {"to": {"cards": [C]}}, "unknown_card"),
        ("message put", {"to": {"offer": "weather"}}, "unknown_offer"),
        ("message put", {"to": {"region": "moon"}}, "unknown_region"),
        ("card fingerprint", {"to": {"region": "moon"}}, "unknown_region"),
        ("message put", {"ends_at": "2020-01-01T00:00:00Z"}, "invalid"),
        ("message put", {"starts_at": "2026-12-02T00:00:00Z", "ends_at": "2026-12-02T00:00:00Z"}, "invalid"),
        ("message put", {"starts_at": "2027-06-01T00:00:00Z"}, "invalid"),
        ("message put", {"starts_at": "2026-12-02T00:00:00Z", "ends_at": "2027-06-01T00:00:00Z"}, "invalid"),
        ("card message", {"card": KASPNETS}, "unknown_card"),
        ("card fingerprint", {"service": "weather"}, "unknown_service"),
        ("message withdraw", {"message": "nothing"}, "unknown_message"),
    ],
)
def test_what_is_refused(customers: HandHeadend, command: str, body: dict[str, Any], code: str) -> None:
    whole: dict[str, Any] = {"message": "m"}
    if command != "message withdraw" and command != "card message":
        whole["to"] = {"all": True}
    if command in ("message put", "card message"):
        whole["text"] = {"fi": "Hei"}
    assert customers.order(command, **(whole | body))["code"] == code
    assert customers.notices() == []


def test_a_card_in_nobodys_hands_and_a_blacklisted_one_get_no_message(customers: HandHeadend) -> None:
    customers.done("card release", card=B)
    assert customers.order("card message", card=B, message="m", text={"fi": "Hei"})["code"] == "card_not_assigned"
    customers.done("card blacklist", card=B)
    assert customers.order("card message", card=B, message="m", text={"fi": "Hei"})["code"] == "card_blacklisted"


def test_an_older_rev_is_refused(customers: HandHeadend) -> None:
    put(customers, rev=1000)
    assert customers.order("message withdraw", message="m", rev=1000)["code"] == "stale_rev"
    assert (
        customers.order("message put", message="m", rev=999, to={"all": True}, text={"fi": "x"})["code"] == "stale_rev"
    )


@pytest.mark.slow
def test_an_operator_has_so_many_messages_and_not_one_more(customers: HandHeadend) -> None:
    for number in range(ACTIVE_MAX):
        put(customers, name=f"m-{number}")
    order = {"to": {"all": True}, "text": {"fi": "Hei"}}
    assert customers.order("message put", message="more", **order)["code"] == "messages_full"
    assert put(customers, name="m-0", text="changed")["code"] == "ok", "one that is on the air may be changed"
    put(customers, operator="kaspnet", name="more")
    customers.done("message withdraw", message="m-0")
    put(customers, name="more")
    customers.go_to(customers.now + 8 * DAY)
    put(customers, name="later")


@pytest.mark.slow
def test_numbers_jump_when_an_older_ledger_is_put_back(customers: HandHeadend) -> None:
    put(customers)
    card = customers.card(A).hear_notices()
    customers.store.after_restore("a backup", float(customers.now))
    assert card.hear_notices().letters() == ["Hei!"], "what is on the air keeps its number"
    put(customers, name="m-2", text="Uusi")
    customers.crash()
    put(customers, name="m-3", text="Uusin")
    assert card.hear_notices().letters() == ["Hei!", "Uusi", "Uusin"]
    newest = max(held.number for held in card.session.mailbox())
    assert newest > 10_000
