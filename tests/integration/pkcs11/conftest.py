"""Tokens of SoftHSM for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from tests.support.softhsm import SoftHsm


@pytest.fixture(scope="session")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsm]:
    """Tokens that exist before the library is loaded; it reads its configuration once a process."""
    made = SoftHsm(tmp_path_factory.mktemp("softhsm"))
    for label in ("cad", "daemon", "known", "unsafe", "short", "empty", "pins", "lost"):
        made.make(label)
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = made.environment["SOFTHSM2_CONF"]
    yield made
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before
