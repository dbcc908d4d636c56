"""Ledgers of these tests lie in memory where the machine has a file system for that: flushing takes no time there."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cad-ledger-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)
