"""A fresh schema and the one that all migrations lead to are the same; what is not ours is not touched."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.exc import IntegrityError

from cad.ledger.errors import LedgerRefused, LedgerUnavailable
from cad.ledger.tables import engine, schema
from tests.support.ledgers import open_store


def described(path: Path) -> dict[str, object]:
    found = inspect(create_engine(f"sqlite:///{path}"))

    def by_name(items: list[dict[str, object]]) -> list[dict[str, object]]:
        return sorted(items, key=lambda item: str(item["name"]))

    return {
        table: {
            "columns": [{key: str(value) for key, value in one.items()} for one in found.get_columns(table)],
            "checks": by_name(list(found.get_check_constraints(table))),
            "uniques": by_name(list(found.get_unique_constraints(table))),
            "foreign": by_name(list(found.get_foreign_keys(table))),
            "primary": found.get_pk_constraint(table),
            "indexes": [
                {**one, "dialect_options": {k: str(v) for k, v in one.get("dialect_options", {}).items()}}
                for one in by_name(list(found.get_indexes(table)))
            ],
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def revision_of(path: Path) -> str | None:
    with create_engine(f"sqlite:///{path}").connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@pytest.mark.slow
def test_a_fresh_schema_equals_all_migrations_applied(tmp_path: Path) -> None:
    open_store(tmp_path / "state").close()
    fresh, migrated = tmp_path / "state" / "ledger.db", tmp_path / "migrated.db"
    with create_engine(f"sqlite:///{migrated}").begin() as connection:
        # A ledger of the first version, from which all later ones come.
        config = engine._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with create_engine(f"sqlite:///{migrated}").begin() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "0001"
        engine.migrate(connection)
    assert described(migrated) == described(fresh)
    assert revision_of(migrated) == revision_of(fresh)
    with create_engine(f"sqlite:///{migrated}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_connection_is_set_up_as_decided(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "exclusive",
        "foreign_keys": 1,
        "application_id": engine.APPLICATION_ID,
    }
    found = {
        name: store.read(lambda held, name=name: held.exec_driver_sql(f"PRAGMA {name}").scalar()) for name in wanted
    }
    store.close()
    assert found == wanted


@pytest.mark.slow
def test_nobody_else_can_write_while_it_is_open(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state")
    with pytest.raises(LedgerUnavailable, match="another process uses the ledger"):
        open_store(tmp_path / "state")
    other = sqlite3.connect(tmp_path / "state" / "ledger.db", timeout=0.1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("DELETE FROM cards")
    other.close()
    store.close()
    open_store(tmp_path / "state").close()


def test_a_schema_of_the_future_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "state").close()
    with sqlite3.connect(tmp_path / "state" / "ledger.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(LedgerRefused, match="newer version"):
        open_store(tmp_path / "state")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    with sqlite3.connect(folder / "ledger.db") as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(LedgerRefused, match="another program"):
        open_store(folder)


@pytest.mark.parametrize("content", [b"x" * 5000, b"not a database"])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerUnavailable, match="not a database") as found:
        open_store(folder)
    assert found.value.broken
    assert (folder / "ledger.db").read_bytes() == content


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "ledger.db").write_bytes(b"")
    open_store(folder).close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    made = engine.make_engine

    def failing(path: Path) -> object:
        one = made(path)

        @event.listens_for(one, "before_cursor_execute")
        def stop(c: object, cursor: object, statement: str, *rest: object) -> None:
            if statement.strip().startswith("CREATE TABLE audit"):
                raise sqlite3.OperationalError("disk I/O error")

        return one

    monkeypatch.setattr(engine, "make_engine", failing)
    with pytest.raises(LedgerUnavailable):
        open_store(folder)
    monkeypatch.setattr(engine, "make_engine", made)
    open_store(folder).close()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    from cad.ledger.model import Grants, LedgerOptions
    from cad.ledger.store import Store

    with pytest.raises(LedgerUnavailable, match="check that its folder exists"):
        Store(tmp_path / "nowhere" / "ledger.db", bytes(32), LedgerOptions()).open(Grants(), 0.0)


def test_a_ledger_of_the_first_schema_keeps_its_rows_and_their_references(tmp_path: Path) -> None:
    from alembic import command

    path = tmp_path / "ledger.db"
    held = engine.make_engine(path).connect()
    config = engine._config()
    config.attributes["connection"] = held
    with held.begin():
        command.upgrade(config, "0002")
        held.exec_driver_sql(
            "INSERT INTO cards VALUES (7, 'karjaa', 'suspended', 'unpaid', 'anna', 1, 4, 2, 3, 1.5, 2.5),"
            " (8, 'karjaa', 'active', NULL, 'bert', 1, 1, 0, 1, 1.5, 2.5)"
        )
        held.exec_driver_sql("INSERT INTO offers VALUES (1, 'karjaa', 'basic', 0, 'package', '{}', NULL, '[]', 1.0)")
        held.exec_driver_sql(
            "INSERT INTO subscriptions VALUES (1, 'karjaa', 's-1', 0, 7, 1, 100, NULL, 1.0),"
            " (2, 'karjaa', 's-2', 0, 7, 1, 100, 100, 1.0)"
        )
    with engine.references_unchecked(held), held.begin():
        engine.migrate(held)
    with held.begin():
        cards = held.exec_driver_sql("SELECT address, state, revision, blocked, open_until FROM cards").fetchall()
        due = held.exec_driver_sql("SELECT subscription, phase, due_at FROM subscriptions").fetchall()
    assert [tuple(row) for row in cards] == [(7, "suspended", 4, 1, None), (8, "active", 1, 0, None)]
    assert [tuple(row) for row in due] == [("s-1", 0, 100), ("s-2", 0, None)], "what was never told is due"
    with pytest.raises(IntegrityError), held.begin():
        held.exec_driver_sql("DELETE FROM cards WHERE address = 7")
    held.close()
