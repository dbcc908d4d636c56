"""One thread per reader."""

import threading
from contextlib import contextmanager

import pytest

from cards.errors import NoCardError
from cards.readers.pool import ReaderPool


@contextmanager
def connect(reader):
    if reader == "empty":
        raise NoCardError("no card")
    yield reader


def test_jobs_on_two_readers_run_at_the_same_time_and_on_one_after_each_other():
    meeting = threading.Barrier(2, timeout=10)
    threads: dict[str, set[str]] = {"a": set(), "b": set()}

    def job(card):
        meeting.wait()
        threads[card].add(threading.current_thread().name)
        return card

    with ReaderPool(connect) as pool:
        jobs = [pool.submit(reader, job) for reader in "abab"]
        assert [each.result(10) for each in jobs] == list("abab")
    assert [len(names) for names in threads.values()] == [1, 1]
    assert threads["a"] != threads["b"]


def test_errors_of_the_connection_and_of_the_job_come_out_of_the_future():
    with ReaderPool(connect) as pool:
        with pytest.raises(NoCardError):
            pool.submit("empty", lambda card: card).result(10)
        with pytest.raises(ZeroDivisionError):
            pool.submit("a", lambda card: 1 // 0).result(10)
        assert pool.submit("a", lambda card: card).result(10) == "a"
