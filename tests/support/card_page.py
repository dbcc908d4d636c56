"""The parts of docs/card.md that come from the code: the table of status words, and the transcript.

`python -m tests.support.card_page` writes them into the page; a test compares.
"""

import re
from pathlib import Path

from cards.status_word import EXPLANATIONS
from tests.support.card_transcript import transcript

PAGE = Path(__file__).resolve().parents[2] / "docs" / "card.md"
_TABLE = re.compile(r"(?<=All others:\n\n)(?:\|.*\n)*")
_TRANSCRIPT = re.compile(r"(?<=against the software card\.\n\n).*\Z", re.DOTALL)


def status_words() -> str:
    """The table of all status words."""
    lines = ["| word | name | meaning | what to do |", "|---|---|---|---|"]
    for word in sorted(EXPLANATIONS):
        explanation = EXPLANATIONS[word]
        lines.append(f"| `{word:04X}` | {word.name} | {explanation.meaning} | {explanation.advice or '–'} |")
    return "\n".join(lines) + "\n"


def renewed(page: str) -> str:
    """The page with both parts as the code has them now."""
    page, tables = _TABLE.subn(lambda _: status_words(), page)
    page, transcripts = _TRANSCRIPT.subn(lambda _: transcript() + "\n", page)
    assert (tables, transcripts) == (1, 1), "the page has lost the places of its table or transcript"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
