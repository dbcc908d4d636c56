"""docs/requirements.md names tests that are there, and every test of a row is named on it."""

import ast
import re
from functools import cache
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
PROMISED = {*(f"S{number}" for number in range(1, 20)), *(f"C{number}" for number in range(2, 9))}
"""Rows with tests of their own through broker, daemon and card, each function named on the page."""


@cache
def functions(file: Path) -> frozenset[str]:
    """Names of the test functions in a file."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    found = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(name for name in found if name.startswith("test_"))


def rows_of(function: str) -> set[str]:
    """The rows that a test function is named after: S6 and S18 of `test_s06_s18_…`."""
    named = re.match(r"test_((?:[a-z]\d\d_)+)", function)
    return set() if named is None else {f"{one[0].upper()}{int(one[1:])}" for one in named[1].split("_") if one}


def test_every_row_is_there_once() -> None:
    rows = [row for row, _ in ROW.findall(PAGE.read_text(encoding="utf-8")) if row[0] != "I"]
    assert len(rows) == len(set(rows))
    assert set(rows) == REQUIRED


def test_each_row_names_tests_that_are_there_and_speak_of_it() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert rows
    for row, tests in rows:
        for name, _, function in (one.partition("::") for one in tests.split(", ")):
            text = (ROOT / name).read_text(encoding="utf-8")
            assert re.search(rf"\b{row}\b", text.splitlines()[0]), f"{name} does not name {row} in its first line"
            assert not function or function in functions(ROOT / name), f"{name} has no test {function}"


def test_each_promise_names_all_its_tests_through_broker_and_card() -> None:
    page = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))
    there: dict[str, set[str]] = {row: set() for row in PROMISED}
    for file in sorted((ROOT / "tests" / "e2e").rglob("test_*.py")):
        for function in functions(file):
            for row in rows_of(function) & PROMISED:
                there[row].add(f"{file.relative_to(ROOT).as_posix()}::{function}")
    for row, tests in there.items():
        assert tests, f"no test below tests/e2e is named after {row}"
        named = {one for one in page[row].split(", ") if one.startswith("tests/e2e/")}
        assert named == {one for one in named if "::" in one}, f"{row}: a file is named where a function is wanted"
        assert tests <= named, f"docs/requirements.md, {row}, does not name {sorted(tests - named)}"


def test_no_test_of_a_row_is_left_out() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for folder in ("tests/cad/rows", "tests/e2e/rows"):
        for file in sorted((ROOT / folder).glob("test_*.py")):
            name = file.relative_to(ROOT).as_posix()
            assert name in page or file.name == Path(__file__).name, f"docs/requirements.md does not name {name}"
