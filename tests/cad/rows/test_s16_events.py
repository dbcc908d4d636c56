"""S16: a programme bought singly opens for its buyers during its window, and for nobody else, down to the card."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cad.air.sent import CardOnAir
from cad.ecmg.maker import SealingMaker
from cad.ecmg.services import ServiceBook
from cad.explain.document import explain_card, explain_channel
from cad.ledger.look import reading
from cards.errors import CardRefusedError
from config.settings import NetworkSettings
from emm.ecm import EcmSealer, parse_ecm
from protocol.portal.fields import spell_moment
from tests.support.clock import ManualClock
from tests.support.hand_headend import EVENTS, GRANTS, NUMBERS, HandHeadend, Viewer, at
from tests.support.ledgers import Air

A, B, C = NUMBERS[0], NUMBERS[1], NUMBERS[2]
SOUTH = NetworkSettings.model_validate(
    {
        "id": "south",
        "services": [
            {"id": "cinema", "name": "Cinema", "original_network_id": 1, "transport_stream_id": 2, "service_id": 101},
        ],
        "products": [{"id": "film", "product_id": 3, "services": ["cinema"]}],
        "event_products": [40_000, 40_002],
    }
)
CINEMA = bytes.fromhex("01 0001 0002 0065")
BEGINS, ENDS = at("2026-11-21 20:00"), at("2026-11-21 22:00")


class Scrambler:
    """Asks the ECMG for ECMs of the cinema, which follows the events of the ledger."""

    def __init__(self, headend: HandHeadend) -> None:
        self.headend = headend
        self.clock = ManualClock()
        self.book = ServiceBook([SOUTH])
        self.maker = SealingMaker(EcmSealer(headend.ladder), headend.calendar, self.clock, self.book)

    def ecm(self, moment: int) -> bytes:
        """The ECM made at a time."""
        self.book.follow_events(
            self.headend.store.read(lambda held: reading.event_windows(held, GRANTS, float(self.headend.now)))
        )
        self.clock.set(moment)
        return self.maker.make(7, [os.urandom(8), os.urandom(8)], CINEMA)

    def products(self, moment: int) -> tuple[int, ...]:
        """The products that the ECM of a time names."""
        return parse_ecm(self.ecm(moment)).product_ids

    def opens(self, card: Viewer, moment: int) -> bool:
        """Whether a card opens the ECM made at a time."""
        try:
            card.session.process_ecm(self.ecm(moment))
        except CardRefusedError:
            return False
        return True


@pytest.fixture
def scrambler(headend: HandHeadend) -> Scrambler:
    for number in (B, C):
        headend.done("card assign", card=number, subscriber=number)
    return Scrambler(headend)


def event(headend: HandHeadend, offer: str = "film-a", begins: int = BEGINS, ends: int = ENDS, **more: object) -> dict:  # type: ignore[type-arg]
    """Put an event on the cinema; the reply."""
    window = {"starts_at": spell_moment(begins), "ends_at": spell_moment(ends)}
    body = {"offer": offer, "kind": "event", "names": {"fi": offer}, "service": "cinema"} | window | more
    return headend.order("offer put", **body)


def buy(headend: HandHeadend, card: str, offer: str = "film-a", **more: object) -> dict:  # type: ignore[type-arg]
    """Buy an event for a card; the reply."""
    return headend.order("subscription put", subscription=f"{offer}-{card}", card=card, offer=offer, **more)


@pytest.mark.slow
def test_who_bought_one_film_opens_it_just_during_its_window_and_no_other(
    headend: HandHeadend, scrambler: Scrambler
) -> None:
    assert event(headend)["code"] == "ok"
    assert event(headend, "film-b", ENDS - 600, ENDS + 3600)["code"] == "ok"
    reply = buy(headend, A)
    assert (reply["code"], reply["starts_at"], reply["ends_at"]) == ("ok", spell_moment(BEGINS), spell_moment(ENDS))
    assert buy(headend, B, "film-b")["code"] == "ok"
    assert headend.done("subscription put", subscription="s", card=C, offer="film")["code"] == "ok"
    headend.go_to(BEGINS - 3600)
    first, second, package = (headend.card(number).hear() for number in (A, B, C))
    for moment, opened in (
        (BEGINS - 1, (False, False)),
        (BEGINS, (True, False)),
        (ENDS - 601, (True, False)),
        (ENDS - 600, (True, True)),  # both films run: each opens for its own buyers
        (ENDS - 1, (True, True)),
        (ENDS, (False, True)),
        (ENDS + 3599, (False, True)),
        (ENDS + 3600, (False, False)),
    ):
        assert (scrambler.opens(first, moment), scrambler.opens(second, moment)) == opened, moment - BEGINS
        assert scrambler.opens(package, moment), "who has the channel anyway is not disturbed"
    assert [scrambler.products(moment) for moment in (BEGINS - 1, BEGINS, ENDS - 1, ENDS, ENDS + 3600)] == [
        (3,),
        (3, 40_000),
        (3, 40_000, 40_001),
        (3, 40_001),
        (3,),
    ]
    assert len(scrambler.ecm(ENDS - 1)) <= 183, "one TS packet"


def test_no_right_no_key_a_card_never_holds_the_key_of_a_film_that_was_not_bought(
    headend: HandHeadend, scrambler: Scrambler
) -> None:
    event(headend)
    event(headend, "film-b", ENDS, ENDS + 3600)
    buy(headend, A)
    headend.go_to(BEGINS)
    rights = headend.card(A).hear().card.memory.rights
    assert {product.product_id for block in rights for product in block.products} == {40_000}


def test_bought_long_before_it_is_sent_ahead_and_opens_at_its_minute(
    headend: HandHeadend, scrambler: Scrambler
) -> None:
    begins = at("2027-01-15 20:00")
    event(headend, begins=begins, ends=begins + 7200)
    assert buy(headend, A)["visible_by"] is None
    card = headend.card(A).hear()
    assert card.card.memory.rights == (), "its key is not sent so long ahead"
    headend.go_to(begins - 86_400)
    card.hear()
    assert not scrambler.opens(card, begins - 1)
    assert scrambler.opens(card, begins)
    assert scrambler.opens(card, begins + 7199)


def test_bought_in_the_middle_and_too_late(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend)
    headend.go_to(BEGINS + 1800)
    assert buy(headend, A)["code"] == "ok"
    card = headend.card(A).hear()
    assert scrambler.opens(card, BEGINS + 1800)
    headend.go_to(ENDS - 1)
    assert buy(headend, B)["code"] == "ok"
    headend.go_to(ENDS)
    assert (buy(headend, C)["code"], buy(headend, C)["retryable"]) == ("event_over", False)
    assert event(headend, begins=ENDS + 60, ends=ENDS + 120)["code"] == "event_over", "another film, another name"
    assert event(headend, "film-z")["code"] == "event_over"


@pytest.mark.parametrize("window", [{"starts_at": BEGINS}, {"ends_at": ENDS}])
def test_a_customer_does_not_choose_the_window(headend: HandHeadend, window: dict[str, int]) -> None:
    event(headend)
    reply = buy(headend, A, **{name: spell_moment(value) for name, value in window.items()})
    assert reply["code"] == "invalid"
    assert "leave it out" in reply["detail"]


@pytest.mark.slow
def test_it_is_told_for_the_invoice_once(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend, terms={"price": "4.90 EUR"})
    headend.done("subscription put", subscription="s", card=A, offer="film-a")
    headend.done("subscription put", subscription="s", card=A, offer="film-a")
    event(headend, ends=ENDS + 900, terms={"price": "9.90 EUR"})
    headend.crash()
    headend.done("card replace", card=A, replacement=NUMBERS[5])
    headend.go_to(ENDS + 901)
    headend.sleep_until(ENDS + 90_000)
    bought = [one for one in headend.invoice() if one["fact"] == "programme-bought"]
    assert [(one["card"], one["offer"], one["price"]) for one in bought] == [(A, "film-a", "4.90 EUR")]
    assert not [one for one in headend.invoice() if one["fact"] in ("service-started", "service-ended")]
    # The portal's own name for an order may be used again when the film is over: that is another purchase.
    event(headend, "film-b", headend.now + 60, headend.now + 7200)
    headend.done("subscription put", subscription="s", card=NUMBERS[5], offer="film-b")
    assert [one["offer"] for one in headend.invoice() if one["fact"] == "programme-bought"] == ["film-a", "film-b"]
    assert not [one for one in headend.invoice() if one["fact"] == "service-ended"]


@pytest.mark.slow
def test_another_window_reaches_card_and_ecm(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend)
    buy(headend, A)
    buy(headend, B)
    headend.done("subscription end", subscription=f"film-a-{B}", authority="customer-service")
    card = headend.card(A).hear()
    moved = event(headend, begins=BEGINS + 3600, ends=ENDS + 3600)
    assert moved["detail"].startswith("1 cards are sent")
    assert not scrambler.opens(card, BEGINS), "the ECM follows at once"
    card.hear()
    for moment, opened in ((BEGINS + 3599, False), (BEGINS + 3600, True), (ENDS + 3599, True), (ENDS + 3600, False)):
        assert scrambler.opens(card, moment) is opened
    (seen,) = headend.view(A).subscriptions
    assert (seen.starts_at, seen.ends_at) == (BEGINS + 3600, ENDS + 3600)
    assert not scrambler.opens(headend.card(B).hear(), BEGINS + 3600), "what was ended stays ended"
    # It overruns: the end moves while it runs, also after a crash in between.
    headend.go_to(ENDS + 3500)
    headend.crash()
    event(headend, begins=BEGINS + 3600, ends=ENDS + 7200)
    assert scrambler.opens(card.hear(), ENDS + 7199)


def test_a_number_comes_again_only_when_no_key_of_it_can_be_on_a_card(
    headend: HandHeadend, scrambler: Scrambler
) -> None:
    for day, name in enumerate("abc"):
        assert event(headend, f"film-{name}", BEGINS + day * 86_400, ENDS + day * 86_400)["code"] == "ok"
    buy(headend, A)
    blocked = headend.card(A)
    headend.go_to(BEGINS)
    blocked.hear()  # and then never again: it keeps the key of film-a
    headend.go_to(ENDS + 3 * 86_400)
    full = event(headend, "film-d", headend.now + 60, headend.now + 7200)
    assert (full["code"], full["retryable"]) == ("event_numbers_used", False)
    epoch = headend.calendar.epoch(headend.now)
    later = headend.calendar.epoch_start(epoch + 1)
    assert event(headend, "film-d", later, later + 7200)["code"] == "ok"
    assert event(headend, "film-e", later - 60, later + 60)["code"] == "event_numbers_used", "it touches both epochs"
    assert scrambler.products(later) == (3, 40_000)
    headend.now = later
    assert not scrambler.opens(blocked, later)
    # An event that is moved into an epoch where its number is another's takes another number with it.
    assert event(headend, "film-d", later + 86_400, later + 90_000)["code"] == "ok"
    assert scrambler.products(later + 86_400) == (3, 40_000)


def test_the_room_in_the_ecms_is_shared_by_all_operators_of_the_network(
    headend: HandHeadend, scrambler: Scrambler
) -> None:
    assert event(headend)["code"] == "ok"
    assert event(headend, "film-b", BEGINS + 600, ENDS, operator="kaspnet", rev=1)["code"] == "ok"
    crowded = event(headend, "film-c", BEGINS - 600, BEGINS + 601)
    assert crowded["code"] == "too_many_events"
    assert spell_moment(BEGINS + 600) in crowded["detail"]
    assert event(headend, "film-c", BEGINS - 600, BEGINS + 600)["code"] == "ok", "one begins when the other ends"
    assert event(headend, "film-c", BEGINS - 600, BEGINS + 900)["code"] == "too_many_events"


def test_what_is_not_granted_is_not_sold_and_not_opened(headend: HandHeadend, scrambler: Scrambler) -> None:
    assert event(headend, service="sport-1")["code"] == "not_granted"
    assert buy(headend, A)["code"] == "unknown_offer"
    event(headend, operator="kaspnet", rev=1)
    assert buy(headend, A)["code"] == "unknown_offer", "another operator's event"
    refused = headend.order("offer put", offer="film", kind="event", names={"fi": "x"}, service="cinema",
                            starts_at=spell_moment(BEGINS), ends_at=spell_moment(ENDS))  # fmt: skip
    assert refused["code"] == "kind_fixed"


def test_withdrawn_it_is_not_sold_and_its_buyers_keep_it(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend)
    buy(headend, A)
    headend.done("offer withdraw", offer="film-a")
    assert buy(headend, B)["code"] == "offer_withdrawn"
    assert scrambler.opens(headend.card(A).hear(), BEGINS)


def test_explain_names_it(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend)
    buy(headend, A)
    aired = [CardOnAir("mux-1", True, "base", BEGINS, BEGINS)]

    def channel(number: str) -> tuple[list[str], str]:
        (service,) = SOUTH.services
        found = explain_channel(headend.view(number), SOUTH, service, headend.calendar, headend.now, aired)
        return found["products"], found["code"]

    assert channel(A) == (["event film-a", "film"], "not_begun")
    assert channel(B) == (["film"], "no_subscription")
    headend.go_to(BEGINS)
    headend.store.first_air([Air(view.change_seq, "mux-1", BEGINS) for view in headend.view(A).changes], BEGINS)
    assert channel(A) == (["event film-a", "film"], "visible")
    whole = explain_card(headend.view(A), SOUTH, headend.calendar, headend.now, aired)
    assert [window["products"] for window in whole["rights"]] == [["event film-a"]]
    headend.go_to(ENDS)
    assert channel(A)[1] == "ended"


@pytest.mark.slow
def test_after_a_restart_the_same_is_on_the_air(headend: HandHeadend, scrambler: Scrambler) -> None:
    event(headend)
    buy(headend, A)
    headend.sleep_until(BEGINS + 5)
    assert scrambler.opens(headend.card(A).hear(), BEGINS + 5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 90), st.integers(1, 30)), min_size=1, max_size=40))
def test_no_key_is_ever_that_of_two_events(headend: HandHeadend, puts: list[tuple[int, int, int]]) -> None:
    for name, day, days in puts:
        begins = headend.now + day * 86_400
        event(headend, f"film-{name}", begins, begins + days * 86_400)
        seen: dict[tuple[int, int], str] = {}
        windows = headend.store.read(lambda held: reading.event_windows(held, GRANTS, float(headend.now)))
        for one in windows:
            first = headend.calendar.epoch(max(one.starts_at, headend.now))
            for epoch in range(first, headend.calendar.epoch(one.ends_at - 1) + 1):
                assert one.product_id in EVENTS.numbers
                assert seen.setdefault((one.product_id, epoch), str(one)) == str(one)
