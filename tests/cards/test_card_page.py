"""docs/card.md says what the code does: status words, data objects, commands, answer to reset, transcript."""

import re

import pytest

from cards.application import DEFAULT_AID, Instruction
from cards.atr import build
from cards.data_objects import SPECIFICATION, DataObject
from tests.support import reference_formats as reference
from tests.support.card_page import PAGE, renewed, status_words
from tests.support.vectors import load_vectors

TEXT = PAGE.read_text(encoding="utf-8")


def test_status_words_and_transcript_are_those_of_the_code():
    assert renewed(TEXT) == TEXT, "run: python -m tests.support.card_page"


def test_every_status_word_of_the_rules_is_in_the_table():
    told = set(re.findall(r"`([0-9A-F]{4})`", TEXT.split("## Status words")[0])) - {"9000"}
    table = set(re.findall(r"^\| `([0-9A-F]{4})`", status_words(), re.MULTILINE))
    assert {word for word in told if word[0] in "69"} <= table
    assert table - told <= {"9000", "6A82"}


@pytest.mark.parametrize("which", DataObject)
def test_every_data_object_stands_in_the_page(which):
    assert f"| `{which:04X}` | {which.name} |" in TEXT


@pytest.mark.parametrize("instruction", Instruction)
def test_every_command_stands_in_the_page(instruction):
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| {instruction.name.replace('_', ' ')} |"))
    assert f" {instruction:02X}" in row


def test_the_answer_to_reset_and_the_specifications_version_are_the_codes():
    assert build(DEFAULT_AID).hex(" ").upper() in TEXT
    assert DEFAULT_AID.hex().upper() in TEXT
    assert f"version of this specification (1) = {SPECIFICATION}" in TEXT


def test_the_transcript_gives_the_control_words_of_the_vectors():
    vector = next(each for each in load_vectors("ecm.json")["ecms"] if each["name"] == "one-product")
    opened = TEXT.split("# PROCESS ECM one-product: opened")[1].split("# ")[0]
    assert opened.strip().endswith("< 20" + "".join(vector["control_words"]).upper() + "9000")


def test_the_transcript_gives_the_sealed_control_words_by_the_second_implementation():
    vector = next(each for each in load_vectors("ecm.json")["ecms"] if each["name"] == "one-product")
    answer = "".join(
        TEXT.split("# PROCESS ECM one-product: opened, and sealed")[1].split("< ")[1].split("```")[0].split()
    )
    pair = bytes.fromhex(load_vectors("keys.json")["pair_keys"][0]["key"])
    section, words = bytes.fromhex(vector["section"]), [bytes.fromhex(word) for word in vector["control_words"]]
    tag = section[-16 - 8 * len(words) : -8 * len(words)]
    assert answer == reference.sealed_words(pair, len(words) << 4, tag, words).hex().upper() + "9000"


def test_no_key_stands_in_the_transcript():
    transcript = TEXT.split("## Transcript")[1].lower()
    keys = load_vectors("keys.json")
    for each in [
        *keys["card_keys"],
        *keys["group_keys"],
        *keys["global_keys"],
        *keys["product_keys"],
        *keys["pair_keys"],
    ]:
        assert each["key"] not in transcript
