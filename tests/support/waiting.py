"""Waiting for something that another thread or process does."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0, what: Callable[[], str] | str = "it") -> None:
    """Return as soon as `condition` holds; after `timeout_s` fail with `what` was waited for."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= end:
            raise AssertionError(f"waited {timeout_s} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.01)
