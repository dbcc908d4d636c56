"""One thread per reader: jobs on the same reader wait for each other, jobs on two readers run side by side."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Generic, Self, TypeVar

Card = TypeVar("Card")
Result = TypeVar("Result")


class ReaderPool(Generic[Card]):
    """Runs jobs on cards. `connect` opens the card in a named reader (`cards.pcsc.connect`).

    Each job gets a connection of its own, opened and closed on the reader's own thread.
    """

    def __init__(self, connect: Callable[[str], AbstractContextManager[Card]]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def submit(self, reader: str, job: Callable[[Card], Result]) -> "Future[Result]":
        """Run `job` with the card in `reader`; the future gives its result, or raises what it raised."""
        with self._lock:
            if reader not in self._threads:
                self._threads[reader] = ThreadPoolExecutor(1, thread_name_prefix=f"reader {reader}")
            return self._threads[reader].submit(self._run, reader, job)

    def _run(self, reader: str, job: Callable[[Card], Result]) -> Result:
        with self._connect(reader) as card:
            return job(card)

    def close(self) -> None:
        """Wait for the jobs that have begun, drop the others, and end the threads."""
        with self._lock:
            threads, self._threads = list(self._threads.values()), {}
        for thread in threads:
            thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
