"""X1: docs/emm.md and docs/ecm.md say what the code does: every published vector stands in them, every number."""

import re
from pathlib import Path

import pytest

from emm import calendar, ecm, keys, message, payload, plan
from emm.calendar import Calendar
from emm.notices import content
from tests.support.vector_text import ecm_text, emm_text, keys_text, notices_text
from tests.support.vectors import load_vectors

DOCS = Path(__file__).resolve().parents[2] / "docs"
EMM = (DOCS / "emm.md").read_text(encoding="utf-8")
NOTICES = (DOCS / "notices.md").read_text(encoding="utf-8")
ECM = (DOCS / "ecm.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```([^\n]*)\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
HEX = re.compile(r"^(?:[0-9a-f]{2} )*[0-9a-f]{2}(?=\s{2}|$)", re.MULTILINE)


def fenced(text: str, name: str) -> dict[str, str]:
    """The fenced blocks whose first line begins with a name: the rest of that line, and the body."""
    return {info.removeprefix(name).strip(): body for info, body in FENCED.findall(text) if info.startswith(name)}


def plain(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def test_the_vectors_in_the_docs_are_those_of_the_files() -> None:
    expected = keys_text(load_vectors("keys.json")) + emm_text(load_vectors("emm.json"))
    assert [body for info, body in FENCED.findall(EMM) if not info] == expected
    assert [body for info, body in FENCED.findall(NOTICES)] == notices_text(load_vectors("notices.json"))
    assert [body for info, body in FENCED.findall(ECM) if not info] == ecm_text(load_vectors("ecm.json"))


def test_the_emm_explained_byte_by_byte_is_the_vector() -> None:
    vector = next(each for each in load_vectors("emm.json")["unique"] if each["name"] == "one-product")
    found = {name: "".join(HEX.findall(body)).replace(" ", "") for name, body in fenced(EMM, "annotated").items()}
    assert found == {"one-product": vector["sections"][0], "one-product payload": vector["payloads"][0]}


@pytest.mark.parametrize(
    "words",
    [
        f"`{keys.CARD_KEY_LABEL.decode()}` | address (5) ‖ key_version (1) | 32 |",
        f"`{keys.GROUP_KEY_LABEL.decode()}` | group (4) ‖ key_version (1) | 32 |",
        f"`{keys.GLOBAL_KEY_LABEL.decode()}` | key_version (1) | 32 |",
        f"`{keys.PRODUCT_KEY_LABEL.decode()}` | product_id (2) ‖ epoch (2) | 16 |",
        f"`{keys.AUDIT_KEY_LABEL.decode()}` | – | 32 |",
        f"`period_days` | {Calendar().period_days} |",
        f"`epoch_periods` | {Calendar().epoch_periods} |",
        f"`overlap_periods` | {Calendar().overlap_periods} |",
        f"A card may hold {plan.WINDOWS_MAX} windows",
        f"at most {message.SECTION_MAX} bytes",
        f"0..{message.ADDRESS_MAX:,}",
        f"format | {message.FORMAT}.",
        f"from 0x{payload.IGNORABLE_TAGS:02X} on is skipped",
        f"Block 0x{payload.RIGHTS_TAG:02X}, RIGHTS",
        *(f"| 0x{kind:02X} | {kind.name.lower()} |" for kind in message.EmmKind),
        *(f"{state.value} {state.name.lower()}" for state in payload.CardState),
    ],
)
def test_emm_md_has_the_numbers_of_the_code(words: str) -> None:
    assert words in plain(EMM)


@pytest.mark.parametrize(
    "words",
    [
        f"`{keys.ECM_KEY_LABEL.decode()}`",
        f"in 256 bytes | up to {ecm.products_max(2, 8)} | up to {ecm.products_max(2, 16)} |",
        f"| {ecm.ecm_size(0, 2, 8)} + {ecm.WRAPPED_SIZE}*n* | {ecm.ecm_size(0, 2, 16)} + {ecm.WRAPPED_SIZE}*n* |",
        f"(183 bytes) | up to {(183 - ecm.ecm_size(0, 2, 8)) // 18} | up to {(183 - ecm.ecm_size(0, 2, 16)) // 18} |",
        *(f"0x{parity:02X}: " for parity in ecm.Parity),
    ],
)
def test_ecm_md_has_the_numbers_of_the_code(words: str) -> None:
    assert words in plain(ECM)


@pytest.mark.parametrize(
    "words",
    [
        f"format | {message.NOTICE_FORMAT}.",
        f"0x{content.RANGES_TAG:02X} | RANGES | 1..{content.RANGES_MAX} times",
        f"0x{content.MEMBERS_TAG:02X} | MEMBERS | {content.MEMBERS_SIZE} bytes",
        f"0x{content.CONTENT_TAG:02X} | CONTENT |",
        f"at most {content.CONTENT_MAX:,} bytes",
        f"1..{content.LANGUAGE_MAX} bytes",
        *(f"{place.value} {place.name.lower().replace('_', ' ')}" for place in content.Position if place),
    ],
)
def test_notices_md_has_the_numbers_of_the_code(words: str) -> None:
    assert words in plain(NOTICES)


def test_the_start_of_a_window_sent_ahead_is_the_documented_day() -> None:
    assert Calendar().lead_s == calendar.DAY_S
    assert "windows that start a day or more after it ends" in plain(EMM)


def test_decision_records_named_in_the_docs_exist() -> None:
    for text in (EMM, ECM, NOTICES):
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text):
            if target not in ("card.md", "transport-stream.md"):
                assert (DOCS / target.partition("#")[0]).exists(), target
