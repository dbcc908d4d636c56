"""Answers to reset: ours, and those of others, judged by published ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cards import atr
from cards.application import DEFAULT_AID
from cards.errors import AtrError

# JCOP 4.1, a MIFARE card, a YubiKey and a German identity card, as the list of pcsc-tools has them.
PUBLISHED = [
    ("3BF81300008131FE454A434F5076323431B7", (1,), b"JCOPv241"),
    ("3B80800101", (0, 1), b""),
    ("3BFD1300008131FE158073C021C057597562694B657940", (1,), bytes.fromhex("8073C021C057597562694B6579")),
    ("3B9F95801FC78031E073FE211B63E208A8830F900089", (0,), bytes.fromhex("8031E073FE211B63E208A8830F9000")),
]


@pytest.mark.parametrize(("raw", "protocols", "historical"), PUBLISHED)
def test_published_answers_to_reset_are_read(raw, protocols, historical):
    found = atr.parse(bytes.fromhex(raw))
    assert found.protocols == protocols
    assert found.historical == historical


def test_ours_is_valid_speaks_t1_alone_and_names_the_application():
    ours = atr.parse(atr.build(DEFAULT_AID))
    assert ours.protocols == (1,)
    assert ours.application == DEFAULT_AID
    assert len(ours.historical) <= 15


@given(st.binary(min_size=5, max_size=16))
def test_every_application_gets_a_valid_answer_that_names_it_where_there_is_room(aid):
    built = atr.build(aid)
    assert atr.parse(built).application == (aid if len(aid) <= 9 else None)
    assert atr.names_application(built, aid) == (len(aid) <= 9)
    assert not atr.names_application(built, aid + b"x")


@pytest.mark.parametrize("aid", [b"", b"four", bytes(17)])
def test_an_identifier_of_a_wrong_length_is_refused(aid):
    with pytest.raises(AtrError, match="5 to 16"):
        atr.build(aid)


@given(st.binary(max_size=40) | st.binary(max_size=38).map(lambda tail: b"\x3b" + tail))
def test_any_bytes_are_an_answer_or_an_atr_error(raw):
    try:
        found = atr.parse(raw)
    except AtrError:
        assert not atr.names_application(raw, DEFAULT_AID)
        return
    assert found.raw == raw
    assert len(found.historical) == raw[1] & 15


@given(st.data())
def test_a_flipped_bit_is_noticed(data):
    raw = bytearray(atr.build(DEFAULT_AID))
    bit = data.draw(st.integers(8, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AtrError):
        atr.parse(bytes(raw))
