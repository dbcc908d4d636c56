"""docs/requirements.md names tests that are there, and every test of a row is named on it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "requirements.md"
ROW = re.compile(r"^\| ([A-Z]\d+) \| .+ \| (.+) \|$", re.MULTILINE)


REQUIRED = {
    *(f"M{number}" for number in range(1, 7)),
    *(f"S{number}" for number in range(1, 20)),
    *(f"C{number}" for number in range(1, 14)),
    *(f"X{number}" for number in range(1, 8)),
}


def test_every_row_is_there_once() -> None:
    rows = [row for row, _ in ROW.findall(PAGE.read_text(encoding="utf-8")) if row[0] != "I"]
    assert len(rows) == len(set(rows))
    assert set(rows) == REQUIRED


def test_each_row_names_tests_that_are_there_and_speak_of_it() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert rows
    for row, tests in rows:
        for name in tests.split(", "):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert re.search(rf"\b{row}\b", text.splitlines()[0]), f"{name} does not name {row} in its first line"


def test_no_test_of_a_row_is_left_out() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for folder in ("tests/cad/rows", "tests/e2e/rows"):
        for file in sorted((ROOT / folder).glob("test_*.py")):
            name = file.relative_to(ROOT).as_posix()
            assert name in page or file.name == Path(__file__).name, f"docs/requirements.md does not name {name}"
