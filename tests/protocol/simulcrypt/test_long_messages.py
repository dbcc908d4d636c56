"""A splitter with a limit: longer messages show only their header, nothing of them is held, and the next is found."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.simulcrypt.frame import HEADER_SIZE, MESSAGE_MAX, MessageSplitter
from tests.support.simulcrypt_strategies import pieces

BODIES = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


def message(body: bytes) -> bytes:
    return b"\x03\x02\x01" + len(body).to_bytes(2, "big") + body


@given(BODIES, st.integers(HEADER_SIZE, 50), st.data())
def test_whole_or_only_the_header_by_length_alone(bodies: list[bytes], longest: int, data: st.DataObject) -> None:
    sent = [message(body) for body in bodies]
    splitter = MessageSplitter(longest)
    found: list[bytes] = []
    for piece in data.draw(pieces(b"".join(sent))):
        found += splitter.feed(piece)
        assert splitter.pending < longest
    assert found == [one if len(one) <= longest else one[:HEADER_SIZE] for one in sent]
    assert splitter.pending == 0


def test_the_longest_message_there_is_passes_without_a_limit() -> None:
    longest = message(bytes(0xFFFF))
    assert len(longest) == MESSAGE_MAX
    assert MessageSplitter().feed(longest + b"\x03") == [longest]
