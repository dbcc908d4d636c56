"""What a card may be, by its answer to reset: the list of pcsc-tools, where that is installed."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LISTS: Final = (Path("~/.cache/smartcard_list.txt"), Path("/usr/share/pcsc/smartcard_list.txt"))
"""Where pcsc-tools keeps its list: the newer one that `ATR_analysis` has fetched for this user, and the package's."""
NAMES_MAX: Final = 3

# An answer to reset byte by byte; two dots stand for any byte, and a few entries have classes of digits.
_PATTERN: Final = re.compile(r"3[BF]( ?[0-9A-F.\[\]\-,])*")


def card_names(atr: bytes, lists: Iterable[Path] = LISTS) -> tuple[str, ...]:
    """At most three names of cards with this answer to reset, the exact ones first; empty where none is known.

    A name is a guess: cards of one make and of many purposes answer alike.
    """
    if not atr:
        return ()
    spelt = atr.hex(" ").upper()
    for path in lists:
        try:
            lines = path.expanduser().read_text(encoding="utf-8", errors="replace").splitlines()
        except (OSError, RuntimeError):  # not installed; no home
            continue
        exact, alike = _look_up(spelt, lines)
        if exact or alike:
            return tuple(dict.fromkeys((*exact, *alike)))[:NAMES_MAX]
    return ()


def _look_up(spelt: str, lines: list[str]) -> tuple[list[str], list[str]]:
    """Names of the entries that are this answer to reset, and of those with a pattern that fits it."""
    exact: list[str] = []
    alike: list[str] = []
    taken: list[str] | None = None
    for line in lines:
        if line.startswith("\t"):
            if taken is not None and (name := line.strip()):
                taken.append(name)
        elif line.startswith("3"):
            entry = line.strip()
            taken = exact if entry == spelt else alike if _fits(entry, spelt) else None
        else:
            taken = None
    return exact, alike


def _fits(entry: str, spelt: str) -> bool:
    is_pattern = "." in entry or "[" in entry
    if not is_pattern or entry[:2] != spelt[:2] or _PATTERN.fullmatch(entry) is None:
        return False
    try:
        return re.fullmatch(entry, spelt) is not None
    except re.error:
        return False
