"""docs/card-vendor.md: a chip's whole life in APDUs, from the vendor's bench to its end, and a file of transport keys.

`python -m tests.support.vendor_transcript` prints both; a test compares them with the page.
"""

import json
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cards.apdu import CommandApdu, ResponseApdu
from cards.application import DEFAULT_AID
from cards.errors import CardsError
from cards.globalplatform.chip import Chip
from cards.globalplatform.commands import CardLifeCycle, select
from cards.globalplatform.data_groups import CardIdentity, PersonalData, ca_keys
from cards.globalplatform.dialogue import Dialogue, T, link, run
from cards.globalplatform.key_ring import DerivedKeyRing
from cards.globalplatform.personalisation import (
    ChannelTerms,
    PersonalisationOrder,
    initialise,
    lock_application,
    personalise,
    set_card_state,
)
from cards.globalplatform.scp03.keys import INITIAL_VERSION, StaticKeys
from cards.memory.contents import CardKeys
from cards.session import CardSession
from emm.keys import LocalMasterKey
from emm.plan import Right
from protocol import card_number
from tests.support.cards import ADDRESS, LADDER, NOW, ecm, emm
from tests.support.globalplatform import OWN, POLICY, TRANSPORT, Counter, TestRing, static_keys
from tests.support.stock import MASTER, TRANSPORT_KEY, serial, vendor_file

_WIDTH = 96
_SERIAL = serial(0)
_LINK = link(extended=False)
_NAMES = {
    0xA4: "SELECT",
    0xCA: "GET DATA",
    0xC0: "GET RESPONSE",
    0x50: "INITIALIZE UPDATE",
    0x82: "EXTERNAL AUTHENTICATE",
    0xD8: "PUT KEY",
    0xF2: "GET STATUS",
    0xF0: "SET STATUS",
    0xE6: "INSTALL",
    0xE2: "STORE DATA",
    0x30: "PROCESS EMM",
    0x32: "PROCESS ECM",
}


@dataclass
class Bench:
    """A chip, and the lines that are written of what it is told and what it answers."""

    chip: Chip
    lines: list[str] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        self.chip.reset()
        self.lines += [f"## {title}"]

    def transmit(self, command: bytes) -> bytes:
        answer = self.chip.process(command)
        self.lines.append(f"# {_NAMES[command[1]]}")
        for mark, apdu in ((">", command), ("<", answer)):
            self.lines += textwrap.wrap(apdu.hex(), _WIDTH, initial_indent=f"{mark} ", subsequent_indent="  ")
        return answer

    def exchange(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self.transmit(command.encode()))

    def run(self, dialogue: Dialogue[T]) -> T:
        return run(dialogue, self.exchange)


def _ring() -> DerivedKeyRing:
    return DerivedKeyRing(LocalMasterKey(MASTER), OWN, TestRing())


def transcript() -> str:
    """The whole life; `##` says who is at work, `#` which command follows, `>` to the card, `<` from it."""
    with tempfile.TemporaryDirectory() as folder:
        chip = Chip.create(Path(folder), _SERIAL, static_keys(INITIAL_VERSION, _SERIAL), POLICY)
        try:
            return "\n".join(_live(Bench(chip)))
        finally:
            chip.close()


def _live(bench: Bench) -> list[str]:
    terms = ChannelTerms(_ring(), Counter())
    bench.chapter("The vendor: transport keys in the place of the initial ones, OP_READY to INITIALIZED")
    bench.run(initialise(_LINK, terms, TRANSPORT))
    bench.chapter("The headend: its own keys, the identity, SECURED")
    data = PersonalData(
        CardIdentity(ADDRESS, "Telco of the tests", DEFAULT_AID), ca_keys(CardKeys.derive(LADDER, ADDRESS))
    )
    bench.run(personalise(_LINK, terms, PersonalisationOrder(TRANSPORT, OWN, data), lambda _: None))
    bench.chapter("A receiver: the application, an EMM with a right, an ECM that it opens")
    _watch(bench)
    bench.chapter("The headend: the application locked; a receiver does not find it")
    bench.run(lock_application(_LINK, terms, OWN, locked=True))
    _refused(lambda: bench.exchange(select(DEFAULT_AID)))
    bench.chapter("The headend: the application unlocked; the right is still there")
    bench.run(lock_application(_LINK, terms, OWN, locked=False))
    bench.chip.reset()
    CardSession(bench.transmit).process_ecm(ecm(1))
    bench.chapter("The headend: the card terminated, for good")
    bench.run(set_card_state(_LINK, terms, OWN, CardLifeCycle.TERMINATED))
    _refused(lambda: bench.exchange(select(DEFAULT_AID)))
    return bench.lines


def _watch(bench: Bench) -> None:
    session = CardSession(bench.transmit)
    for section in emm(Right(1, NOW - 100, None)):
        session.process_emm(section)
    session.process_ecm(ecm(1))


def _refused(ask: Callable[[], ResponseApdu]) -> None:
    try:
        assert ask().sw == 0x6A82
    except CardsError as error:
        raise AssertionError(error) from error


def keys_used() -> str:
    """Every key in the transcript, with check values."""
    keys = CardKeys.derive(LADDER, ADDRESS)
    rows = [f"master key {MASTER.hex()}", f"chip       {_SERIAL.hex().upper()}"]
    for version in (INITIAL_VERSION, TRANSPORT, OWN):
        rows += _set(_ring().static_keys(version, _SERIAL))
    rows.append(f"card       {card_number.spell(ADDRESS)}, address {ADDRESS}, key version 1")
    rows += [
        f"{name:<10} {bytes(key).hex()}"
        for name, key in (("card key", keys.card_key), ("group key", keys.group_key), ("global key", keys.global_key))
    ]
    return "\n".join(rows)


def _set(keys: StaticKeys) -> list[str]:
    return [
        f"{keys.version:02X} {name}     {key.reveal().hex()} KCV {key.check_value().hex().upper()}"
        for name, key in zip(("ENC", "MAC", "DEK"), keys.keys, strict=True)
    ]


def vendor_example() -> str:
    """A file of transport keys of the chip in the transcript, and the transport key to open it."""
    document = json.loads(vendor_file(1))
    return f"{json.dumps(document, indent=1)}"


def transport_key() -> str:
    return TRANSPORT_KEY.hex()


if __name__ == "__main__":
    print("\n\n".join((keys_used(), transport_key(), vendor_example(), transcript())))
