"""Which cards a message is for, block by block: as they stand when it is asked."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from cad.ledger.model import Grants
from cad.ledger.store import Store
from cad.ledger.tables import messages
from cad.ledger.tables.messages import OnAirMessage
from tests.support.ledgers import GRANTS, NOW, assign, codes, open_store, order, take

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
