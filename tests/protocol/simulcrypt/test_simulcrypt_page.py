"""docs/simulcrypt.md says what the tables say."""

from tests.support.simulcrypt_page import PAGE, PARTS, generated


def test_the_page_is_what_the_tables_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated(page) == page, "run: python -m tests.support.simulcrypt_page"


def test_the_page_has_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [part for part in PARTS if f"<!-- generated: {part} -->" not in page] == []
