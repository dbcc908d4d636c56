"""I3, I7: cards follow a changed offer in slices, each once; a version has one content, also across a crash."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cad.ledger.look import reading
from cad.ledger.model import Grants, OperatorGrant
from cad.ledger.store import Store
from emm.plan import WINDOWS_MAX
from tests.support.hand_headend import NUMBERS, HandHeadend, at, on_the_wall
from tests.support.ledgers import GRANTS, NOW, assign, offer, open_store, order, refresh, subscribe, take

CARDS = range(7)
AT_ONCE = 3


class Ledger:
    """A store with seven cards that have one offer; it holds every version of every card against all that it says."""

    def __init__(self, folder: Path, grants: Grants = GRANTS) -> None:
        self.folder = folder
        self.grants = grants
        self.now = NOW
        self.said: dict[tuple[int, int], frozenset[int]] = {}
        self.open()

    def open(self) -> None:
        self.store = open_store(self.folder, grants=self.grants, now=NOW, roll_at_once=AT_ONCE)

    def crash(self) -> None:
        self.store.database.close()
        self.open()

    def look(self) -> dict[int, frozenset[int]]:
        """The products of each card, as told for one card and as put on the air at a start; one set for a version."""
        products = self.store.read(lambda held: reading.Products(held, self.grants))
        block = self.store.read(lambda held: reading.right_block(held, ["karjaa"], 0, 10**9, products, self.now))
        found: dict[int, frozenset[int]] = {}
        for address in CARDS:
            view = self.store.read(lambda held, a=address: reading.card_view(held, a, self.grants, self.now))
            assert view is not None
            found[address] = frozenset(right.product_id for right in view.rights)
            assert set(block.product_ids[block.addresses == np.uint64(address)].tolist()) == found[address]
            assert self.said.setdefault((address, view.revision), found[address]) == found[address], "I3"
        return found

    def roll_out(self) -> list[list[int]]:
        """Let all follow; return the cards of each slice."""
        slices = []
        while self.store.rollouts:
            slices.append([change.address for change in self.store.roll_out(self.now).changes])
            self.look()
        return slices


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    one = Ledger(tmp_path / "ledger")
    take(one.store, offer(products=["sport"]), offer("o-2", offer="other", products=["news"]))
    for card in CARDS:
        take(one.store, assign(f"a-{card}", card=card), subscribe(f"s-{card}", subscription=f"s-{card}", card=card))
    one.look()
    return one


def changed(store: Store, command_id: str, *products: str, rev: int = 2, **more: Any) -> Any:
    (outcome,) = take(store, offer(command_id, rev=rev, products=list(products), **more))
    return outcome


def test_the_first_cards_follow_at_once_and_the_others_in_slices_each_once(ledger: Ledger) -> None:
    outcome = changed(ledger.store, "change", "film")
    assert [change.address for change in outcome.card_changes] == [0, 1, 2]
    assert (outcome.cards, outcome.reply.detail) == (7, "7 cards are sent their new content")
    assert ledger.look() == {card: frozenset({2 if card < AT_ONCE else 1}) for card in CARDS}
    assert [one.cards_left for one in ledger.store.rollouts] == [4]
    assert ledger.roll_out() == [[3, 4, 5], [6]]
    assert ledger.look() == dict.fromkeys(CARDS, frozenset({2}))
    assert ledger.store.roll_out(NOW).changes == ()


def test_a_change_of_few_cards_is_done_with_its_answer(ledger: Ledger) -> None:
    take(ledger.store, subscribe("x", subscription="x", card=5, offer="other"))
    outcome = changed(ledger.store, "change", "film", rev=2, offer="other")
    assert [change.address for change in outcome.card_changes] == [5]
    assert ledger.store.rollouts == ()


def test_it_goes_on_after_a_crash_at_any_moment(ledger: Ledger) -> None:
    changed(ledger.store, "change", "film")
    for _ in range(2):
        ledger.crash()
        ledger.look()
        ledger.store.roll_out(NOW)
    ledger.crash()
    assert ledger.store.rollouts == ()
    assert ledger.look() == dict.fromkeys(CARDS, frozenset({2}))
    assert ledger.store.recover(NOW) == []


def test_an_offer_that_changes_again_meanwhile_ends_as_it_was_put_last(ledger: Ledger) -> None:
    changed(ledger.store, "first", "film")
    ledger.look()
    changed(ledger.store, "second", "news", rev=3)
    ledger.look()
    ledger.store.roll_out(NOW)
    changed(ledger.store, "third", "sport", "film", rev=4)
    ledger.look()
    ledger.crash()
    ledger.roll_out()
    assert ledger.look() == dict.fromkeys(CARDS, frozenset({1, 2}))


def test_a_card_follows_before_an_order_about_it_is_looked_at(ledger: Ledger) -> None:
    changed(ledger.store, "change", "film")
    (outcome,) = take(ledger.store, subscribe("x", subscription="x", card=6, offer="other"))
    (followed,), (own,) = outcome.closed, outcome.card_changes
    assert (followed.address, followed.command_id, own.address, own.command_id) == (6, "change", 6, "x")
    assert own.revision == followed.revision + 1
    assert [right.product_id for right in followed.rights] == [2]
    assert ledger.look()[6] == frozenset({2, 3})
    assert ledger.roll_out() == [[3, 4, 5], []]


def test_a_refused_order_lets_its_card_follow_all_the_same(ledger: Ledger) -> None:
    changed(ledger.store, "change", "film")
    (outcome,) = take(ledger.store, subscribe("x", subscription="x", card=6, offer="unknown"))
    assert (outcome.code, [change.address for change in outcome.closed]) == ("unknown_offer", [6])
    assert ledger.look()[6] == frozenset({2})


def test_what_stands_in_the_same_batch_follows_too(ledger: Ledger) -> None:
    first, second, third = take(
        ledger.store, assign("a", card=8), offer("change", rev=2, products=["film"]), refresh("r", card=6)
    )
    assert {change.address for change in second.card_changes} == {0, 1, 2, 6}
    assert [change.command_id for change in third.card_changes] == ["r"]
    assert first.code == "ok"
    ledger.roll_out()
    assert ledger.look() == dict.fromkeys(CARDS, frozenset({2}))


def test_offers_take_turns(ledger: Ledger) -> None:
    for card in CARDS:
        take(ledger.store, subscribe(f"x-{card}", subscription=f"x-{card}", card=card, offer="other"))
    changed(ledger.store, "one", "film")
    changed(ledger.store, "two", "sport", rev=2, offer="other")
    told = [ledger.store.roll_out(NOW).changes for _ in range(2)]
    assert [{change.command_id for change in changes} for changes in told] == [{"two"}, set()], (
        "who follows, follows all"
    )
    ledger.roll_out()
    assert ledger.look() == dict.fromkeys(CARDS, frozenset({1, 2}))


def test_settings_that_grant_less_reach_all_cards_in_slices(ledger: Ledger) -> None:
    karjaa = GRANTS.operators["karjaa"]
    less = Grants({**GRANTS.operators, "karjaa": OperatorGrant("south", {"film": 2}, karjaa.ranges, ("mux-1",))})
    changes, later = ledger.store.apply_grants(less, NOW)
    assert ([change.address for change in changes], later) == ([0, 1, 2], 4)
    ledger.grants = less
    assert ledger.look() == {card: frozenset(() if card < AT_ONCE else {1}) for card in CARDS}
    ledger.crash()
    ledger.roll_out()
    assert ledger.look() == dict.fromkeys(CARDS, frozenset())


def test_what_does_not_fit_on_one_card_of_many_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    many = {f"p{number}": number for number in range(100, 100 + WINDOWS_MAX)}
    karjaa = GRANTS.operators["karjaa"]
    grants = Grants({"karjaa": OperatorGrant("south", {**karjaa.products, **many}, karjaa.ranges, ("mux-1",))})
    ledger.store.apply_grants(grants, NOW)
    take(ledger.store, subscribe("x", subscription="x", card=6, offer="other"))
    before = ledger.store.head.seq
    outcome = changed(ledger.store, "change", *many)
    assert (outcome.code, outcome.reply.card) == ("card_full", 6)
    assert (ledger.store.rollouts, outcome.card_changes) == ((), ())
    assert ledger.store.head.seq == before + 1
    (outcome,) = take(ledger.store, offer("fits", rev=2, products=list(many)[:-1]))
    assert (outcome.code, outcome.cards) == ("ok", 7)


def test_a_change_that_reaches_nobody_yet_leaves_room_for_the_next(ledger: Ledger) -> None:
    """Orders that ended before their card's last change are looked at, and concern nobody."""
    for card in (0, 1, 2):
        take(ledger.store, order("karjaa", "subscription", "end", f"e-{card}", subscription=f"s-{card}", rev=2))
    ledger.now += 1
    take(ledger.store, *(refresh(f"r-{card}", card=card) for card in (0, 1, 2)), now=ledger.now)
    assert changed(ledger.store, "one", "film").card_changes == ()
    assert changed(ledger.store, "two", "news", rev=3).card_changes == ()
    assert len({(one.offer_id, one.since_seq) for one in ledger.store.rollouts}) == 2
    ledger.crash()
    ledger.roll_out()
    assert {card: products for card, products in ledger.look().items() if card > 2} == dict.fromkeys(
        range(3, 7), frozenset({3})
    )


def test_every_version_is_on_the_audit_record(ledger: Ledger) -> None:
    changed(ledger.store, "change", "film")
    slices = ledger.roll_out()
    records = [json.loads(row[1]) for row in ledger.store.read(lambda held: reading.audit_rows(held, 0, 10_000))]
    rolled = [one for one in records if one["kind"] == "rolled-out"]
    assert [[version[0] for version in one["versions"]] for one in rolled] == slices
    assert {(one["operator"], one["command"], one["offer"]) for one in rolled} == {("karjaa", "change", "basic")}
    assert [one["left"] for one in rolled] == [1, 0]


@pytest.mark.slow
def test_an_event_is_moved_for_many_without_a_second_fact(tmp_path: Path) -> None:
    headend = HandHeadend(tmp_path, at("2026-11-20 12:00"), roll_at_once=2)
    film = {"kind": "event", "names": {"fi": "Elokuva"}, "service": "cinema"}
    headend.done("offer put", offer="film", starts_at=hour(20), ends_at=hour(22), **film)
    for number in NUMBERS[:5]:
        headend.done("card assign", card=number, subscriber="anna")
        headend.done("subscription put", subscription=f"s-{number}", card=number, offer="film")
    headend.done("subscription end", subscription=f"s-{NUMBERS[4]}", at=hour(21))
    told = headend.facts()
    reply = headend.done("offer put", offer="film", starts_at=hour(18), ends_at=hour(23), **film)
    assert reply["detail"] == "5 cards are sent the new window"
    headend.done("card suspend", card=NUMBERS[3])
    headend.done("card reopen", card=NUMBERS[3])
    headend.crash()
    headend.go_to(headend.now + 1)
    windows = {number: headend.view(number).rights for number in NUMBERS[:5]}
    assert {
        number: [(on_the_wall(right.start)[-5:], on_the_wall(right.end or 0)[-5:]) for right in rights]
        for number, rights in windows.items()
    } == {number: [("18:00", "21:00" if number == NUMBERS[4] else "23:00")] for number in NUMBERS[:5]}
    assert [fact for fact in headend.facts() if fact not in told] == [
        ("service-suspended", "2026-11-20 12:00"),
        ("service-reopened", "2026-11-20 12:00"),
    ]
    headend.close()


def hour(of_day: int) -> str:
    return f"2026-11-20T{of_day}:00:00+02:00"
