"""A snapshot on disk: order, digests against an independent reckoning, pages, differences."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.resync.answers import compared, pages, taken_message
from cad.resync.spool import Spool, SpoolError
from cad.resync.taking import Taken
from protocol.portal.commands import snapshot
from protocol.portal.commands.snapshot import (
    SnapshotCompare,
    SnapshotDifferences,
    SnapshotPage,
    SnapshotRead,
    SnapshotTaken,
)

KINDS = frozenset(snapshot.MODELS)


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"item": "subscription", "subscription": name, "offer": "sport", **fields}


def lines(*items: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(snapshot.key(one["item"], snapshot.name_of(one)), snapshot.line(one)) for one in items]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    one = Spool(tmp_path / "spool")
    yield one
    one.remove()
    assert list(tmp_path.iterdir()) == []


def taken(spool: Spool) -> Taken:
    return Taken(spool, spool.finish(), 100, 90, KINDS)


def test_the_newest_of_an_item_counts_and_none_takes_it_away(spool: Spool) -> None:
    spool.add(lines(item("a", rev=1), item("b", rev=1), item("c", rev=1)))
    spool.add(lines(item("b", rev=2)))
    spool.add([(snapshot.key("subscription", "c"), None)])
    found = taken(spool)
    there = [json.loads(line) for _, line in spool.lines("", None, 10)]
    assert {one["subscription"]: one["rev"] for one in there} == {"a": 1, "b": 2}
    assert found.digests.items == {"card": 0, "offer": 0, "subscription": 2}


@pytest.mark.slow
@given(st.sets(st.from_regex(r"[!-~]{1,10}", fullmatch=True), max_size=30))
@settings(max_examples=25, deadline=None)
def test_digests_are_what_anybody_would_reckon(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "one")
    spool.add(lines(*(item(name) for name in names)))
    message = SnapshotTaken.model_validate_json(taken_message("c", taken(spool)))
    spool.remove()
    buckets: dict[str, list[tuple[bytes, bytes]]] = {}
    for name in names:
        what = b"subscription/" + name.encode()
        line = f'{{"item":"subscription","offer":"sport","subscription":{json.dumps(name)}}}\n'.encode()
        buckets.setdefault(hashlib.sha256(what).hexdigest()[:2], []).append((what, line))
    hashes = {name: hashlib.sha256(b"".join(line for _, line in sorted(all_of))) for name, all_of in buckets.items()}
    assert message.buckets == {name: made.hexdigest() for name, made in hashes.items()}
    whole = b"".join(name.encode() + b" " + hashes[name].hexdigest().encode() + b"\n" for name in sorted(hashes))
    assert message.digest == hashlib.sha256(whole).hexdigest()


def test_pages_are_bounded_in_bytes_and_lead_through_everything_once(spool: Spool) -> None:
    spool.add(lines(*(item(f"s-{number}", note="x" * 300) for number in range(400))))
    spool.finish()
    seen, after, number = [], "", 0
    while True:
        number += 1
        made, resume_after = pages(SnapshotRead(id="r", snapshot="s", pages=50), spool, number, after)
        assert len(made) < 60_000
        page = json.loads(made)
        assert page["last"] == (resume_after is None)
        seen += [one["subscription"] for one in page["items"]]
        if resume_after is None:
            break
        after = resume_after
    assert number > 1
    assert sorted(seen) == sorted(f"s-{number}" for number in range(400))


def test_a_page_is_what_its_model_says_and_an_empty_one_too(spool: Spool) -> None:
    spool.add(lines(item("a")))
    spool.finish()
    made, _ = pages(SnapshotRead(id="r", snapshot="s"), spool, 1, "")
    assert len(SnapshotPage.model_validate_json(made).items) == 1
    made, resume_after = pages(SnapshotRead(id="r", snapshot="s", after="zz"), spool, 1, "zz")
    assert (SnapshotPage.model_validate_json(made).items, resume_after) == ((), None)


def compare(spool: Spool, *items: dict[str, Any], **given: Any) -> SnapshotDifferences:
    body = {"id": "c", "snapshot": "s", "items": list(items), **given}
    command = SnapshotCompare.model_validate_json(json.dumps(body))
    return SnapshotDifferences.model_validate_json(compared(command, Taken(spool, None, 0, 0, KINDS)))  # type: ignore[arg-type]


def test_what_differs_and_nothing_else(spool: Spool) -> None:
    spool.add(lines(item("same", rev=1), item("only-here"), item("other", rev=1, card="000000000075")))
    spool.finish()
    theirs = item("other", rev=2, card="0000 0000 0075")
    found = compare(spool, item("same"), theirs, item("only-there"))
    assert found.missing_here == (snapshot.key("subscription", "only-there"),)
    assert [snapshot.name_of(snapshot.spell(one)) for one in found.missing_there] == ["only-here"]
    (different,) = found.different
    assert (different.item, different.name) == ("subscription", "other")
    assert [(one.field, one.here, one.there) for one in different.fields] == [("rev", 1, 2)]
    assert found.resume_after is None


def test_only_keys_within_the_range_are_compared(spool: Spool) -> None:
    names = sorted((f"s-{number}" for number in range(20)), key=lambda name: snapshot.key("subscription", name))
    spool.add(lines(*(item(name) for name in names)))
    spool.finish()
    keys = [snapshot.key("subscription", name) for name in names]
    found = compare(spool, item(names[6]), item("nobody"), after=keys[4], upto=keys[7])
    assert [snapshot.name_of(snapshot.spell(one)) for one in found.missing_there] == [names[5], names[7]]
    assert set(found.missing_here) <= {snapshot.key("subscription", "nobody")}


@pytest.mark.slow
def test_many_differences_come_in_parts_that_a_broker_takes(spool: Spool) -> None:
    spool.add(lines(*(item(f"s-{number}") for number in range(3000))))
    spool.finish()
    seen: set[str] = set()
    after: str | None = ""
    parts = 0
    while after is not None:
        found = compare(spool, after=after)
        assert len(found.model_dump_json()) < 60_000
        seen |= {snapshot.name_of(snapshot.spell(one)) for one in found.missing_there}
        after = found.resume_after
        parts += 1
    assert parts > 2
    assert len(seen) == 3000


def test_a_spool_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="look at its disk"):
        Spool(tmp_path / "missing" / "spool")
