"""Spacings of addresses: equal to a model written without arrays, and a million of them within a small memory."""

import tracemalloc
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.probe import addresses
from cad.probe.addresses import AddressBook
from emm.message import EmmKind

hearings = st.lists(
    st.tuples(
        st.sampled_from(EmmKind),
        st.sampled_from([0, 1, 2, 255, 256, 99_999_999_999]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
        st.floats(0, 2000),
    ),
    max_size=60,
)


@pytest.mark.slow
@given(hearings, st.integers(1, 20))
@settings(max_examples=120, deadline=None)
def test_the_arrays_say_what_a_plain_model_says(
    heard: list[tuple[EmmKind, int, int, int, int, float]], batch: int
) -> None:
    book = AddressBook()
    times: dict[tuple[EmmKind, int, int], list[float]] = defaultdict(list)
    last_parts: dict[tuple[EmmKind, int], int] = {}
    versions: dict[tuple[EmmKind, int, int], int] = {}
    now, fallen = 0.0, 0
    for number, (kind, address, part, more, version, pause) in enumerate(heard):
        address = address if kind is EmmKind.UNIQUE else address & 0xFFFF_FFFF if kind is EmmKind.GROUP else 0
        now += 0.001 + pause
        last_part = min(part + more, 2)
        book.hear(kind, address, part, last_part, version, now)
        if number % batch == 0:
            book.settle()
        times[kind, address, part].append(now)
        last_parts[kind, address] = last_part
        fallen += version < versions.get((kind, address, part), 0)
        versions[kind, address, part] = version
    assert book.settle() is None
    assert book.fallen == fallen
    for kind in EmmKind:
        found = book.spacing(kind, now)
        owners = [owner for owner in last_parts if owner[0] is kind]
        whole: dict[int, float] = {}
        longest, cycles, means = [0.0], [], []
        for owner in owners:
            parts = [times.get((*owner, part), []) for part in range(last_parts[owner] + 1)]
            if all(parts):
                whole[owner[1]] = min(part[-1] for part in parts)
            for part in parts:
                gaps = np.diff(part).tolist()
                if gaps:
                    longest.append(max(gaps))
                    cycles.append(gaps[-1])
                    means.append(sum(gaps) / len(gaps))
        assert found.addresses == len(owners)
        assert found.sections == sum(len(each) for key, each in times.items() if key[0] is kind)
        assert found.heard_30_min == sum(at >= now - 1800 for at in whole.values())
        assert found.heard_60_min == sum(at >= now - 3600 for at in whole.values())
        if means:
            assert found.mean_spacing_s == pytest.approx(np.mean(means), rel=1e-5)
            assert found.median_spacing_s == pytest.approx(np.median(means), rel=1e-5)
            assert found.cycle_s == pytest.approx(max(cycles), rel=1e-5)
            assert found.max_spacing_s == pytest.approx(max(longest), rel=1e-5)
        else:
            assert (found.mean_spacing_s, found.cycle_s, found.max_spacing_s) == (None, None, None)
        if owners and len(whole) == len(owners):
            assert found.silent_longest_s == pytest.approx(now - min(whole.values()))
        if kind is EmmKind.UNIQUE:
            asked = np.array(sorted({0, 1, 7, 255, 99_999_999_999}), np.uint64)
            assert book.heard_since(asked, now - 1800).tolist() == [
                whole.get(address, -np.inf) >= now - 1800 for address in asked.tolist()
            ]


def test_a_card_whose_emm_has_become_shorter_is_whole_without_the_old_part() -> None:
    book = AddressBook()
    book.hear(EmmKind.UNIQUE, 5, 0, 1, 1, 0.0)
    book.hear(EmmKind.UNIQUE, 5, 1, 1, 1, 0.1)
    book.hear(EmmKind.UNIQUE, 5, 0, 0, 2, 4000.0)
    found = book.spacing(EmmKind.UNIQUE, 4001.0)
    assert (found.addresses, found.heard_30_min, found.heard_60_min) == (1, 1, 1)


def test_a_card_that_lacks_a_part_has_not_heard_its_emm() -> None:
    book = AddressBook()
    for number in range(10):
        book.hear(EmmKind.UNIQUE, 5, 0, 1, 1, number * 10.0)
    found = book.spacing(EmmKind.UNIQUE, 100.0)
    assert (found.addresses, found.heard_60_min, found.silent_longest_s) == (1, 0, None)
    assert found.silent_longest_address == 5


def test_cards_that_are_no_longer_spoken_to_are_forgotten() -> None:
    book = AddressBook()
    for address in range(100):
        book.hear(EmmKind.UNIQUE, address, 0, 0, 1, float(address))
    book.forget(50.0)
    assert book.spacing(EmmKind.UNIQUE, 100.0).addresses == 50
    assert book.forgotten == 50
    book.forget(50.0)
    assert book.forgotten == 50


def test_what_does_not_fit_is_counted_and_nothing_else_suffers() -> None:
    book = AddressBook(capacity=10)
    for turn in range(3):
        for address in range(25):
            book.hear(EmmKind.UNIQUE, address, 0, 0, 1, turn * 100.0 + address)
        book.settle()
    found = book.spacing(EmmKind.UNIQUE, 300.0)
    assert (found.addresses, found.cycle_s) == (10, 100.0)
    assert book.not_kept == 45


@pytest.mark.slow
def test_a_million_cards_in_a_small_memory() -> None:
    cards = 1_000_000
    tracemalloc.start()
    try:
        book = AddressBook()
        # In vectors, as one batch of many: the way of a section is measured by others.
        for first in range(0, cards, 100_000):
            book._batch_keys.extend([address * 7919 << 4 for address in range(first, first + 100_000)])
            book._batch_times.extend([first / 1000.0] * 100_000)
            book._batch_parts.extend(bytes(100_000))
            book._batch_versions.extend([1] * 100_000)
            book.settle()
        found = book.spacing(EmmKind.UNIQUE, 1000.0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.addresses == cards
    assert kept < 60 * 2**20
    assert peak < 250 * 2**20
    assert cards <= addresses.CAPACITY
