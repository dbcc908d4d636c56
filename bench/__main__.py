"""`python -m bench`: measure everything, print a table, write bench/results.json.

Exit code 0 also where an aim is missed: figures depend on the machine. 1 when a measurement fails.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

FOLDER: Final = Path(__file__).parent
RESULTS: Final = FOLDER / "results.json"
LIMIT_S: Final = 1800
WIDTH_WITHOUT_TERMINAL: Final = 110


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one module; without an aim `aim` and `met` are None. `side`: min or max."""

    module: str
    name: str
    value: float
    aim: float | None = None
    side: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met."""
        if self.aim is None:
            return None
        return self.value >= self.aim if self.side == "min" else self.value <= self.aim

    @property
    def verdict(self) -> str:
        """The same in words."""
        return {None: "", True: "met", False: "missed"}[self.met]

    @property
    def wanted(self) -> str:
        """The aim in words."""
        if self.aim is None:
            return ""
        return f"{'at least' if self.side == 'min' else 'at most'} {number(self.aim)}"


class FailedError(Exception):
    """A module could not be measured."""


def modules() -> list[str]:
    """Return the names of the modules that measure."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def measure(name: str, seed: int) -> list[Figure]:
    """Measure one module in a process of its own. Raises `FailedError` with what it said."""
    command = [sys.executable, "-m", "bench._worker", name, str(seed)]
    try:
        done = subprocess.run(
            command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise FailedError(f"{name}: not done after {LIMIT_S} s") from late
    if done.returncode:
        raise FailedError(f"{name}: exit code {done.returncode}; the reason stands above")
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as strange:
        raise FailedError(f"{name}: no figures in its last line") from strange
    aims: dict[str, tuple[float, str]] = found["aims"]
    return [Figure(name, figure, value, *aims.get(figure, ())) for figure, value in found["figures"].items()]


def document(figures: Iterable[Figure], failed: list[str], seed: int) -> dict[str, Any]:
    """Return what results.json says."""
    listed = [asdict(figure) | {"met": figure.met} for figure in figures]
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": {
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
        "commit": _git("rev-parse", "HEAD"),
        "changed_since_commit": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "figures": listed,
        "failed": failed,
    }


def number(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(figures: Iterable[Figure]) -> Table:
    """Return the table for people."""
    made = Table("bench", "figure", title="Benchmark", title_justify="left")
    made.add_column("value", justify="right")
    made.add_column("aim")
    made.add_column("outcome")
    for figure in figures:
        style = {None: "", True: "green", False: "bold red"}[figure.met]
        made.add_row(figure.module, figure.name, number(figure.value), figure.wanted, figure.verdict, style=style)
    return made


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@click.command()
@click.option(
    "--only", "only", multiple=True, metavar="NAME", help="Measure just this module; may be given repeatedly."
)
@click.option("--seed", type=int, default=1, show_default=True, help="For all that chance decides.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=RESULTS, help="The file to write.")
def main(only: tuple[str, ...], seed: int, output: Path) -> None:
    """Measure, print a table and write the results as JSON."""
    known = modules()
    if unknown := sorted(set(only) - set(known)):
        raise click.UsageError(f"no such benchmark: {', '.join(unknown)}; known are {', '.join(known)}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_WITHOUT_TERMINAL)
    figures: list[Figure] = []
    failed: list[str] = []
    for name in only or known:
        console.print(f"measuring {name} …")
        try:
            figures += measure(name, seed)
        except FailedError as error:
            failed.append(str(error))
    console.print(table(figures))
    missed = [figure.name for figure in figures if figure.met is False]
    if missed:
        console.print(f"missed: {', '.join(missed)}")
    output.write_text(json.dumps(document(figures, failed, seed), indent=2) + "\n")
    for reason in failed:
        console.print(f"failed: {reason}", style="bold red")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
