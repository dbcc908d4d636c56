"""The journal: what was flushed is there after any crash, a half line is dropped, anything else strange is refused."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cad.errors import BatchFileError, JournalError
from cad.stock import batch_file
from cad.stock.journal import Head, Journal

HEAD = Head("karjaa", "box", 5, 9)
SERIAL = "CAFE0000000000000001"


def open_journal(path: Path) -> Journal:
    return Journal.open(path, lambda: "2027-01-15T08:00:00Z")


def written(path: Path) -> bytes:
    with open_journal(path) as journal:
        journal.begin(HEAD)
        journal.claimed(SERIAL, 5, "reader")
        journal.step(SERIAL, "keys-loaded")
        journal.finished(SERIAL, {"enc": "0A0B0C"})
        journal.recorded(SERIAL)
        journal.put_aside(SERIAL, "why")
    return path.read_bytes()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written(tmp_path / "j")
    with open_journal(tmp_path / "j") as journal:
        chip = journal.chips[SERIAL]
        assert (chip.address, chip.step, chip.finished, chip.recorded, chip.aside) == (
            5,
            "keys-loaded",
            True,
            True,
            "why",
        )
        assert journal.head == HEAD
        journal.taken_up(SERIAL)
        assert chip.aside is None
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_cut_anywhere_it_is_what_was_whole_before_and_goes_on(tmp_path: Path) -> None:
    content = written(tmp_path / "j")
    for size in range(len(content) + 1):
        (tmp_path / "j").write_bytes(content[:size])
        with open_journal(tmp_path / "j") as journal:
            whole = content[:size].count(b"\n")
            assert (journal.head is not None) == (whole > 0)
            assert (SERIAL in journal.chips) == (whole > 1)
            journal.begin(HEAD)
        with open_journal(tmp_path / "j") as journal:
            assert journal.head == HEAD


def test_only_one_program_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j"), pytest.raises(JournalError, match="is in use"):
        open_journal(tmp_path / "j")


def test_another_batch_is_told_apart(tmp_path: Path) -> None:
    written(tmp_path / "j")
    with open_journal(tmp_path / "j") as journal, pytest.raises(JournalError, match="belongs to batch box of karjaa"):
        journal.begin(Head("karjaa", "box-2", 5, 9))


def test_after_a_failed_flush_nothing_more_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with open_journal(tmp_path / "j") as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(JournalError, match="Input/output error"):
                journal.begin(HEAD)
        with pytest.raises(JournalError, match="failed before"):
            journal.begin(HEAD)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=200).map(lambda content: content + b"\n"))
def test_any_other_file_is_refused_and_not_touched(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "j"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="line 1 is not of a batch journal"):
        open_journal(path)
    assert path.read_bytes() == content


def test_a_batch_file_is_strict_and_names_everything_wrong(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text('batch = "box"\noperator = "karjaa"\ncount = 10\ntransport_keys = "d.keys"\n')
    order = batch_file.read(path)
    assert (order.issuer, order.first, order.own_version, order.mode) == ("karjaa", None, 0x31, "S16")
    assert order.transport_keys == tmp_path / "d.keys"
    path.write_text('batch = "../x"\noperator = "karjaa"\ncount = 0\nfirst = "100000000009"\nmode = "S4"\nkey = 1\n')
    with pytest.raises(BatchFileError) as wrong:
        batch_file.read(path)
    for name in ("batch", "count", "transport_keys", "first", "mode", "key"):
        assert f"{name}:" in str(wrong.value)
    path.write_bytes(b"")
    with pytest.raises(BatchFileError) as wrong:
        batch_file.read(path)
    assert str(wrong.value) == f"{path}: " + "; ".join(
        f"{name}: is missing" for name in ("batch", "operator", "count", "transport_keys")
    )
    for content, said in ((b"a = ", "not TOML"), (b"\xff", "not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(BatchFileError, match=said):
            batch_file.read(path)
    with pytest.raises(BatchFileError, match="cannot be read"):
        batch_file.read(tmp_path / "nothing")
