"""A receiver's file: made for its owner alone, and refused when it is not so, or says something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from cards.errors import ReceiverFileError
from cards.receiver_file import read, write
from tests.support.cards import receiver

HOME = receiver(1)


def test_what_is_written_is_read_back_and_only_its_owner_may(tmp_path: Path) -> None:
    path = tmp_path / "receiver"
    write(path, HOME)
    assert read(path) == HOME
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ReceiverFileError, match="exists already"):
        write(path, HOME)
    path.chmod(0o640)
    with pytest.raises(ReceiverFileError, match="others may read"):
        read(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "cad receiver 2"},
        {"receiver": "01000000000001D9"},
        {"receiver": 1},
        {"pairing_key": "00" * 31},
        {"pairing_key": "zz" * 32},
        {"more": 1},
    ],
)
def test_what_is_no_receiver_file_is_refused_without_showing_the_key(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = tmp_path / "receiver"
    write(path, HOME)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ReceiverFileError, match="no receiver file") as caught:
        read(path)
    assert HOME.pairing_key.hex() not in str(caught.value)


def test_a_file_that_is_missing_or_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ReceiverFileError, match=r"cannot be read.*cad keys receiver"):
        read(tmp_path / "none")
    with pytest.raises(ReceiverFileError, match="cannot be written"):
        write(tmp_path / "no" / "such" / "place", HOME)
