"""kill -9 of a process that commits without pause: what it had been told is there, nothing is there twice (I1–I3)."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cad.ledger.errors import AuditBroken
from cad.ledger.look import reading
from cad.ledger.store import Store
from tests.support.ledgers import GRANTS, open_store, order, statuses, take

ROOT = Path(__file__).parents[3]
ROUNDS = 8


@pytest.mark.slow
def test_nothing_answered_is_lost_and_nothing_is_done_twice(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")  # on a real disk
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    revisions: dict[int, int] = {}
    first = 0
    for round_number in range(ROUNDS):
        told = run_and_kill(folder, first, chance.uniform(0.05, 0.6))
        store = open_store(folder, now=1_800_000_000.0 + round_number)
        try:
            assert store.warnings == []
            first = check_round(store, told, first, revisions)
        finally:
            store.close()
    assert first > ROUNDS, "the child got something done"


def run_and_kill(folder: Path, first: int, after_s: float) -> list[dict[str, int]]:
    """Let a child commit, kill it, and return what it said after each commit."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.support.commit_for_ever", str(folder), str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(after_s)
    child.kill()
    lines = child.stdout.read().splitlines()
    child.wait()
    child.stdout.close()
    told = []
    for line in lines:
        try:
            told.append(json.loads(line))
        except ValueError:
            break  # cut off by the kill
    return told


def check_round(store: Store, told: list[dict[str, int]], first: int, revisions: dict[int, int]) -> int:
    for one in told:
        repeat = take(store, order("karjaa", "card", "refresh", f"id-{one['number']}", card=one["card"]))
        assert statuses(repeat) == ["duplicate"], f"{one} was answered and is lost"
    for card in range(10):
        view = store.read(lambda held, at=card: reading.card_view(held, at, GRANTS, 0.0))
        assert view is not None
        said = [one["revision"] for one in told if one["card"] == card]
        assert view.revision >= max([*said, revisions.get(card, 0)]), "a version fell"
        assert len({change.revision for change in view.changes}) == len(view.changes)
        revisions[card] = view.revision
    count = store.read(lambda held: held.exec_driver_sql("SELECT count(*), count(DISTINCT id) FROM commands").one())
    assert count[0] == count[1]
    changed = store.read(
        lambda held: held.exec_driver_sql("SELECT count(*) FROM changes WHERE command_id LIKE 'id-%'").scalar()
    )
    stored = store.read(
        lambda held: held.exec_driver_sql("SELECT count(*) FROM commands WHERE id LIKE 'id-%'").scalar()
    )
    assert changed == stored, "each command changed its card exactly once"
    verify(store)
    return max([first, *(one["number"] + 1 for one in told)]) + 1000


def verify(store: Store) -> None:
    check = store.begin_check(None)
    while rows := store.read(lambda held: reading.audit_rows(held, check.head.seq, 5000)):
        check.take(rows)
    try:
        assert check.finish() == store.head
    except AuditBroken as broken:
        raise AssertionError("a crash must not look like tampering") from broken
