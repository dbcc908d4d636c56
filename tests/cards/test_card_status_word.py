"""The table of status words is whole, and every word has a meaning of its own."""

import pytest

from cards.status_word import EXPLANATIONS, StatusWord, explain, is_more_data, is_wrong_le


def test_every_status_word_is_explained_and_no_two_alike():
    assert set(EXPLANATIONS) == set(StatusWord)
    meanings = [explanation.meaning for explanation in EXPLANATIONS.values()]
    assert len(set(meanings)) == len(meanings)


def test_every_refusal_says_what_to_do():
    benign = {StatusWord.OK, StatusWord.PART_HELD, StatusWord.ALREADY_HELD, StatusWord.OLDER_VERSION}
    without_advice = {word for word, explanation in EXPLANATIONS.items() if not explanation.advice}
    assert without_advice == benign | {StatusWord.NOT_FOR_THIS_CARD, StatusWord.FOR_OTHERS}


@pytest.mark.parametrize("word", StatusWord)
def test_every_status_word_is_one_that_iso_7816_allows(word):
    # ISO/IEC 7816-4 clause 5.6: SW1 is 61..6F or 90..9F; 60 and 61xx/6Cxx have a meaning of the protocol.
    assert word >> 8 in (*range(0x62, 0x70), *range(0x90, 0xA0))
    assert not is_more_data(word)
    assert not is_wrong_le(word)


def test_a_word_of_another_card_gets_words_too():
    assert "does not use" in explain(0x1234).meaning
