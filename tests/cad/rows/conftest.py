"""Rows of the requirements are tested on a headend by hand, whose files lie in memory where there is room for them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hand_headend import NUMBERS, HandHeadend, at

MEMORY = Path("/dev/shm")
A = NUMBERS[0]


@pytest.fixture
def headend() -> Iterator[HandHeadend]:
    """A headend in Helsinki on a November noon, with three offers, and one card of one subscriber."""
    with tempfile.TemporaryDirectory(prefix="cad-rows-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        one = HandHeadend(Path(folder), at("2026-11-20 12:00"))
        for slug in ("basic", "sport", "film"):
            one.done("offer put", offer=slug, kind="channel", names={"fi": slug}, products=[slug])
        one.done("card assign", card=A, subscriber="anna")
        yield one
        one.close()
