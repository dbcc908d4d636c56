"""The roster holds what the ledger said, for a million cards as for one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad.air.roster import Roster, SectionCache, card_block, right_block
from cad.ledger.model import CardChange
from emm.calendar import Calendar
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import parse_emm
from emm.plan import Right
from emm.seal import EmmSealer

CALENDAR = Calendar()
NOW = 1_800_000_000.0


def change(address: int, revision: int, *rights: Right, suspended: bool = False) -> CardChange:
    return CardChange(address, "op", suspended, revision, 1, rights, revision, NOW, "id")


def loaded() -> Roster:
    roster = Roster()
    roster.load(
        card_block([(10, 1, 1, False), (20, 5, 1, True), (30, 7, 2, False)]),
        right_block([(30, 3, 100, None), (10, 1, 50, 90), (30, 1, 60, 70)]),
    )
    return roster


def test_loads_cards_and_rights_by_address() -> None:
    roster = loaded()
    assert len(roster) == 3
    slot = roster.slot_of(30)
    assert slot is not None
    assert roster.revision(slot) == 7
    assert roster.rights(slot) == (Right(3, 100, None), Right(1, 60, 70))
    assert roster.rights(1) == ()
    assert roster.slot_of(25) is None
    assert roster.slot_of(31) is None


def test_follows_changes_and_new_cards() -> None:
    roster = loaded()
    assert roster.apply(change(30, 8, Right(9, 1, None))) == (2, False)
    assert roster.rights(2) == (Right(9, 1, None),)
    slot, new = roster.apply(change(15, 1))
    assert (slot, new) == (3, True)
    assert roster.slot_of(15) == 3
    assert roster.address(3) == 15
    assert roster.rights(3) == ()


def test_leaves_an_older_revision_aside() -> None:
    roster = loaded()
    roster.apply(change(30, 6, Right(9, 1, None)))
    assert roster.revision(2) == 7
    assert roster.rights(2) == (Right(3, 100, None), Right(1, 60, 70))


@pytest.mark.parametrize(
    ("cards", "rights"),
    [
        ([(20, 1, 1, False), (10, 1, 1, False)], []),
        ([(10, 1, 1, False), (10, 2, 1, False)], []),
        ([(10, 1, 1, False)], [(11, 1, 0, None)]),
        ([(10, 1, 1, False)], [(9, 1, 0, None)]),
        ([], [(9, 1, 0, None)]),
    ],
)
def test_refuses_what_the_ledger_cannot_hold(
    cards: list[tuple[int, int, int, bool]], rights: list[tuple[int, int, int, int | None]]
) -> None:
    with pytest.raises(ValueError, match="card"):
        Roster().load(card_block(cards), right_block(rights))


def test_typical_sizes_grow_with_the_products() -> None:
    sizes = loaded().typical_sizes()
    assert sizes.dtype == np.uint16
    assert sizes[1] < sizes[0] < sizes[2]


@pytest.mark.slow
@given(
    st.dictionaries(
        st.integers(0, 10**11 - 1),
        st.lists(st.tuples(st.integers(1, 0xFFFF), st.integers(0, 2**31), st.none() | st.integers(2**31, 2**32 - 2))),
        max_size=20,
    )
)
def test_whatever_was_loaded_is_found_again(cards: dict[int, list[tuple[int, int, int | None]]]) -> None:
    roster = Roster()
    roster.load(
        card_block([(address, 1, 1, False) for address in sorted(cards)]),
        right_block([(address, *right) for address, rights in cards.items() for right in rights]),
    )
    for address, rights in cards.items():
        slot = roster.slot_of(address)
        assert slot is not None
        assert roster.rights(slot) == tuple(Right(*right) for right in rights)


def test_seals_once_for_many_multiplexes_and_again_after_a_change() -> None:
    roster = loaded()
    sealer = EmmSealer(KeyLadder(LocalMasterKey(bytes(32))))
    cache = SectionCache(roster, CALENDAR, sealer, capacity=2)
    first = cache.sections(0, NOW)
    assert cache.sections(0, NOW) is first
    roster.apply(change(10, 2, Right(1, 50, None)))
    second = cache.sections(0, NOW)
    assert parse_emm(first[0]).header.version < parse_emm(second[0]).header.version
    third = cache.sections(0, NOW + CALENDAR.period_s)
    assert parse_emm(second[0]).header.version < parse_emm(third[0]).header.version
    cache.sections(1, NOW)
    cache.sections(2, NOW)
    assert cache.sections(0, NOW) == second
