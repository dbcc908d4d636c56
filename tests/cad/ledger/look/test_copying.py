"""All rows of an operator as of one moment, although they are read in steps between commits."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from cad.ledger.errors import CopyBroken
from cad.ledger.ledger import Ledger
from cad.ledger.look import copying
from cad.ledger.look.copying import Copied
from tests.support.clock import ManualClock
from tests.support.ledgers import GRANTS, KEY, NOW, assign, end, offer, order, subscribe

CARDS = range(5)


BY_TWO = "SELECT max(k) FROM (SELECT {} AS k FROM {} WHERE {} > :after ORDER BY k LIMIT 2)"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, table, key in (("_END_OF_CARDS", "cards", "address"), ("_END_OF_SUBSCRIPTIONS", "subscriptions", "id")):
        monkeypatch.setattr(copying, name, text(BY_TWO.format(key, table, key)))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    one = await Ledger.open(tmp_path / "ledger.db", audit_key=KEY, grants=GRANTS, clock=ManualClock(NOW))
    await one.commit([offer()])
    for number in CARDS:
        await one.commit(
            [assign(f"a-{number}", card=number), subscribe(f"s-{number}", subscription=f"s-{number}", card=number)]
        )
    await one.commit([offer("o-2", "kaspnet"), assign("a-9", "kaspnet", card=1009)])
    yield one
    await one.close()


class Mirror:
    """What one has who puts the blocks together."""

    def __init__(self) -> None:
        self.cards: dict[int, int] = {}
        self.subscriptions: dict[str, tuple[int, int | None]] = {}
        self.offers: dict[str, int] = {}
        self.as_of: float | None = None

    def take(self, block: Copied) -> None:
        self.cards |= {row.address: row.rev for row in block.cards}
        self.subscriptions |= {row.subscription: (row.address, row.ends_at) for row in block.subscriptions}
        self.offers |= {row.offer: row.rev for row in block.offers}
        self.as_of = block.as_of


async def test_only_the_operators_own_rows_and_all_of_them(ledger: Ledger) -> None:
    mirror = Mirror()
    async for block in ledger.copy("karjaa"):
        mirror.take(block)
    assert mirror.cards == dict.fromkeys(CARDS, 1)
    assert mirror.subscriptions == {f"s-{number}": (number, None) for number in CARDS}
    assert mirror.offers == {"basic": 1}
    assert mirror.as_of == NOW


async def test_what_changes_meanwhile_is_there_as_it_was_at_the_end(ledger: Ledger) -> None:
    mirror, number = Mirror(), 0
    async for block in ledger.copy("karjaa"):
        number += 1
        mirror.take(block)
        assert block.as_of is None or number > 5
        match number:
            case 1:  # cards 0 and 1 have been read
                await ledger.commit([assign("b-0", card=0, rev=7), assign("b-8", card=8), offer("o-3", rev=2)])
            case 3:
                move = {"subscription": "s-4", "rev": 2, "card": 8, "offer": "basic"}
                await ledger.commit([order("karjaa", "subscription", "put", "m", **move)])
            case 5:
                await ledger.commit([end(subscription="s-0"), subscribe("n", subscription="new", card=0)])
                await ledger.commit([assign("k-2", "kaspnet", card=1008)])
    assert mirror.cards == {0: 7, 1: 1, 2: 1, 3: 1, 4: 1, 8: 1}
    assert mirror.subscriptions["s-4"] == (8, None)
    assert mirror.subscriptions["s-0"] == (0, int(NOW))
    assert mirror.subscriptions["new"] == (0, None)
    assert mirror.offers == {"basic": 2}
    assert mirror.as_of is not None


@pytest.mark.slow
async def test_after_a_fault_of_the_disk_a_copy_says_that_it_is_none(ledger: Ledger) -> None:
    blocks = ledger.copy("karjaa")
    await anext(blocks)
    await ledger.recover()
    with pytest.raises(CopyBroken):
        async for _ in blocks:
            pass


async def test_a_copy_that_was_given_up_is_told_of_nothing_more(ledger: Ledger) -> None:
    blocks = ledger.copy("karjaa")
    await anext(blocks)
    assert len(ledger._store.watches) == 1
    await blocks.aclose()
    assert ledger._store.watches == ()
