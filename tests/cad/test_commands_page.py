"""Every command is in the docs, as it is."""

from pathlib import Path

from tests.support.commands_page import page


def test_the_page_is_up_to_date() -> None:
    assert Path("docs/commands.md").read_text() == page(), "run scripts/commands-doc"
