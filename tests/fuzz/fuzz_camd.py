"""Coverage-guided fuzzing of what a monitoring receiver may say to `cad monitor-camd` (CS378X).

Run: PYTHONPATH=. python tests/fuzz/fuzz_camd.py tests/fuzz/corpus/camd -max_total_time=60
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import atheris
import structlog

with atheris.instrument_imports(include=["protocol.cs378x", "cad.monitor_camd"]):
    from cad.monitor_camd import Bridge, MonitoredCard
    from cards.application import DEFAULT_AID, CardApplication
    from protocol.cs378x import CamdCodec, CamdMessage, Command
    from protocol.errors import DecodeError
from tests.support.cards import blank_card

USER, PASSWORD = "monitor", "a password of the tests"
CA = 0x4ADE


class Reader:
    """A card that is always there."""

    def __init__(self) -> None:
        self._card: CardApplication = blank_card()

    def transmit(self, command: bytes) -> bytes:
        return self._card.process(command)


@contextmanager
def connect() -> Iterator[Reader]:
    yield Reader()


def enciphered(clear: bytes) -> bytes:
    """The bytes as one who knows user and password would send them."""
    token = CamdCodec(USER, PASSWORD).encode(CamdMessage(0, 0, 0, 0))[:4]
    cipher = CamdCodec(USER, PASSWORD)._cipher.encryptor()
    return token + cipher.update(clear.ljust(-(-len(clear) // 16) * 16, b"\xff"))


def serve(stream: bytes, step: int) -> list[CamdMessage]:
    """Take a stream of bytes in steps, with a fresh card; the answers."""
    bridge = Bridge(MonitoredCard(connect, DEFAULT_AID), CA)
    codec = CamdCodec(USER, PASSWORD)
    answers: list[CamdMessage] = []
    for at in range(0, len(stream), step):
        try:
            heard = codec.feed(stream[at : at + step])
        except DecodeError:
            return answers
        assert codec.pending <= 300
        answers += [answer for one in heard if (answer := bridge.take(one)) is not None]
    return answers


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """The bytes as they are, and as a message by one who knows the password, whole and in pieces."""
    serve(data, 4096)
    whole = serve(enciphered(data), 4096)
    assert serve(enciphered(data), 7) == whole
    for answer in whole:
        assert answer.command in (Command.NOT_FOUND, Command.KEEP_ALIVE, Command.CONTROL_WORDS)
        assert CamdCodec(USER, PASSWORD).feed(CamdCodec(USER, PASSWORD).encode(answer)) == [answer]


if __name__ == "__main__":
    # What is logged would only slow it down.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
