"""The result of a batch: a table of cards for the warehouse and for printing. Numbers and check values, no keys."""

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cad.errors import BatchFileError
from cad.stock.journal import ChipRecord
from protocol import card_number
from protocol.errors import CardNumberError

COLUMNS: Final = ("number", "serial", "made_at", "key_check_values")
ROWS_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One card: printed number of twelve digits, serial number of its chip."""

    number: str
    serial: str


def spell(chips: Iterable[ChipRecord]) -> str:
    """Return the finished cards as CSV (RFC 4180), rising by number."""
    out = io.StringIO(newline="")
    rows = csv.writer(out)
    rows.writerow(COLUMNS)
    for chip in sorted((one for one in chips if one.recorded), key=lambda one: one.address):
        values = " ".join(f"{name}={value}" for name, value in sorted(chip.check_values.items()))
        rows.writerow((card_number.spell(chip.address), chip.serial, chip.made_at, values))
    return out.getvalue()


def write(path: Path, chips: Iterable[ChipRecord]) -> None:
    """Write the result file whole or not at all, in place of an older one. Raises BatchFileError."""
    replace_file(path, spell(chips).encode())


def read(path: Path) -> list[ResultRow]:
    """Read a result file, every number checked. Raises BatchFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BatchFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BatchFileError(f"{path} is not a result file: it is not text") from None
    lines = csv.reader(io.StringIO(text, newline=""))
    rows: list[ResultRow] = []
    try:
        if tuple(next(lines, ())) != COLUMNS:
            raise BatchFileError(f"{path} is not a result file: its first line must be {','.join(COLUMNS)}")
        for line in lines:
            if len(line) != len(COLUMNS) or len(rows) >= ROWS_MAX:
                raise BatchFileError(f"{path} line {lines.line_num}: {len(COLUMNS)} columns are needed")
            rows.append(ResultRow(card_number.spell(card_number.parse(line[0])), line[1]))
    except (csv.Error, CardNumberError) as error:
        raise BatchFileError(f"{path} line {lines.line_num}: {error}") from None
    return rows


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another, whole or not at all. Raises BatchFileError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BatchFileError(f"{path} cannot be written: {error.strerror}") from None
