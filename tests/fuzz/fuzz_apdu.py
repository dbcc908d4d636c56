"""Coverage-guided fuzzing of the card (commands, sealed content, state file) and of the host that reads its answers.

Run: PYTHONPATH=. python tests/fuzz/fuzz_apdu.py tests/fuzz/corpus/apdu -max_total_time=60
"""

import contextlib
import sys
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["cards", "emm"]):
    from cards.apdu import CommandApdu
    from cards.application import DEFAULT_AID, CardApplication
    from cards.atr import parse
    from cards.errors import ApduError, AtrError, CardsError, StateFileError
    from cards.memory.contents import CardKeys, CardMemory
    from cards.memory.state_file import decode, encode
    from cards.session import CardSession
    from cards.status_word import StatusWord, is_pin_wrong
    from emm.keys import KeyLadder, LocalMasterKey
    from emm.message import FORMATS, EmmHeader, EmmKind, Version, build_head

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

ADDRESS = 12_345_678_901
KEYS = CardKeys.derive(KeyLadder(LocalMasterKey(bytes(range(32)))), ADDRESS)
SELECT = bytes((0x00, 0xA4, 0x04, 0x0C, len(DEFAULT_AID))) + DEFAULT_AID
WORDS = frozenset(StatusWord)


class Memory:
    """A store that keeps nothing behind the card's back: what is stored must survive the state file."""

    def __init__(self) -> None:
        self.memory = CardMemory(ADDRESS, KEYS)

    def load(self) -> CardMemory:
        """What was stored last."""
        return self.memory

    def store(self, memory: CardMemory) -> None:
        """Store, by way of the state file's bytes."""
        self.memory = decode(encode(memory))
        assert self.memory == memory


def pieces(data: bytes) -> Iterator[bytes]:
    """The parts of an input: each a length (1 byte) and so many bytes."""
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


def check(answer: bytes) -> None:
    """A response is at least a status word, and one of the table."""
    word = int.from_bytes(answer[-2:], "big")
    assert word in WORDS or word >> 8 == 0x61 or is_pin_wrong(word), f"{word:04X}"
    assert len(answer) == 2 or word == StatusWord.OK or word >> 8 == 0x61


def speak(card: CardApplication, commands: Iterator[bytes]) -> None:
    """The input as commands; the codec gives back the bytes it read."""
    for command in commands:
        check(card.process(command))
        with contextlib.suppress(ApduError):
            assert CommandApdu.decode(command).encode() == command


def say(card: CardApplication, payloads: Iterator[bytes]) -> None:
    """The input as what a headend seals: two bytes of header, then the payload."""
    for part in payloads:
        if len(part) < 4:
            continue
        kind = tuple(EmmKind)[part[0] % 3]
        address = {EmmKind.UNIQUE: ADDRESS, EmmKind.GROUP: ADDRESS >> 8, EmmKind.GLOBAL: 0}[kind]
        last_part = part[0] >> 6
        numbers = (Version(0, part[1]), (part[0] >> 4 & 3) % (last_part + 1), last_part)
        header = EmmHeader(kind, address, 1, *numbers, format=FORMATS[part[0] >> 2 & 1])
        payload = part[2:225]
        head = build_head(header, len(payload))
        section = head + AESSIV(KEYS.key(kind)).encrypt(payload, [head])
        answer = card.process(bytes((0x80, 0x30, kind, 0, len(section) - 1)) + section[1:])
        check(answer)
        assert answer != int(StatusWord.NOT_AUTHENTIC).to_bytes(2, "big")
    session = CardSession(card.process)
    session.read_info()
    for letter in session.mailbox():
        session.letter(letter.number, mark=True)


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """The first byte chooses what the others are."""
    mode, rest = data[:1], data[1:]
    card = CardApplication(Memory())
    card.process(SELECT)
    if mode == b"c":
        speak(card, pieces(rest))
    elif mode == b"s":
        say(card, pieces(rest))
    elif mode == b"f":
        with contextlib.suppress(StateFileError):
            assert decode(encode(decode(rest))) == decode(rest)
    elif mode == b"h":
        answers = pieces(rest)
        with contextlib.suppress(CardsError):
            session = CardSession(lambda _: next(answers, b""))
            session.read_info()
            session.mailbox()
            session.letter(1)
    elif mode == b"r":
        with contextlib.suppress(AtrError):
            assert parse(rest).raw == rest


if __name__ == "__main__":
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
