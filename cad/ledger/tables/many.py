"""Statements that are run for many rows at once, and for one table's rows as they stand."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Delete, Insert, Table, Update, bindparam, insert, update


class Many:
    """A statement of SQLAlchemy that is run for many rows of plain values, in the order of `names`.

    Spelt once for the database at hand; row by row nothing of SQLAlchemy is left in the way.
    """

    def __init__(self, statement: Insert | Update | Delete, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._spelt: dict[str, tuple[str, bool]] = {}

    def run(self, connection: Connection, values: Sequence[tuple[Any, ...]]) -> None:
        """Run the statement for each row."""
        if not values:
            return
        dialect = connection.dialect
        if dialect.name not in self._spelt:
            compiled = self._statement.compile(dialect=dialect)
            if compiled.positional and tuple(compiled.positiontup or ()) != self._names:
                raise AssertionError(f"{compiled.positiontup} is not {self._names}")
            self._spelt[dialect.name] = (str(compiled), bool(compiled.positional))
        spelt, positional = self._spelt[dialect.name]
        connection.exec_driver_sql(
            spelt, list(values) if positional else [dict(zip(self._names, row, strict=True)) for row in values]
        )


def insert_all(table: Table) -> Many:
    """Return what puts whole rows into a table, in the order of its columns."""
    return Many(insert(table), [column.name for column in table.columns])


def update_some(table: Table, key: str, columns: Sequence[str]) -> Many:
    """Return what sets columns of rows found by a key, which comes last."""
    values: dict[str, Any] = {name: bindparam(f"to_{name}") for name in columns}
    statement = update(table).where(table.c[key] == bindparam("of_key")).values(values)
    return Many(statement, [*(f"to_{name}" for name in columns), "of_key"])
