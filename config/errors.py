"""Errors of the package: everything that can be wrong with a settings file."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `where` is the TOML path ('' = the file as a whole), `line` counts from 1 where known."""

    where: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.where}: {self.text}" if self.where else f"{line}{self.text}"


class SettingsError(Exception):
    """Root of all errors raised by `config`: the settings cannot be used. Carries every problem found."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{source} cannot be used:", *(f"  {problem}" for problem in self.problems)]))
