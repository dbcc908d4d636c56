"""What every store of the ledger keeps to; `STORES` names them, and another database joins there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cad.ledger.look import reading
from cad.ledger.model import Grants, Refusal, Unreadable
from cad.ledger.store import Store
from emm.plan import Right
from protocol.portal.codes import Code
from protocol.portal.errors import FieldError
from tests.support.ledgers import (
    GRANTS,
    NOW,
    PROMISES,
    Air,
    assign,
    codes,
    end,
    offer,
    open_store,
    order,
    refresh,
    reopen,
    statuses,
    subscribe,
    suspend,
    take,
)

STORES: dict[str, Callable[..., Store]] = {"sqlite": open_store}


@pytest.fixture(params=list(STORES))
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Opens the same ledger again and again; what is open at the end is closed."""
    opened: list[Store] = []

    def opener(**options: object) -> Store:
        for store in opened:
            store.close()
        opened.append(STORES[request.param](tmp_path / "state", **options))
        return opened[-1]

    yield opener
    for store in opened:
        store.close()


@pytest.fixture
def store(open_one: Callable[..., Store]) -> Store:
    return open_one()


def view(store: Store, address: int = 7, now: float = NOW) -> object:
    return store.read(lambda held: reading.card_view(held, address, store.grants, now))


@pytest.mark.slow
def test_an_order_changes_the_card_and_says_when(store: Store) -> None:
    outcomes = take(store, offer(), assign(), subscribe())
    assert codes(outcomes) == ["ok", "ok", "ok"]
    change = outcomes[2].card_change
    assert change is not None
    assert (change.address, change.operator, change.revision, change.suspended) == (7, "karjaa", 2, False)
    assert change.rights == (Right(1, int(NOW), None),)
    assert change.command_id == "subscribe-1"
    reply = outcomes[2].reply
    assert reply is not None
    assert (reply.card, reply.on_air_by, reply.visible_by) == (7, int(NOW) + 10, int(NOW) + 70)
    assert outcomes[0].reply is not None
    assert outcomes[0].reply.on_air_by is None, "an offer alone puts nothing on the air"


def test_what_is_committed_is_there_when_it_is_opened_again(open_one: Callable[..., Store]) -> None:
    store = open_one()
    take(store, offer(), assign(), subscribe(), suspend(reason="unpaid"))
    before, head = view(store), store.head
    store = open_one()
    assert view(store) == before
    assert store.head == head
    assert statuses(take(store, subscribe(), suspend(reason="unpaid"))) == ["duplicate", "duplicate"]


def test_a_repeated_id_gets_the_stored_answer_and_has_no_effect(store: Store) -> None:
    first = take(store, offer(), assign(), subscribe())
    again = take(store, subscribe(), subscribe())
    assert statuses(again) == ["duplicate", "duplicate"]
    for outcome in again:
        assert outcome.reply is not None
        assert outcome.reply.model_dump(exclude={"status"}) == first[2].reply.model_dump(exclude={"status"})  # type: ignore[union-attr]
        assert outcome.card_changes == ()


@pytest.mark.slow
def test_a_repeat_within_one_batch_has_no_effect(store: Store) -> None:
    outcomes = take(store, offer(), assign(), refresh(), refresh())
    assert statuses(outcomes) == ["committed", "committed", "committed", "duplicate"]
    assert [len(outcome.card_changes) for outcome in outcomes] == [0, 1, 1, 0]


def test_an_id_with_another_content_is_refused_also_within_one_batch(store: Store) -> None:
    outcomes = take(store, assign(), assign(card=8), offer("assign-1"))
    assert codes(outcomes) == ["ok", "id_reused", "id_reused"]
    assert codes(take(store, assign(card=9))) == ["id_reused"]
    assert view(store, 8) is None
    assert statuses(take(store, assign())) == ["duplicate"], "the id still belongs to its first command"


def test_operators_have_ids_of_their_own(store: Store) -> None:
    assert codes(take(store, assign("same"), assign("same", "kaspnet", card=1007))) == ["ok", "ok"]


def test_a_rejection_that_time_does_not_mend_is_repeated_as_it_was(store: Store) -> None:
    take(store, assign(), offer())
    assert codes(take(store, assign("bert", subscriber="bert", rev=2))) == ["card_in_use"]
    again = take(store, assign("bert", subscriber="bert", rev=2))
    assert (codes(again), statuses(again)) == (["card_in_use"], ["duplicate"])


def test_a_rejection_that_may_mend_is_decided_anew(store: Store) -> None:
    take(store, assign())
    assert codes(take(store, subscribe())) == ["unknown_offer"]
    assert codes(take(store, subscribe(rev=2))) == ["id_reused"]
    outcomes = take(store, offer(), subscribe())
    assert (codes(outcomes), statuses(outcomes)) == (["ok", "ok"], ["committed", "committed"])
    assert statuses(take(store, subscribe())) == ["duplicate"]


def test_orders_of_one_batch_see_each_other_in_order(store: Store) -> None:
    early = subscribe("early")
    outcomes = take(store, early, offer(), assign(), subscribe(), suspend(), end(), reopen())
    assert codes(outcomes) == ["unknown_card", "ok", "ok", "ok", "ok", "ok", "ok"]
    assert [outcome.card_change.revision for outcome in outcomes if outcome.card_change] == [1, 2, 3, 4, 5]
    assert outcomes[3].card_change.rights  # type: ignore[union-attr]
    assert outcomes[5].card_change.rights == ()  # type: ignore[union-attr]
    assert outcomes[5].card_change.suspended  # type: ignore[union-attr]


def test_the_same_orders_in_one_batch_or_one_by_one_lead_to_the_same(tmp_path: Path) -> None:
    orders = [offer(), assign(), subscribe(), offer("o2", rev=2, products=["film", "news"]), suspend(), reopen(), end()]
    together, apart = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    take(together, *orders)
    for one in orders:
        take(apart, one)
    assert view(together) == view(apart)
    together.close()
    apart.close()


def test_a_lower_or_equal_rev_never_wins(store: Store) -> None:
    take(store, offer(), assign(rev=5))
    assert codes(take(store, suspend(rev=5), reopen(rev=4))) == ["stale_rev", "stale_rev"]
    assert codes(take(store, suspend("later", rev=6), reopen("late", rev=6))) == ["ok", "stale_rev"]
    take(store, subscribe(rev=3))
    assert codes(take(store, subscribe("x", rev=3), end("y", rev=2), end("z", rev=4))) == ["stale_rev"] * 2 + ["ok"]


def test_an_offer_with_other_products_changes_every_card_that_has_it(store: Store) -> None:
    take(store, offer(), *(assign(f"a{card}", card=card) for card in range(20)))
    take(store, *(subscribe(f"s{card}", subscription=f"s{card}", card=card) for card in range(10)))
    take(store, end("stop", subscription="s3", rev=2))
    outcome = take(store, offer("offer-2", rev=2, products=["sport", "film"]), now=NOW + 1)[0]
    assert [change.address for change in outcome.card_changes] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert {change.rights for change in outcome.card_changes} == {(Right(1, int(NOW)), Right(2, int(NOW)))}
    assert {change.revision for change in outcome.card_changes} == {3}


def test_an_offer_changed_in_the_batch_that_subscribes_to_it_reaches_the_new_card(store: Store) -> None:
    outcomes = take(store, offer(), assign(), subscribe(), offer("offer-2", rev=2, products=["film"]))
    assert outcomes[3].card_changes[0].rights == (Right(2, int(NOW)),)


def test_a_subscription_moved_to_another_card_changes_both(store: Store) -> None:
    take(store, offer(), assign(), assign("a8", card=8), subscribe())
    outcome = take(store, subscribe("move", rev=2, card=8))[0]
    assert {change.address: len(change.rights) for change in outcome.card_changes} == {7: 0, 8: 1}


def test_a_promise_waits_for_the_start_and_is_not_made_for_suspended_cards(store: Store) -> None:
    take(store, offer(), assign())
    start = int(NOW) + 5000
    reply = take(store, order_starting(start))[0].reply
    assert reply is not None
    assert (reply.on_air_by, reply.visible_by) == (int(NOW) + 10, start)
    take(store, suspend())
    reply = take(store, subscribe("s2", subscription="s-2"))[0].reply
    assert reply is not None
    assert (reply.on_air_by, reply.visible_by) == (int(NOW) + 10, None)
    assert "suspended" in reply.detail


def order_starting(start: int) -> object:
    from protocol.portal.fields import spell_moment

    return subscribe(starts_at=spell_moment(start))


def test_replies_wait_in_the_outbox_until_they_are_published(open_one: Callable[..., Store]) -> None:
    store = open_one()
    take(store, offer(), replace(assign(), reply_topic=None), subscribe())
    messages = store.read(lambda held: reading.pending(held, 0, 10))
    answers = [message for message in messages if "/rep/" in message.topic]
    assert [message.topic for message in answers] == ["cad/v1/karjaa/rep/web"] * 2
    assert list(store.outgoing) == messages
    assert {message.correlation for message in answers} == {b"correlation"}
    store.mark_published([messages[0].seq])
    store = open_one(now=NOW + 1)
    assert store.read(lambda held: reading.pending(held, 0, 10)) == messages[1:]
    store.commit([refresh()], NOW + 2, PROMISES, published=[message.seq for message in messages[1:]])
    (left,) = store.read(lambda held: reading.pending(held, 0, 10))
    assert left.seq > messages[1].seq
    assert left.event_id not in {message.event_id for message in messages}


@pytest.mark.slow
def test_numbers_of_outbox_rows_do_not_come_again_after_they_are_gone(open_one: Callable[..., Store]) -> None:
    seen: set[str] = set()
    # Nor where time stands still, as it does for a while when the machine's clock was set back.
    for round_number, now in enumerate([NOW, NOW + 1, NOW + 2, NOW + 2, NOW + 2]):
        store = open_one(now=now)
        take(store, refresh(f"r{round_number}"), now=now)
        (message,) = store.read(lambda held: reading.pending(held, 0, 10))
        assert message.event_id not in seen
        seen.add(message.event_id)
        store.mark_published([message.seq])


def test_what_cannot_be_read_is_answered_or_told_and_kept_no_id_of(store: Store) -> None:
    refusal = Refusal("karjaa", "card", "assign", "assign-1", Code.INVALID, "no", (FieldError("rev", "x"),), "t", b"c")
    unreadable = Unreadable("karjaa", Code.UNREADABLE, "no JSON", "0" * 64, 12, "card", "assign")
    outcomes = take(store, refusal, unreadable, assign())
    assert codes(outcomes) == ["invalid", "unreadable", "ok"]
    assert outcomes[0].reply is not None
    assert outcomes[0].reply.errors == (FieldError("rev", "x"),)
    assert outcomes[1].reply is None
    topics = [message.topic for message in store.outgoing]
    assert topics == ["t", "cad/v1/karjaa/rej", "cad/v1/karjaa/rep/web", "cad/v1/karjaa/evt/invoice/card-issued"]


@pytest.mark.slow
def test_one_command_that_fails_unexpectedly_fails_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from cad.ledger import taking
    from cad.ledger.decide import command as decide

    def explode(command: object, *rest: object) -> object:
        if getattr(command, "card", None) == 8:
            raise ZeroDivisionError
        return decide.decide(command, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(taking, "decide", explode)
    outcomes = take(store, assign(), assign("a8", card=8), assign("a9", card=9))
    assert codes(outcomes) == ["ok", "internal", "ok"]
    assert outcomes[1].reply is not None
    assert outcomes[1].reply.retryable
    monkeypatch.setattr(taking, "decide", decide.decide)
    assert codes(take(store, assign("a8", card=8))) == ["ok"], "the same command may be sent again"


@pytest.mark.slow
def test_one_command_that_cannot_be_written_fails_alone(store: Store) -> None:
    worn_out = assign("a8", card=8)
    take(store, worn_out)
    with store.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE cards SET revision = 4294967295 WHERE address = 8")
    outcomes = take(store, assign(), refresh("r8", card=8), assign("a9", card=9))
    assert codes(outcomes) == ["ok", "internal", "ok"]
    assert [change.address for outcome in outcomes for change in outcome.card_changes] == [7, 9]


def test_first_transmissions_are_told_once_and_count_for_older_changes(store: Store) -> None:
    take(store, offer(), assign())
    first = take(store, subscribe())[0].card_change
    second = take(store, suspend())[0].card_change
    assert first is not None
    assert second is not None
    store.outgoing.clear()

    store.first_air([Air(second.change_seq, "mux-1", NOW + 2)], NOW + 2)
    store.first_air([Air(second.change_seq, "mux-1", NOW + 3), Air(first.change_seq, "mux-1", NOW + 3)], NOW + 3)
    store.first_air([Air(second.change_seq, "mux-2", NOW + 4), Air(999_999, "mux-2", NOW + 4)], NOW + 4)

    told = [message.payload.decode() for message in store.outgoing]
    assert [("mux-1" in one, '"remaining":[]' in one) for one in told] == [(True, False)] * 3 + [(False, True)] * 3
    assert [one.split('"command":"')[1].split('"')[0] for one in told[:3]] == ["assign-1", "subscribe-1", "suspend-1"]
    changes = view(store).changes  # type: ignore[attr-defined]
    assert {tuple(change.aired.items()) for change in changes} == {(("mux-1", NOW + 2), ("mux-2", NOW + 4))}


def test_an_older_change_on_the_air_does_not_count_for_a_newer(store: Store) -> None:
    take(store, assign(), offer())
    first = take(store, refresh())[0].card_change
    take(store, suspend())
    assert first is not None
    store.first_air([Air(first.change_seq, "mux-1", NOW + 2)], NOW + 2)
    assert [len(change.aired) for change in view(store).changes] == [0, 1, 1]  # type: ignore[attr-defined]


def open_changes(store: Store, since: float) -> list[tuple[int, dict[str, float]]]:
    found, after = store.read(lambda held: reading.open_changes(held, since, 0, 100))
    assert after is None
    return [(one.address, dict(one.aired)) for one in found]


def test_changes_that_are_young_or_not_everywhere_are_open(open_one: Callable[..., Store]) -> None:
    store = open_one()
    take(store, *(assign(f"a{card}", card=card) for card in range(3)))
    changes = [take(store, refresh(f"r{card}", card=card))[0].card_change for card in range(3)]
    store.first_air([Air(changes[0].change_seq, mux, NOW + 1) for mux in ("mux-1", "mux-2")], NOW + 1)  # type: ignore[union-attr]
    store.first_air([Air(changes[1].change_seq, "mux-1", NOW + 1)], NOW + 1)  # type: ignore[union-attr]
    store = open_one(now=NOW + 10)
    both = {"mux-1": NOW + 1, "mux-2": NOW + 1}
    assert open_changes(store, NOW - 1) == [(0, both), (1, {"mux-1": NOW + 1}), (2, {})]
    assert open_changes(store, NOW + 5) == [(1, {"mux-1": NOW + 1}), (2, {})]


def test_a_change_that_waits_only_for_a_multiplex_taken_away_is_closed(open_one: Callable[..., Store]) -> None:
    store = open_one()
    change = take(store, assign())[0].card_change
    assert change is not None
    store.first_air([Air(change.change_seq, "mux-1", NOW + 1)], NOW + 1)
    fewer = {name: replace(grant, multiplexes=("mux-1",)) for name, grant in GRANTS.operators.items()}
    store = open_one(grants=Grants(fewer), now=NOW + 2)
    assert open_changes(store, NOW + 5) == []


def test_a_network_without_multiplexes_waits_for_none(open_one: Callable[..., Store]) -> None:
    none = {name: replace(grant, multiplexes=()) for name, grant in GRANTS.operators.items()}
    store = open_one(grants=Grants(none))
    take(store, assign())
    assert open_changes(store, NOW + 5) == []


def test_grants_that_change_change_the_cards_that_it_touches(open_one: Callable[..., Store]) -> None:
    store = open_one()
    take(store, offer(products=["sport", "film"]), assign(), assign("a8", card=8), subscribe())
    karjaa = GRANTS.operators["karjaa"]
    less = Grants(dict(GRANTS.operators) | {"karjaa": replace(karjaa, products={"sport": 1, "news": 3})})
    (change,), later = store.apply_grants(less, NOW + 1)
    assert later == 0
    assert (change.address, change.revision, change.rights) == (7, 3, (Right(1, int(NOW)),))
    assert store.apply_grants(less, NOW + 2) == ([], 0)
    store = open_one(now=NOW + 3)  # with the former grants again
    assert view(store).revision == 4  # type: ignore[attr-defined]
    assert view(store).rights == (Right(1, int(NOW)), Right(2, int(NOW)))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_whole_network_is_read_in_blocks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    take(store, offer(products=["sport", "film"]), offer("o2", offer="late", products=["news"]))
    take(store, offer("o3", "kaspnet"))
    for card in range(0, 50, 2):
        take(store, assign(f"a{card}", card=card), subscribe(f"s{card}", subscription=f"s{card}", card=card))
    take(store, assign("a1000", "kaspnet", card=1000), subscribe("s1000", "kaspnet", card=1000))
    take(store, suspend(card=4), end("e6", subscription="s6", rev=2))
    take(store, subscribe("l8", subscription="l8", card=8, offer="late", starts_at="2030-01-01T00:00:00Z"))
    monkeypatch.setattr(reading, "_CARDS", reading._CARDS.limit(7))
    operators, after, addresses, suspended = ["karjaa", "kaspnet"], -1, [], []
    while len(block := store.read(lambda held, at=after: reading.card_block(held, operators, at)).addresses):
        whole = store.read(lambda held, at=after: reading.card_block(held, operators, at))
        addresses += block.tolist()
        suspended += whole.suspended.tolist()
        after = int(block[-1])
    assert addresses == [*range(0, 50, 2), 1000]
    assert [address for address, is_so in zip(addresses, suspended, strict=True) if is_so] == [4]

    products = store.read(lambda held: reading.Products(held, store.grants))
    rights = []
    last = store.read(reading.last_subscription)
    for begin in range(0, last, 7):
        found = store.read(lambda held, a=begin: reading.right_block(held, operators, a, a + 7, products, NOW))
        rights += list(zip(*(column.tolist() for column in vars_of(found)), strict=True))
    forever = 0xFFFF_FFFF
    assert sorted(row for row in rights if row[0] == 8) == [
        (8, 1, int(NOW), forever),
        (8, 2, int(NOW), forever),
        (8, 3, 1_893_456_000, forever),
    ]
    assert [row for row in rights if row[0] == 6] == []
    assert len(rights) == 24 * 2 + 1 + 1


def vars_of(block: object) -> list[np.ndarray]:
    return [getattr(block, name) for name in ("addresses", "product_ids", "starts", "ends")]


def test_a_subscribers_cards_are_found(store: Store) -> None:
    take(store, assign(), assign("a8", card=8), assign("a9", card=9, subscriber="bert"))
    assert store.read(lambda held: reading.find_cards(held, "karjaa", "anna")) == [7, 8]
    assert store.read(lambda held: reading.find_cards(held, "kaspnet", "anna")) == []


@pytest.mark.slow
def test_a_cards_view_shows_its_history(store: Store) -> None:
    take(store, offer(), assign(), subscribe(), end(at="2030-01-01T00:00:00Z"), suspend(reason="unpaid"))
    seen = view(store)
    assert (seen.state, seen.reason, seen.subscriber) == ("suspended", "unpaid", "anna")  # type: ignore[attr-defined]
    (row,) = seen.subscriptions  # type: ignore[attr-defined]
    assert (row.subscription, row.offer, row.products, row.ends_at) == ("s-1", "basic", ("sport",), 1_893_456_000)
    assert row.offer_names == {"fi": "Perus"}
    assert [change.command_id for change in seen.changes] == ["suspend-1", "end-1", "subscribe-1", "assign-1"]  # type: ignore[attr-defined]
    assert view(store, 8) is None


def test_times_never_go_back(open_one: Callable[..., Store]) -> None:
    store = open_one()
    take(store, assign(), now=NOW + 100)
    change = take(store, refresh(), now=NOW - 100)[0].card_change
    assert change is not None
    assert change.committed_at == NOW + 100
    store.witness_time(NOW + 500)
    assert open_one(now=NOW).highest_time == NOW + 500


def test_values_are_kept_by_name(open_one: Callable[..., Store]) -> None:
    open_one().meta_set("mqtt-session", "one")
    store = open_one()
    store.meta_set("mqtt-session", "two")
    assert open_one().meta_get("mqtt-session") == "two"
    assert open_one().meta_get("nothing") is None


def test_many_operators_and_no_orders_at_all(store: Store) -> None:
    assert take(store) == []
    assert codes(take(store, order("nobody", "card", "refresh", "x", card=1))) == ["unknown_operator"]
