"""A disk that is full or fails: nothing of the batch is kept, nothing is done on the old connection, nothing twice."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.pool import PoolProxiedConnection

from cad.ledger.errors import LedgerUnavailable
from cad.ledger.look import reading
from cad.ledger.store import FILE_NAME, Store
from cad.ledger.tables import engine
from tests.support.ledgers import GRANTS, NOW, assign, codes, offer, open_store, refresh, statuses, subscribe, take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "state")
    take(store, offer(), assign())
    yield store
    store.close()


def fill(store: Store) -> None:
    """Let the file grow no more."""
    with store.database.transaction() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def flood(first: int, count: int = 300) -> list[Any]:
    return [assign(f"a{card}", card=card, subscriber="x" * 60) for card in range(first, first + count)]


def view(store: Store, address: int) -> Any:
    return store.read(lambda held: reading.card_view(held, address, GRANTS, NOW))


@pytest.mark.slow
def test_a_full_disk_keeps_nothing_of_the_batch_and_says_what_to_do(store: Store) -> None:
    head = store.head
    fill(store)
    with pytest.raises(LedgerUnavailable) as found:
        take(store, *flood(100))
    assert "the disk is full" in found.value.reason
    assert "make room" in found.value.advice
    assert str(store.database.path) in str(found.value)
    assert store.head == head
    assert not store.outgoing or store.outgoing[-1].topic.endswith(("/rep/web", "/evt/invoice/card-issued"))
    with pytest.raises(LedgerUnavailable):
        take(store, refresh())
    with pytest.raises(LedgerUnavailable):
        view(store, 7)

    assert store.recover(NOW) == []
    assert view(store, 100) is None
    outcomes = take(store, *flood(100))
    assert set(statuses(outcomes)) == {"committed"}
    assert [outcome.card_changes[0].revision for outcome in outcomes] == [1] * 300


class BrokenFlush:
    """Makes the next COMMITs of a store report an error, after or instead of carrying them out."""

    def __init__(self, store: Store, *, carried_out: bool, times: int = 1) -> None:
        self._dialect = store.database._engine.dialect  # type: ignore[union-attr]
        self._left = times
        self._carried_out = carried_out
        self._commit = self._dialect.do_commit
        self._dialect.do_commit = self  # type: ignore[method-assign]

    def __call__(self, connection: PoolProxiedConnection) -> None:
        if self._left == 0:
            return self._commit(connection)
        self._left -= 1
        if self._carried_out:
            self._commit(connection)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR_FSYNC"
        raise error


def test_a_failed_flush_is_an_error_and_the_connection_is_not_used_again(store: Store) -> None:
    used = store.database._connection
    BrokenFlush(store, carried_out=False)
    with pytest.raises(LedgerUnavailable, match="SQLITE_IOERR_FSYNC"):
        take(store, refresh())
    assert store.database._connection is None
    assert used is not None
    assert used.closed
    store.recover(NOW)
    assert store.database._connection is not used
    assert statuses(take(store, refresh())) == ["committed"]


@pytest.mark.slow
def test_what_was_stored_although_its_flush_failed_is_told_once_and_answered_as_a_repeat(store: Store) -> None:
    store.outgoing.clear()
    BrokenFlush(store, carried_out=True)
    with pytest.raises(LedgerUnavailable):
        take(store, subscribe(), refresh())
    assert list(store.outgoing) == []

    found = store.recover(NOW)

    assert [(change.address, change.revision, change.command_id) for change in found] == [(7, 3, "refresh-1")]
    assert found[0].rights
    assert [message.payload.split(b'"')[3] for message in store.outgoing if "/rep/" in message.topic] == [
        b"offer-1",
        b"assign-1",
        b"subscribe-1",
        b"refresh-1",
    ]
    assert statuses(take(store, subscribe(), refresh())) == ["duplicate", "duplicate"]
    assert view(store, 7).revision == 3
    assert store.recover(NOW) == []


@pytest.mark.slow
def test_a_fault_that_lasts_keeps_the_ledger_shut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    with pytest.raises(LedgerUnavailable):
        take(store, *flood(100))
    monkeypatch.setattr(engine, "_PRAGMAS", (*engine._PRAGMAS, "PRAGMA query_only=1"))
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            store.recover(NOW)
        with pytest.raises(LedgerUnavailable):
            take(store, refresh())
    monkeypatch.undo()
    store.recover(NOW)
    assert codes(take(store, refresh())) == ["ok"]


@pytest.mark.slow
def test_a_damaged_file_is_found_when_it_is_opened_again(store: Store) -> None:
    take(store, *flood(100))
    BrokenFlush(store, carried_out=False)
    with pytest.raises(LedgerUnavailable):
        take(store, refresh())
    path = store.database.path
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 30] = bytes(4096 * 27)
    path.write_bytes(content)
    with pytest.raises(LedgerUnavailable) as found:
        store.recover(NOW)
    assert found.value.broken
    assert "backup" in found.value.advice


def test_a_file_that_may_not_be_written_is_told(tmp_path: Path, store: Store) -> None:
    store.close()
    (tmp_path / "state" / FILE_NAME).rename(tmp_path / "elsewhere")
    (tmp_path / "state" / FILE_NAME).mkdir()
    with pytest.raises(LedgerUnavailable):
        open_store(tmp_path / "state")


def test_a_closed_ledger_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        take(store, refresh())
