"""A card interrupted at any point is finished the next time: no key twice, none lost, no address twice."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.errors import CadError, JournalError, KeyStoreError
from cards.errors import CardsError
from tests.support.ledgers import open_store
from tests.support.stock import KilledError, Trouble, Workshop, chip_in, ledger_gone, pulled, worn_out

MEMORY = Path("/dev/shm")
"""A file system without a disk where there is one: it is flushed thousands of times."""
FAULTS = (CadError, CardsError, KilledError)


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cad-stock-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


def workshop(folder: Path, chips: int) -> Workshop:
    return Workshop(folder, open_store(folder / "state"), [chip_in(folder, number) for number in range(chips)])


def close(made: Workshop) -> None:
    made.store.close()
    for chip in made.chips:
        chip.close()


def key_store_gone() -> BaseException:
    return KeyStoreError("the token does not answer")


def disk_full() -> BaseException:
    return JournalError("the disk is full")


PLACES = {"reader": pulled, "card": worn_out, "ledger": ledger_gone, "keys": key_store_gone, "disk": disk_full}


@pytest.fixture(scope="module")
def calls() -> dict[str, int]:
    """How many calls of each kind one card takes."""
    with quick_folder() as folder:
        made = workshop(folder, 1)
        counted = {place: Trouble() for place in PLACES}
        made.run_on(0, **counted)
        made.check()
        close(made)
    return {place: trouble.calls for place, trouble in counted.items()}


def test_a_card_takes_a_sensible_number_of_calls(calls: dict[str, int]) -> None:
    assert 20 <= calls["reader"] <= 40
    assert calls["card"] >= 5
    assert calls["ledger"] == 3
    assert calls["keys"] >= 12
    assert calls["disk"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("place", ["reader", "card", "keys"])
def test_interrupted_at_every_call_and_finished(
    tmp_path: Path, calls: dict[str, int], place: str, killed: bool, after: bool
) -> None:
    """Each chip of the batch is stopped once, the first at the first call, the next at the second, and so on."""
    made = workshop(tmp_path, calls[place])
    for at in range(calls[place]):
        with pytest.raises(FAULTS):
            made.run_on(at, **{place: Trouble(at, after, KilledError if killed else PLACES[place])})
    for number in range(len(made.chips)):
        made.run_on(number)
    made.check()
    close(made)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("place", "at"), [*(("ledger", at) for at in range(3)), *(("disk", at) for at in range(8))])
def test_ledger_and_journal_interrupted_at_every_call(
    tmp_path: Path, place: str, at: int, killed: bool, after: bool
) -> None:
    made = workshop(tmp_path, 1)
    with pytest.raises(FAULTS):
        made.run_on(0, **{place: Trouble(at, after, KilledError if killed else PLACES[place])})
    made.run_on(0)
    made.check()
    close(made)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(sorted(PLACES)), st.integers(0, 40), st.booleans(), st.booleans()),
        max_size=12,
    )
)
def test_any_row_of_faults_ends_in_the_same_cards(faults) -> None:
    with quick_folder() as folder:
        _suffer(workshop(folder, 2), faults)


def _suffer(made: Workshop, faults) -> None:
    for number, place, at, after, killed in faults:
        try:
            made.run_on(number, **{place: Trouble(at, after, KilledError if killed else PLACES[place])})
        except FAULTS:
            continue
    for number in range(2):
        made.run_on(number)
        assert made.run_on(number).already
    made.check()
    close(made)


def test_a_lost_journal_loses_no_number(tmp_path: Path) -> None:
    made = workshop(tmp_path, 1)
    with pytest.raises(KilledError):
        made.run_on(0, reader=Trouble(20))
    made.journal_path.unlink()
    made.run_on(0)
    made.check()
    close(made)


@pytest.mark.slow
def test_a_ledger_put_back_from_a_backup_learns_the_numbers_from_the_journal(tmp_path: Path) -> None:
    made = workshop(tmp_path, 2)
    made.store.close()
    backup = (tmp_path / "state" / "ledger.db").read_bytes()
    made.store = open_store(tmp_path / "state")
    first = made.run_on(0)
    made.store.close()
    (tmp_path / "state" / "ledger.db").write_bytes(backup)
    for side in ("-wal", "-shm"):
        (tmp_path / "state" / f"ledger.db{side}").unlink(missing_ok=True)
    made.store = open_store(tmp_path / "state")
    second = made.run_on(1)
    assert second.address != first.address
    made.check()
    close(made)
