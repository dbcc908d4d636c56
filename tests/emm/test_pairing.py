"""The key of a pair, and control words sealed under it: against the second implementation, and what does not open."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emm.errors import AuthenticationError, BuildError
from emm.pairing import ReceiverIdentity, open_words, pair_key, seal_words
from emm.secret import Secret
from tests.support import emm_strategies as some
from tests.support import reference_formats as reference

RECEIVER = 0x01000000000001D8
TAGS = st.binary(min_size=16, max_size=16)
WORDS = st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=2)


@settings(max_examples=40)
@given(some.KEYS, TAGS, WORDS)
def test_sealed_words_are_those_of_the_second_implementation_and_open(
    key: Secret, tag: bytes, words: list[bytes]
) -> None:
    info = len(words) << 4
    answer = seal_words(key, info, tag, words)
    assert answer == reference.sealed_words(key, info, tag, words)
    assert open_words(key, answer, tag) == b"".join(words)


@settings(max_examples=30)
@given(some.KEYS, TAGS, WORDS, st.data())
def test_nothing_that_was_touched_opens(key: Secret, tag: bytes, words: list[bytes], data: st.DataObject) -> None:
    answer = seal_words(key, len(words) << 4, tag, words)
    spoilt = bytearray(answer)
    spoilt[data.draw(st.integers(0, len(answer) - 1))] ^= data.draw(st.integers(1, 255))
    other = bytes(byte ^ 1 for byte in tag)
    for taken, ecm_tag, under in ((bytes(spoilt), tag, key), (answer, other, key), (answer, tag, Secret(bytes(16)))):
        if (taken, ecm_tag, under) != (answer, tag, key):
            with pytest.raises(AuthenticationError):
                open_words(under, taken, ecm_tag)


@given(some.KEYS, TAGS, st.binary(max_size=40))
def test_any_answer_is_refused_by_who_has_no_key_to_it(key: Secret, tag: bytes, answer: bytes) -> None:
    with pytest.raises(AuthenticationError):
        open_words(key, answer, tag)


@given(some.SIV_KEYS, some.ADDRESSES)
def test_a_receiver_shares_another_key_with_each_card(secret: bytes, address: int) -> None:
    mine = ReceiverIdentity(RECEIVER, Secret(secret))
    assert mine.pair_key(address) == pair_key(Secret(secret), address)
    assert mine.pair_key(address) != mine.pair_key(address ^ 1)


def test_an_identity_is_checked_and_does_not_show_its_key() -> None:
    key = Secret(bytes(range(32)))
    assert key.hex() not in repr(ReceiverIdentity(RECEIVER, key))
    with pytest.raises(BuildError, match="check byte"):
        ReceiverIdentity(RECEIVER + 1, key)
    with pytest.raises(BuildError, match="32 bytes"):
        ReceiverIdentity(RECEIVER, Secret(bytes(16)))
