"""Guards against falling versions, restores, and what the ledger may forget."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cad.ledger.acts import upkeep
from cad.ledger.errors import VersionWouldFall
from cad.ledger.look import reading
from cad.ledger.model import DAY_S, LedgerOptions
from cad.ledger.store import FILE_NAME, Store
from tests.support.ledgers import GRANTS, NOW, Air, assign, codes, open_store, refresh, statuses, take

CALENDAR = {"period_days": 5, "epoch_periods": 6, "overlap_periods": 1}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "state")
    yield store
    store.close()


def guard(store: Store, period: int, **changed: int) -> None:
    store.read(lambda held: upkeep.guard_period(held, period, CALENDAR | changed))


def test_a_period_below_what_cards_have_seen_is_refused(store: Store) -> None:
    guard(store, 4000)
    guard(store, 4000)
    guard(store, 4001)
    with pytest.raises(VersionWouldFall, match="put \\[calendar\\] back"):
        guard(store, 2000, period_days=10)
    guard(store, 4001)


def revision(store: Store, address: int = 7) -> int:
    seen = store.read(lambda held: reading.card_view(held, address, GRANTS, NOW))
    assert seen is not None
    return seen.revision


def copy_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.startswith(FILE_NAME)}


def test_after_a_restore_versions_jump_beyond_what_cards_may_have_seen(store: Store) -> None:
    take(store, assign(), refresh())
    store.after_restore("disk died", NOW)
    jumped = revision(store)
    assert jumped >= 2 + LedgerOptions().restore_margin
    change = take(store, refresh("r2"))[0].card_change
    assert change is not None
    assert change.revision == jumped + 1
    store.after_restore("disk died again", NOW)
    assert revision(store) >= jumped + 1 + LedgerOptions().restore_margin


@pytest.mark.slow
def test_a_card_that_the_copy_put_back_does_not_know_does_not_begin_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    store.close()
    older = copy_of(folder)
    store = open_store(folder)
    take(store, assign(), *(refresh(f"r{number}") for number in range(50)))
    seen = revision(store)
    store.close()
    for later in (60, 120):
        (folder / FILE_NAME).write_bytes(older[FILE_NAME])
        store = open_store(folder, now=NOW + later)
        take(store, assign(), refresh(), now=NOW + later)
        assert revision(store) > seen, "nor when the same copy is put back twice"
        seen = revision(store)
        store.close()


@pytest.mark.slow
def test_an_older_copy_put_back_is_noticed_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    take(store, assign())
    store.close()
    older = copy_of(folder)
    store = open_store(folder)
    take(store, *(refresh(f"r{number}") for number in range(50)))
    assert revision(store) == 51
    store.close()

    (folder / FILE_NAME).write_bytes(older[FILE_NAME])
    store = open_store(folder)
    jumped = revision(store)
    assert jumped > 51
    assert "older copy" in store.warnings[0]
    store.close()

    store = open_store(folder)
    assert store.warnings == [], "it is told once"
    assert revision(store) == jumped, "and jumped once"
    store.close()


@pytest.mark.slow
def test_a_ledger_that_vanished_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    take(store, assign())
    store.close()
    (folder / FILE_NAME).unlink()
    store = open_store(folder)
    assert "had reached" in store.warnings[0]
    store.close()


def test_ids_are_kept_as_long_as_agreed_and_not_longer(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    take(store, assign(), now=NOW)
    take(store, refresh("r1"), now=NOW + 10 * DAY_S)
    assert not store.read(lambda held: upkeep.prune_commands(held, NOW + 30 * DAY_S - 31 * DAY_S))
    assert statuses(take(store, assign(), now=NOW + 30 * DAY_S)) == ["duplicate"]
    store.read(lambda held: upkeep.prune_commands(held, NOW + 5 * DAY_S))
    assert codes(take(store, assign(), now=NOW + 36 * DAY_S)) == ["stale_rev"], "forgotten, but rev still guards"
    assert statuses(take(store, refresh("r1"), now=NOW + 36 * DAY_S)) == ["duplicate"]
    store.close()
    with pytest.raises(ValueError, match="30 days"):
        LedgerOptions(keep_ids_s=29 * DAY_S)


def test_only_finished_changes_that_are_no_cards_newest_are_forgotten(store: Store) -> None:
    take(store, assign(), assign("a8", card=8))
    changes = [take(store, refresh(f"r{number}"))[0].card_change for number in range(5)]
    last = changes[-1]
    assert last is not None
    store.read(lambda held: upkeep.prune_changes(held, NOW + 1, 0))
    seen = store.read(lambda held: reading.card_view(held, 7, GRANTS, NOW))
    assert seen is not None
    assert len(seen.changes) == 6, "nothing was on the air yet"
    for multiplex in ("mux-1", "mux-2"):
        store.first_air([Air(last.change_seq, multiplex, NOW + 1)], NOW + 1)
    store.read(lambda held: upkeep.prune_changes(held, NOW - 1, 0))
    store.read(lambda held: upkeep.prune_changes(held, NOW + 1, 0))
    seen = store.read(lambda held: reading.card_view(held, 7, GRANTS, NOW))
    assert seen is not None
    assert [change.command_id for change in seen.changes] == ["r4"]
