"""Where in a TOML file a key stands, for messages to people. Knows nothing of what the file says."""

import re
from collections.abc import Mapping

from config.errors import Problem

_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_TABLE = re.compile(r"""\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$""")

Location = tuple[str | int, ...]


def with_line(problem: Problem, lines: Mapping[Location, int]) -> Problem:
    """Add the line of the key, or of the nearest table around it."""
    location: Location = tuple(int(step) if step.isdecimal() else step for step in problem.where.split("."))
    while location:
        if location in lines:
            return Problem(problem.where, problem.text, lines[location])
        location = location[:-1]
    return problem


def find_lines(text: str) -> dict[Location, int]:
    """Find the line of every table and key that stands at the beginning of a line. A help for people, not a parser."""
    lines: dict[Location, int] = {}
    counts: dict[Location, int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = _resolve(_steps(header[2]), counts, is_array=header[1] == "[[")
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _steps(key[1]), number)
    return lines


def _steps(dotted: str) -> tuple[str, ...]:
    return tuple(step.strip().strip("\"'") for step in dotted.split("."))


def _resolve(steps: tuple[str, ...], counts: dict[Location, int], *, is_array: bool) -> Location:
    """Put the indexes of the arrays of tables that are open into the path of a header."""
    location: Location = ()
    for step in steps[:-1]:
        location += (step,)
        if location in counts:
            location += (counts[location],)
    location += (steps[-1],)
    if is_array:
        counts[location] = counts.get(location, -1) + 1
        location += (counts[location],)
    return location
