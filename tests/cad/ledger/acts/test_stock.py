"""Numbers of cards in stock: reserved once, given to one chip each, for ever, in the real store."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cad.errors import StockRefusedError
from cad.ledger.acts import stock
from cad.ledger.store import Store
from protocol import card_number
from tests.support.ledgers import NOW, assign, open_store, statuses, take

VALUES = {"enc": "0A0B0C"}


@pytest.fixture
def store(tmp_path: Path):
    opened = open_store(tmp_path / "state")
    yield opened
    opened.close()


def do(store: Store, act, *arguments, **named):
    return store.perform(lambda batch, held: act(batch, held, *arguments, **named), NOW)


def reserve(store, batch, count, first=None, operator="karjaa"):
    return do(store, stock.reserve, operator, batch, count, first)


def serial(number: int) -> str:
    return f"{number:020X}"


def test_ranges_follow_each_other_and_a_batch_gets_its_own_again(store: Store) -> None:
    one = reserve(store, "box-1", 10)
    two = reserve(store, "box-2", 5)
    assert (one.first, one.last, two.first, two.last) == (0, 9, 10, 14)
    assert reserve(store, "box-1", 10) == one
    with pytest.raises(StockRefusedError, match="has the numbers 000000000000 to 000000000091"):
        reserve(store, "box-1", 11)


def test_assigned_and_foreign_numbers_are_never_reserved(store: Store) -> None:
    assert statuses(take(store, assign(card=7))) == ["committed"]
    assert reserve(store, "box-1", 3).first == 8
    with pytest.raises(StockRefusedError, match="assigned to a subscriber already"):
        reserve(store, "box-2", 3, first=5)
    with pytest.raises(StockRefusedError, match="partly reserved"):
        reserve(store, "box-3", 3, first=10)
    with pytest.raises(StockRefusedError, match="do not lie in one card range of karjaa"):
        reserve(store, "box-4", 10, first=995)
    with pytest.raises(StockRefusedError, match="no operator 'nobody'"):
        reserve(store, "box-5", 1, operator="nobody")


@pytest.mark.parametrize("count", [0, -1, stock.COUNT_MAX + 1])
def test_a_batch_has_a_sensible_size(store: Store, count: int) -> None:
    with pytest.raises(StockRefusedError, match="a batch has"):
        reserve(store, "box", count)


def test_a_full_range_says_what_to_do(store: Store) -> None:
    reserve(store, "box-1", 999)
    with pytest.raises(StockRefusedError, match="widen the card ranges"):
        reserve(store, "box-2", 2)
    assert reserve(store, "box-3", 1).first == 999


def test_a_chip_has_one_number_for_life(store: Store) -> None:
    reserve(store, "box", 2)
    assert do(store, stock.claim, "karjaa", "box", serial(1)) == 0
    assert do(store, stock.claim, "karjaa", "box", serial(1), begun=True) == 0
    assert do(store, stock.claim, "karjaa", "box", serial(2), address=1) == 1
    with pytest.raises(StockRefusedError, match="used up"):
        do(store, stock.claim, "karjaa", "box", serial(3))
    with pytest.raises(StockRefusedError, match="another operator"):
        do(store, stock.claim, "kaspnet", "box", serial(1))
    with pytest.raises(StockRefusedError, match="of another headend"):
        do(store, stock.claim, "karjaa", "box", serial(1), address=1)
    with pytest.raises(StockRefusedError, match="not free"):
        do(store, stock.claim, "karjaa", "box", serial(4), address=1)
    with pytest.raises(StockRefusedError, match="the ledger does not know it"):
        do(store, stock.claim, "karjaa", "box", serial(5), begun=True)
    with pytest.raises(StockRefusedError, match="reserved no numbers"):
        do(store, stock.claim, "karjaa", "other", serial(6))


def test_a_finished_card_is_in_stock_once_and_survives_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    reserve(store, "box", 2)
    do(store, stock.claim, "karjaa", "box", serial(1))
    first = do(store, stock.made, serial(1), 0, 1, VALUES)
    assert do(store, stock.made, serial(1), 0, 1, VALUES) == first
    with pytest.raises(StockRefusedError, match="other keys"):
        do(store, stock.made, serial(1), 0, 1, {"enc": "000000"})
    with pytest.raises(StockRefusedError, match="was not given number"):
        do(store, stock.made, serial(2), 1, 1, VALUES)
    store.close()
    store = open_store(tmp_path / "state")
    found = store.read(lambda held: stock.at(held, 0))
    assert found is not None
    assert (found.serial, found.made_at, dict(found.check_values)) == (serial(1), NOW, VALUES)
    take(store, assign(card=0))
    (told,) = store.read(stock.batches)
    assert (told["begun"], told["made"], told["assigned"], told["numbers"]) == (1, 1, 1, 2)
    assert told["first"] == card_number.spell(0)
    store.begin_check(None)
    store.close()


def test_a_refused_act_leaves_nothing_behind(store: Store) -> None:
    head = store.head
    with pytest.raises(StockRefusedError):
        reserve(store, "box", 2000)
    assert store.head == head
    assert store.read(stock.batches) == []


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["reserve", "claim", "assign"]), st.integers(0, 6), st.integers(1, 40)), max_size=25
    )
)
def test_no_number_is_ever_given_twice(tmp_path_factory: pytest.TempPathFactory, acts) -> None:
    store = open_store(tmp_path_factory.mktemp("stock") / "state")
    numbers: dict[int, str] = {}
    for number, (act, batch, value) in enumerate(acts):
        try:
            if act == "reserve":
                made = reserve(store, f"b{batch}", value)
                for other in range(7):
                    if other != batch and (its := store.read(lambda h, o=other: stock._range(h, "karjaa", f"b{o}"))):
                        assert its.last < made.first or made.last < its.first
            elif act == "claim":
                address = do(store, stock.claim, "karjaa", f"b{batch}", serial(value))
                assert numbers.setdefault(address, serial(value)) == serial(value)
            else:
                take(store, assign(f"id-{number}", card=value * 3, subscriber=f"s{value}"))
        except StockRefusedError:
            continue
    assert len(set(numbers.values())) == len(numbers)
    store.close()
