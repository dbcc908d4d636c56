"""Rights in arrays: what was put last is found, and what is left behind is cleared without a pause."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.air import rights
from cad.air.rights import STEP, RightStore
from emm.plan import Right

RIGHTS = st.lists(
    st.builds(Right, st.integers(1, 0xFFFF), st.integers(0, 2**31), st.none() | st.integers(2**31, 2**32 - 2)),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), RIGHTS), max_size=60))
def test_what_was_put_last_is_found(puts: list[tuple[int, list[Right]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rights, "WASTE_MIN", 8)
        patch.setattr(rights, "STEP", 3)
        store, model = RightStore(), list[tuple[Right, ...]]()
        for wanted, held in puts:
            slot = min(wanted, len(model))
            if slot == len(model):
                model.append(())
            store.put(slot, held)
            model[slot] = tuple(held)
            assert store.get(slot) == model[slot]
        assert [store.get(slot) for slot in range(len(store))] == model
        assert store.counts().tolist() == [len(one) for one in model]


def test_waste_stays_bounded_and_no_change_moves_more_than_a_few_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "WASTE_MIN", 100)
    chance, store = random.Random(1), RightStore()
    moved = 0

    def take(self: object, *arguments: object) -> None:
        nonlocal moved
        moved += 1
        original(self, *arguments)  # type: ignore[arg-type]

    original = rights._Rows.take
    monkeypatch.setattr(rights._Rows, "take", take)
    for slot in range(300):
        store.put(slot, [Right(1, 2, None)] * 2)
    worst = 0
    for _ in range(3_000):
        before = moved
        store.put(chance.randint(0, 299), [Right(1, 2, None)] * 2)
        worst = max(worst, moved - before)
        assert store.rows < 600 * 2.8
    assert worst == STEP
