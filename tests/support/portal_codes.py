"""`python -m tests.support.portal_codes`: write the table of codes into docs/portal.md."""

from pathlib import Path

from protocol.portal.codes import MEANINGS

PAGE = Path(__file__).parents[2] / "docs" / "portal.md"
BEGIN = "<!-- codes: written by `python -m tests.support.portal_codes` -->\n"
END = "<!-- /codes -->\n"


def table() -> str:
    """The table as it should stand."""
    rows = [
        f"| `{code}` | {'yes' if meaning.retryable else ''} | {meaning.text} |\n" for code, meaning in MEANINGS.items()
    ]
    return "| code | retryable | |\n|---|---|---|\n" + "".join(rows)


def written() -> str:
    """The table as it stands."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.partition(END)[2])
