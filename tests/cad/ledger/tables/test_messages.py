"""Which cards a message is for, when it is promised to be on the air, and that it is told once when it was."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from cad.ledger.acts import airing
from cad.ledger.model import Grants
from cad.ledger.promise import NoPromise, Showing
from cad.ledger.store import Store
from cad.ledger.tables import messages
from cad.ledger.tables.messages import OnAirMessage
from protocol.card_number import spell
from protocol.portal.replies import Reply
from tests.support.ledgers import GRANTS, NOW, assign, codes, end, offer, open_store, order, subscribe, take

REGIONS = {"coast": 7, "inland": 8}
WITH_REGIONS = Grants({name: replace(grant, regions=REGIONS) for name, grant in GRANTS.operators.items()})
COAST = OnAirMessage("karjaa", "m", 1, b"", 0, 2_000_000_000, 60, NOW, None, None, 7)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Cards 0 to 9 of karjaa, the even ones on the coast; a card of kaspnet there too."""
    one = open_store(tmp_path / "state", grants=WITH_REGIONS)
    orders = [
        assign(f"a-{card}", card=card, region="inland" if card % 2 else "coast", subscriber="anna")
        for card in range(10)
    ]
    found = take(one, *orders, assign("theirs", "kaspnet", card=1000, region="coast"))
    assert set(codes(found)) == {"ok"}
    yield one
    one.close()


def standing(store: Store, limit: int = 100, after: int = -1) -> list[tuple[int, int]]:
    """The cards of the operator on the coast, gathered in blocks."""
    blocks = []
    while block := store.read(lambda held, at=after: messages.next_cards(held, COAST, NOW, at, limit)):
        blocks.append(block)
        after = block[-1][0]
    assert all(len(block) <= limit for block in blocks)
    return messages.cards_of(blocks)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_all_cards_in_a_region_come_once_whatever_the_size_of_blocks(store: Store, limit: int) -> None:
    assert standing(store, limit) == [(card, 1) for card in (0, 2, 4, 6, 8)]


def test_a_card_that_moves_or_goes_back_is_no_longer_among_them(store: Store) -> None:
    moved = order("karjaa", "card", "region", "r-1", card=2, rev=2, region="inland")
    came = order("karjaa", "card", "region", "r-2", card=3, rev=2, region="coast")
    released = order("karjaa", "card", "release", "r-3", card=4, rev=2)
    assert codes(take(store, moved, came, released)) == ["ok"] * 3
    assert standing(store) == [(card, 1) for card in (0, 3, 6, 8)]


def test_only_cards_in_a_region_are_read_for_it(store: Store) -> None:
    asked: list[Any] = []

    def explain(connection: Connection) -> str:
        def note(held: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        messages.next_cards(connection, COAST, NOW, -1, 5)
        event.remove(connection, "before_cursor_execute", note)
        ((statement, parameters),) = asked
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

    plan = store.read(explain)
    assert "SEARCH cards USING INDEX ix_cards_operator_region" in plan
    assert "TEMP B-TREE" not in plan


# --- when it is on the air


@dataclass
class Noting:
    """Promises ten seconds, and notes for what."""

    showings: list[Showing] = field(default_factory=list)

    def of(self, cards: int) -> NoPromise:
        return NoPromise()

    def of_message(self, showing: Showing) -> NoPromise:
        self.showings.append(showing)
        return NoPromise(on_air_by=int(NOW) + 10)


def put(store: Store, rev: int, noting: Noting, *before: Any, **body: Any) -> Reply:
    """Commit a message of karjaa, after other orders of the same batch."""
    whole = {"message": "m", "rev": rev, "to": {"all": True}, "text": {"fi": "Hei"}} | body
    orders = [*before, order("karjaa", "message", "put", f"m-{rev}", **whole)]
    outcome = store.commit(orders, NOW, {"karjaa": noting})[-1]
    assert outcome.code == "ok", outcome.reply
    assert outcome.showing == (noting.showings[-1] if outcome.reply and outcome.reply.on_air_by else None)
    assert outcome.reply is not None
    return outcome.reply


def test_the_reply_says_when_it_is_on_the_air_wherever_something_is_sent(store: Store) -> None:
    noting = Noting()
    first = put(store, 1, noting)
    assert (first.on_air_by, first.visible_by, first.detail) == (int(NOW) + 10, None, first.detail)
    assert first.detail.startswith("sent from ")
    assert put(store, 2, noting).on_air_by is None, "it was so already"
    assert put(store, 3, noting, to={"region": "coast"}).on_air_by == int(NOW) + 10
    assert put(store, 4, noting, to={"region": "coast"}, text={"fi": "Muu"}).on_air_by == int(NOW) + 10
    (outcome,) = store.commit([order("karjaa", "message", "withdraw", "w", message="m", rev=5)], NOW, {})
    assert outcome.reply is not None
    assert (outcome.reply.on_air_by, outcome.messages, outcome.showing) == (None, True, None)
    assert [(one.message.rev, one.message.number) for one in noting.showings] == [(1, 1), (3, 1), (4, 2)]


def test_its_cards_are_counted_with_those_of_the_same_batch_up_to_a_limit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting, coast, basic = Noting(), {"region": "coast"}, {"offer": "basic"}
    moved = order("karjaa", "card", "region", "r", card=1, rev=2, region="coast")
    put(store, 1, noting, to=coast)
    put(store, 2, noting, moved, to=coast, text={"fi": "A"})
    put(store, 3, noting, offer(), subscribe(card=2), to=basic)
    put(store, 4, noting, subscribe("other", card=3, subscription="s-2"), to={"all": True})
    put(store, 5, noting, end(rev=2), to=basic, text={"fi": "B"})
    put(store, 6, noting, to=basic, starts_at="2027-02-01T00:00:00Z")
    put(store, 7, noting, to={"cards": [spell(0)]})
    monkeypatch.setattr("cad.ledger.promise.COUNTED_MAX", 5)
    put(store, 8, noting, to=coast)
    # Too many rather than too few: what the batch has yet to write may concern others.
    assert [one.most for one in noting.showings] == [5, 6, 2, None, 4, None, None, None]


def on_air(store: Store, at: float) -> list[tuple[str, dict[str, Any]]]:
    """Say that what is active had been sent to all; return what was published by it."""
    store.outgoing.clear()
    for one in store.read(lambda held: messages.active(held, ["karjaa"], NOW)):
        store.perform(lambda batch, held, one=one: airing.record_message(batch, held, one, at), at)
    return [(one.event_id, json.loads(one.payload)) for one in store.outgoing]


def test_it_is_told_once_of_each_message_as_it_is(store: Store) -> None:
    noting = Noting()
    put(store, 1, noting)
    (event_id, event), *more = on_air(store, NOW + 5)
    assert (event, more) == ({"message": "m", "rev": 1, "at": "2027-01-15T08:00:05Z"}, [])
    assert on_air(store, NOW + 6) == [], "not again, also after a restart: it stands in the ledger"
    put(store, 2, noting)
    assert on_air(store, NOW + 7) == [], "nothing was to be sent"
    (held,) = store.read(lambda held: messages.active(held, ["karjaa"], NOW))
    assert (held.rev, held.on_air_at) == (2, NOW + 5)
    put(store, 3, noting, to={"region": "coast"})
    ((other_id, event),) = on_air(store, NOW + 8)
    assert (event["rev"], event_id != other_id) == (3, True)


def test_nothing_is_told_of_what_was_changed_or_withdrawn_meanwhile(store: Store) -> None:
    noting = Noting()
    put(store, 1, noting)
    (old,) = store.read(lambda held: messages.active(held, ["karjaa"], NOW))
    put(store, 2, noting, text={"fi": "Muu"})
    (new,) = store.read(lambda held: messages.active(held, ["karjaa"], NOW))
    take(store, order("karjaa", "message", "withdraw", "w", message="m", rev=3))
    store.outgoing.clear()
    for one in (old, new, replace(new, rev=3), replace(new, operator="kaspnet")):
        store.perform(lambda batch, held, one=one: airing.record_message(batch, held, one, NOW), NOW)
    assert not store.outgoing
