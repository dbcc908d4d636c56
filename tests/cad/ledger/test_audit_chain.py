"""The audit chain finds what was removed, changed, reordered or cut off (I9, C12)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cad.ledger import audit
from cad.ledger.errors import AuditBroken, LedgerRefused
from cad.ledger.look import reading
from cad.ledger.model import AuditHead, Refusal, Unreadable
from cad.ledger.store import ANCHOR_SUFFIX, FILE_NAME, Store
from protocol.portal.codes import Code
from tests.support.ledgers import KEY, NOW, assign, offer, open_store, refresh, subscribe, take


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "state")
    refusal = Refusal("karjaa", "card", "assign", "x", Code.INVALID, "no")
    take(store, offer(), assign(), subscribe(), refusal, Unreadable("karjaa", Code.UNREADABLE, "no", "0" * 64, 3))
    take(store, assign(), *(refresh(f"r{number}") for number in range(5)))
    yield store
    store.close()


def verify(store: Store, head: AuditHead | None = None, *, accept_rollbacks: bool = False) -> AuditHead:
    check = store.begin_check(head)
    while rows := store.read(lambda held: reading.audit_rows(held, check.head.seq, 3)):
        check.take(rows)
    return check.finish(accept_rollbacks=accept_rollbacks)


def records(store: Store) -> list[dict[str, object]]:
    return [json.loads(row[1]) for row in store.read(lambda held: reading.audit_rows(held, 0, 1000))]


def test_every_message_leaves_one_record_in_order(store: Store) -> None:
    found = records(store)
    assert [one["seq"] for one in found] == list(range(1, 14))
    assert [one["kind"] for one in found[:8]] == [
        "begun",
        "grants",
        *["command"] * 3,
        "refused",
        "unreadable",
        "command",
    ]
    assert found[7]["status"] == "duplicate"
    assert found[4]["body"] == {"subscription": "s-1", "rev": 1, "card": "000000000075", "offer": "basic"}
    assert found[4]["versions"] == [[7, 2, 2]]
    assert verify(store) == store.head


def sql(statement: str) -> Callable[[Store], None]:
    def run(store: Store) -> None:
        with store.database.transaction() as connection:
            connection.exec_driver_sql(statement)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "seq"),
    [
        (sql("DELETE FROM audit WHERE seq = 4"), 4),
        (sql("DELETE FROM audit WHERE seq = 1"), 1),
        (sql("DELETE FROM audit WHERE seq >= 9"), 9),
        (sql("UPDATE audit SET record = replace(record, 'anna', 'bert') WHERE seq = 4"), 4),
        (sql("UPDATE audit SET mac = zeroblob(32) WHERE seq = 13"), 13),
        (sql("UPDATE audit SET record = (SELECT record FROM audit WHERE seq = 9) WHERE seq = 10"), 10),
        (sql("UPDATE audit SET seq = CASE seq WHEN 9 THEN -10 ELSE -9 END WHERE seq IN (9, 10)"), 9),
        (sql("UPDATE audit SET seq = seq + 1 WHERE seq = 13"), 13),
    ],
)
def test_tampering_is_found(store: Store, tamper: Callable[[Store], None], seq: int) -> None:
    store.write_anchor()
    tamper(store)
    sql("UPDATE audit SET seq = -seq WHERE seq < 0")(store)
    with pytest.raises(AuditBroken) as found:
        verify(store)
    assert found.value.seq == seq


def test_records_added_without_the_key_are_found(store: Store) -> None:
    record = '{"seq":14,"at":1,"kind":"command"}'
    mac = audit.seal(b"another key".ljust(32), store.head.mac, record)
    with store.database.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO audit VALUES (14, ?, ?)", (record, mac))
    with pytest.raises(AuditBroken, match="was changed"):
        verify(store)


def test_an_end_cut_off_is_found_by_a_head_kept_elsewhere_even_when_the_note_beside_the_file_was_changed(
    store: Store, tmp_path: Path
) -> None:
    kept = AuditHead.parse(store.head.spell())
    sql("DELETE FROM audit WHERE seq > 10")(store)
    (row,) = store.read(lambda held: reading.audit_rows(held, 9, 1))
    (tmp_path / "state" / (FILE_NAME + ANCHOR_SUFFIX)).write_text(AuditHead(10, row[2]).spell())
    assert verify(store).seq == 10
    with pytest.raises(AuditBroken, match="missing"):
        verify(store, kept)


def test_a_chain_made_anew_does_not_lead_to_a_head_kept_elsewhere(store: Store, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    take(other, *(refresh(f"r{number}") for number in range(20)))
    with pytest.raises(AuditBroken, match="kept elsewhere"):
        verify(other, store.head)
    other.close()


def test_a_rollback_stays_on_record_until_it_is_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    store = open_store(folder)
    take(store, assign())
    store.close()
    older = (folder / FILE_NAME).read_bytes()
    store = open_store(folder)
    take(store, refresh())
    store.close()
    (folder / FILE_NAME).write_bytes(older)
    store = open_store(folder)
    with pytest.raises(AuditBroken, match="had been lost"):
        verify(store)
    assert verify(store, accept_rollbacks=True) == store.head
    store.close()


def test_the_note_beside_the_file_never_runs_ahead_and_is_private(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "state" / (FILE_NAME + ANCHOR_SUFFIX)
    take(store, refresh("later"), now=NOW + 5)
    assert store.anchor_due
    store.write_anchor()
    assert not store.anchor_due
    assert audit.read_anchor(path) == store.head
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_damaged_note_is_told_and_does_not_stop_the_daemon(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    open_store(folder).close()
    (folder / (FILE_NAME + ANCHOR_SUFFIX)).write_text("nonsense")
    store = open_store(folder)
    assert "cannot be read" in store.warnings[0]
    store.close()


def test_a_note_about_another_chain_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    open_store(folder).close()
    (folder / (FILE_NAME + ANCHOR_SUFFIX)).write_text(AuditHead(1, bytes(32)).spell())
    store = open_store(folder)
    assert "not the one noted outside" in store.warnings[0]
    store.close()


def test_another_key_does_not_open_the_ledger(tmp_path: Path) -> None:
    open_store(tmp_path / "state").close()
    with pytest.raises(LedgerRefused, match="another master key"):
        open_store(tmp_path / "state", key=b"x" * 32)
    open_store(tmp_path / "state").close()


def test_no_key_is_in_the_file_or_in_a_repr(store: Store, tmp_path: Path) -> None:
    store.close()
    for file in (tmp_path / "state").iterdir():
        assert KEY not in file.read_bytes()
        assert KEY.hex().encode() not in file.read_bytes()
    assert repr(KEY) not in repr(audit.ChainCheck(KEY))


@pytest.mark.parametrize(
    "text", ["", "1", "x:y", "1:" + "0" * 63, "-1:" + "0" * 64, "1:" + "g" * 64, "9" * 30 + ":" + "0" * 64]
)
def test_a_head_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        AuditHead.parse(text)


@pytest.mark.parametrize("name", ["seq", "at", "kind"])
def test_no_fact_hides_what_every_record_has(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        audit.note(1, 0.0, "restored", {name: 7, "had": 1})
