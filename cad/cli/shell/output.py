"""How answers look: JSON for programs; tables and lines for people, plain text where it is not a terminal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 140


def show_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def console(*, err: bool = False) -> Console:
    """Return where tables are printed; without a terminal lines are wide and without colour."""
    out = _Console(stderr=err, highlight=False)
    return (
        out if out.is_terminal else _Console(stderr=err, highlight=False, width=WIDTH_WITHOUT_TERMINAL, no_color=True)
    )


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `cad.cli.main` what to do when nobody reads any more."""
        raise BrokenPipeError


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    """Return a table; numbers are aligned to the right, everything from outside is shown literally."""
    made = Table(title=escape(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    listed = [list(row) for row in rows]
    for number, column in enumerate(columns):
        is_numeric = bool(listed) and all(isinstance(row[number], int | float) for row in listed)
        made.add_column(escape(column), justify="right" if is_numeric else "left")
    for row in listed:
        made.add_row(*(escape(spell(cell)) for cell in row))
    return made


def spell(value: Any) -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
        case int():
            return str(value)
        case Mapping():
            return ", ".join(f"{name} {spell(one)}" for name, one in value.items())
        case list() | tuple():
            return ", ".join(spell(one) for one in value) or "-"
        case _:
            return str(value)


def document(content: Mapping[str, Any], title: str | None = None) -> RenderableType:
    """Return any document as lines and tables: plain values first, then every group and every list of groups."""
    plain = {name: value for name, value in content.items() if not _is_table(value) and not _is_group(value)}
    parts: list[RenderableType] = []
    if plain:
        lines = Table(
            title=escape(title) if title else None, title_justify="left", box=None, show_header=False, pad_edge=False
        )
        for name, value in plain.items():
            lines.add_row(escape(words(name)), escape(spell(value)))
        parts.append(lines)
    for name, value in content.items():
        if _is_table(value) and any(_is_table(cell) for row in value for cell in row.values()):
            parts += [document(row, f"{words(name)} {number}") for number, row in enumerate(value, 1)]
        elif _is_table(value):
            columns = list(dict.fromkeys(key for row in value for key in row))
            rows = [[row.get(column) for column in columns] for row in value]
            parts.append(table([words(column) for column in columns], rows, words(name)))
        elif _is_group(value):
            parts.append(document(value, words(name)))
    return Group(*parts)


def words(name: str) -> str:
    """Return a key of a document as words."""
    return name.replace("_", " ")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _is_group(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)
