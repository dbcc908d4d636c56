"""Coverage-guided fuzzing of card management: every parser, the card manager bare and in a channel, and a lying card.

Run: scripts/fuzz 60, or python tests/fuzz/fuzz_scp03.py tests/fuzz/corpus/scp03 -max_total_time=60
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

import atheris

with atheris.instrument_imports(include=["cards.globalplatform", "cards.apdu"]):
    from cards.apdu import CommandApdu, ResponseApdu
    from cards.application import DEFAULT_AID
    from cards.errors import CardsError
    from cards.globalplatform.card_manager import CardManager, ManagerPolicy
    from cards.globalplatform.card_state import CardState
    from cards.globalplatform.commands import decode_key_blocks, decode_key_information, decode_status
    from cards.globalplatform.data_groups import (
        CaKey,
        CardIdentity,
        KeyPurpose,
        PersonalData,
        decode_personal_data,
    )
    from cards.globalplatform.dialogue import link, run
    from cards.globalplatform.personalisation import ChannelTerms, PersonalisationOrder, open_channel, personalise
    from cards.globalplatform.scp03.host import CardOffer
    from cards.globalplatform.scp03.keys import AesKey, Mode, StaticKeys
    from cards.globalplatform.tlv import decode_groups, decode_tlvs

KEY = AesKey(bytes(range(16)))
KEYS = StaticKeys(0x30, KEY, KEY, KEY)
SERIAL = bytes(10)
DATA = PersonalData(
    CardIdentity(1, "fuzz", DEFAULT_AID), tuple(CaKey(purpose, 1, AesKey(bytes(32))) for purpose in KeyPurpose)
)
STOCK = CardState.stock(SERIAL, KEYS).encode()


class Ring:
    """Knows one key set."""

    def static_keys(self, version: int, diversification: bytes) -> StaticKeys:
        """The key set, whatever is asked for."""
        return KEYS


class Memory:
    """The memory of a stock chip."""

    def __init__(self) -> None:
        self.content = STOCK

    def read(self) -> bytes | None:
        """The content."""
        return self.content

    def write(self, content: bytes) -> None:
        """Replace the content."""
        self.content = content


def terms() -> ChannelTerms:
    """Channels in S16 at the highest level, with one challenge for all."""
    return ChannelTerms(Ring(), bytes, Mode.S16)


def manager() -> tuple[CardManager, Memory]:
    """A stock chip."""
    memory = Memory()
    return CardManager(memory, ManagerPolicy(DEFAULT_AID)), memory


def pieces(data: bytes) -> Iterator[bytes]:
    """Pieces of the input, each after a byte with its length."""
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


def parse(data: bytes) -> None:
    """As every structure: a value, or our own error."""
    parsers: tuple[Callable[[bytes], object], ...] = (
        decode_tlvs,
        decode_groups,
        decode_status,
        decode_key_information,
        lambda raw: decode_key_blocks(raw, KEY),
        lambda raw: decode_personal_data(raw, KEY.decrypt_cbc),
        lambda raw: CardOffer.decode(raw, Mode.S8),
        lambda raw: CardOffer.decode(raw, Mode.S16),
        CardState.decode,
    )
    for parser in parsers:
        with contextlib.suppress(CardsError):
            parser(data)


def command_bare(data: bytes) -> None:
    """As commands from somebody without keys: every one is answered, and the keys stay what they are."""
    card, memory = manager()
    for piece in pieces(data):
        with contextlib.suppress(CardsError):
            card.answer(CommandApdu.decode(piece))
    (held,) = CardState.decode(memory.content).key_sets
    assert held.keys == KEYS


def command_in_channel(data: bytes) -> None:
    """As commands of somebody with keys: every one is answered so that the host can read it."""
    card, memory = manager()
    secure = run(open_channel(link(extended=True), terms(), 0x30), card.answer)
    for piece in pieces(data):
        with contextlib.suppress(CardsError):
            command = CommandApdu.decode(piece)
            if (command.cla, command.ins) != (0x80, 0x50) and command.ins != 0x82:
                secure.channel.unwrap(card.answer(secure.channel.wrap(command)))
    assert CardState.decode(memory.content) == card.state


def lie(data: bytes) -> None:
    """As answers of a card that is not one: personalisation stops with our own error."""
    answers = pieces(data)

    def transmit(_: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(next(answers, b"\x6f\x00"))

    order = PersonalisationOrder(0x30, 0x31, DATA)
    with contextlib.suppress(CardsError):
        run(personalise(link(extended=False), terms(), order, lambda _: None), transmit)
        raise AssertionError("a card without keys was personalised")


READERS = (parse, command_bare, command_in_channel, lie)


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name that libFuzzer knows
    """The first byte chooses the reader."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Fuzz until told to stop."""
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
