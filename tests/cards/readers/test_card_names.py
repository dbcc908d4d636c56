"""Cards of other systems are named after their answer to reset, by a list in the form of pcsc-tools."""

from pathlib import Path

import pytest

from cards.readers.names import card_names

LIST = """#
# a comment
3B .. 11 22
\tFits all that end so
\thttp://one.example

3B 02 11 22
\tThe exact one

3F [0,1]2 33
\tOne with a class

3B (((
\tNot a pattern
3B 0[
\tNeither

3B*
\tToo free a pattern
"""


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Path, ...]:
    (tmp_path / "list").write_text(LIST)
    return tmp_path / "absent", tmp_path / "list"


@pytest.mark.parametrize(
    ("atr", "names"),
    [
        ("3B021122", ("The exact one", "Fits all that end so", "http://one.example")),
        ("3B091122", ("Fits all that end so", "http://one.example")),
        ("3F0233", ("One with a class",)),
        ("3F2233", ()),
        ("3B02112233", ()),
        ("", ()),
    ],
)
def test_names_are_the_exact_ones_first(lists, atr, names) -> None:
    assert card_names(bytes.fromhex(atr), lists) == names


def test_without_a_list_a_card_has_no_name(tmp_path: Path) -> None:
    assert card_names(b"\x3b\x00", (tmp_path / "absent",)) == ()


@pytest.mark.integration
def test_the_list_of_pcsc_tools_is_understood() -> None:
    names = card_names(bytes.fromhex("3B6400FF806202A2"))
    assert any("VISA" in name for name in names), names
