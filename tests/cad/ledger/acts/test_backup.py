"""Backups: taken while orders go on, whole or refused, put back whole or not at all, and no version falls (I3)."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cad.errors import BackupError
from cad.ledger.acts import backup
from cad.ledger.errors import AuditBroken
from cad.ledger.ledger import Ledger
from cad.ledger.look import reading
from cad.ledger.model import AuditHead
from cad.ledger.store import ANCHOR_SUFFIX, FILE_NAME, Store
from tests.support.clock import ManualClock
from tests.support.ledgers import GRANTS, KEY, NOW, assign, codes, open_store, refresh, take

LATER = NOW + 86_400


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    (tmp_path / "state").mkdir()
    one = await Ledger.open(tmp_path / "state" / FILE_NAME, audit_key=KEY, grants=GRANTS, clock=ManualClock(NOW))
    yield one
    await one.close()


async def taken(ledger: Ledger, path: Path) -> Path:
    path.write_bytes(b"".join([piece async for piece in ledger.backup()]))
    return path


def backup_of(store: Store, path: Path) -> Path:
    token, descriptor, size = store.freeze(NOW)
    path.write_bytes(os.pread(descriptor, size, 0))
    assert store.database.is_frozen(token)
    store.database.thaw(token)
    return path


def revision(store: Store, address: int = 7) -> int:
    view = store.read(lambda held: reading.card_view(held, address, GRANTS, NOW))
    assert view is not None
    return view.revision


def put_back(path: Path, folder: Path) -> Path | None:
    copy = backup.look(path)
    backup.verify(copy, KEY)
    return backup.put_back(copy, folder, KEY, GRANTS, lambda seen: max(seen, LATER))


@pytest.mark.slow
async def test_a_backup_is_the_ledger_of_one_moment_while_orders_go_on(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.commit([assign()])
    pieces = ledger.backup()
    whole = await anext(pieces)
    outcomes = await ledger.commit([refresh(f"r{number}") for number in range(400)])
    assert set(codes(outcomes)) == {"ok"}, "orders are taken meanwhile (S11)"
    with pytest.raises(BackupError, match="being taken already"):
        await anext(ledger.backup())
    assert ledger.fault is None
    assert ledger._usable.is_set(), "a second backup is no fault of the disk"
    whole += b"".join([piece async for piece in pieces])
    (tmp_path / "one").write_bytes(whole)
    copy = backup.look(tmp_path / "one")
    backup.verify(copy, KEY)
    assert (copy.cards, copy.taken_at) == (1, NOW)
    assert copy.head.seq < (await ledger.audit_head()).seq
    second = backup.look(await taken(ledger, tmp_path / "two"))
    backup.verify(second, KEY, await ledger.audit_head())
    with pytest.raises(AuditBroken):
        backup.verify(copy, KEY, second.head)


async def test_a_backup_that_lasts_too_long_is_given_up_and_is_none(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cad.ledger.ledger.BACKUP_STEP", 4096)
    monkeypatch.setattr("cad.ledger.tables.database.FROZEN_LOG_MAX", 0)
    pieces = ledger.backup()
    await anext(pieces)
    await ledger.commit([assign()])
    await ledger.witness_time()
    with pytest.raises(BackupError, match="take it again"):
        async for _ in pieces:
            pass
    assert codes(await ledger.commit([refresh("r3")])) == ["ok"]
    await anext(again := ledger.backup())
    await again.aclose()


async def test_whoever_hangs_up_leaves_nothing_frozen(ledger: Ledger) -> None:
    for _ in range(2):
        pieces = ledger.backup()
        await anext(pieces)
        await pieces.aclose()
        await ledger.witness_time()


@pytest.mark.slow
def test_what_is_put_back_lets_no_version_fall_and_keeps_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    take(store, assign())
    path = backup_of(store, tmp_path / "copy")
    take(store, assign("a8", card=8), *(refresh(f"r{number}", card=8) for number in range(40)))
    seen = revision(store), revision(store, 8)
    store.meta_set("period", "5000")
    lost = store.head
    store.close()

    aside = put_back(path, folder)
    assert aside is not None
    store = open_store(folder, now=LATER)
    assert store.warnings == [], "put back on purpose: nothing is suspect"
    assert revision(store) > seen[0]
    assert store.read(lambda held: reading.card_view(held, 8, GRANTS, NOW)) is None
    take(store, assign("a8", card=8), now=LATER)
    assert revision(store, 8) > seen[1], "also of a card that the copy does not know"
    assert store.meta_get("period") == "5000"
    records = store.read(lambda held: reading.audit_rows(held, 0, 1000))
    restored = [record for _, record, _ in records if '"kind":"restored"' in record]
    assert len(restored) == 1
    assert lost.spell() in restored[0], "what was replaced is told"
    check = store.begin_check(None)
    check.take(records)
    check.finish()
    store.close()
    with sqlite3.connect(aside) as held:
        assert held.execute("SELECT count(*) FROM cards").fetchone() == (2,)
    held.close()


@pytest.mark.slow
def test_into_an_empty_place_and_over_a_damaged_ledger(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    take(store, assign())
    path = backup_of(store, tmp_path / "copy")
    store.close()
    for name, content in (("new", None), ("damaged", b"no database at all")):
        folder = tmp_path / name
        folder.mkdir()
        if content is not None:
            (folder / FILE_NAME).write_bytes(content)
            (folder / (FILE_NAME + "-wal")).write_bytes(content)
        aside = put_back(path, folder)
        assert (aside is None) == (content is None)
        assert aside is None or aside.read_bytes() == content
        store = open_store(folder, now=LATER)
        assert revision(store) > 1
        assert codes(take(store, refresh(), now=LATER)) == ["ok"]
        store.close()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole[:5000], "whole|damaged|malformed"),
        (lambda whole: b"hello", "not a"),
        (lambda whole: b"", "not a"),
        (lambda whole: whole[:8192] + bytes(4096) + whole[12288:], "whole|damaged|malformed"),
    ],
    ids=["cut off", "another file", "empty", "a page lost"],
)
def test_what_is_not_whole_is_refused_before_anything_is_touched(tmp_path: Path, damage: object, said: str) -> None:
    store = open_store(tmp_path / "state")
    take(store, assign())
    path = backup_of(store, tmp_path / "copy")
    store.close()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises((BackupError, AuditBroken), match=said):
        backup.verify(backup.look(path), KEY)


@pytest.mark.slow
def test_another_key_another_head_and_another_sum_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    take(store, assign())
    path = backup_of(store, tmp_path / "copy")
    store.close()
    copy = backup.look(path)
    with pytest.raises(BackupError, match="another master key"):
        backup.verify(copy, bytes(32))
    with pytest.raises(AuditBroken):
        backup.verify(copy, KEY, AuditHead(copy.head.seq, bytes(32)))
    assert not backup.check_sum(path), "there is none"
    path.with_name("copy.sha256").write_text(f"{backup.sum_of(path)}  copy\n")
    assert backup.check_sum(path)
    path.with_name("copy.sha256").write_text("0" * 64 + "  copy\n")
    with pytest.raises(BackupError, match="damaged or changed"):
        backup.check_sum(path)
    with pytest.raises(BackupError, match="cannot be read"):
        backup.look(tmp_path / "nothing")


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    take(store, assign())
    path = backup_of(store, tmp_path / "copy")
    take(store, refresh())
    head = store.head
    store.close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(BackupError, match="No space left on device; nothing was changed"):
        put_back(path, folder)
    assert {one.name for one in folder.iterdir()} == {FILE_NAME, FILE_NAME + ANCHOR_SUFFIX}
    store = open_store(folder)
    assert (store.head, store.warnings) == (head, [])
    store.close()
