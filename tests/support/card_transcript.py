"""The transcript of docs/card.md: the cards of the published vectors, and what they answer.

`python -m tests.support.card_transcript` prints it; a test compares it with the page.
"""

from collections.abc import Iterator
from typing import Any

from cards.application import DEFAULT_AID, CardApplication
from cards.atr import build
from cards.memory.contents import CardKeys, CardMemory
from emm.keys import KeyLadder, LocalMasterKey
from tests.support.cards import MemoryStorage
from tests.support.vectors import load_vectors

WIDTH = 48
Step = tuple[str, str]


def transcript() -> str:
    """All blocks as they stand in the page."""
    return "\n\n".join(
        f"```\n{block}\n```"
        for block in (_first_card(), _second_card(), _third_card(), _paired_card(), _household_card())
    )


def _first_card() -> str:
    emms = {each["name"]: each for each in load_vectors("emm.json")["unique"]}
    ecms = {each["name"]: each for each in load_vectors("ecm.json")["ecms"]}
    other = emms["three-parts"]["sections"][0]
    spoilt = emms["overlap"]["sections"][0][:-2] + "00"
    steps = [
        ("GET DATA before SELECT", "80CADF2000"),
        ("SELECT", f"00A40400{len(DEFAULT_AID):02X}{DEFAULT_AID.hex()}00"),
        ("GET DATA NUMBER: card 123456789015", "80CADF2000"),
        ("the same without Le, as a T=0 reader sends it", "80CADF20"),
        ("GET RESPONSE", "00C0000005"),
        ("INTERNAL AUTHENTICATE", f"0088000010{bytes(range(16)).hex()}00"),
        ("INTERNAL AUTHENTICATE, the challenge too short", "00880000080001020304050607"),
        ("GET DATA VERSIONS: none taken yet", "80CADF2100"),
        ("PROCESS ECM one-product: no EMM taken yet", _ecm(ecms["one-product"])),
        ("PROCESS EMM no-rights, revision 1", _emm(emms["no-rights"]["sections"][0])),
        ("PROCESS ECM one-product: no right", _ecm(ecms["one-product"])),
        ("PROCESS EMM suspended, revision 2", _emm(emms["suspended"]["sections"][0])),
        ("PROCESS ECM one-product: suspended", _ecm(ecms["one-product"])),
        ("PROCESS EMM one-product, revision 3", _emm(emms["one-product"]["sections"][0])),
        ("PROCESS ECM one-product: opened", _ecm(ecms["one-product"])),
        ("PROCESS ECM next-epoch: the right has ended", _ecm(ecms["next-epoch"])),
        ("PROCESS EMM one-product again", _emm(emms["one-product"]["sections"][0])),
        ("PROCESS EMM suspended again: older", _emm(emms["suspended"]["sections"][0])),
        ("PROCESS EMM of another card", _emm(other)),
        ("PROCESS EMM overlap, its last byte changed", _emm(spoilt)),
        ("GET DATA STATE", "80CADF2200"),
        ("GET DATA RIGHTS", "80CADF2300"),
        ("GET DATA TIME", "80CADF2400"),
        ("GET DATA VERSIONS", "80CADF2100"),
    ]
    return "\n".join(
        ["card 12345678901, key_version 1", *_hex("ATR ", build(DEFAULT_AID)), *_play(12345678901, 1, steps)]
    )


def _second_card() -> str:
    sections = {each["name"]: each for each in load_vectors("emm.json")["unique"]}["three-parts"]["sections"]
    steps = [
        ("SELECT, no answer wanted", f"00A4040C{len(DEFAULT_AID):02X}{DEFAULT_AID.hex()}"),
        ("PROCESS EMM three-parts, part 1 of 0..2", _emm(sections[1])),
        ("the same again", _emm(sections[1])),
        ("PROCESS EMM three-parts, part 0", _emm(sections[0])),
        ("GET DATA STATE: parts 0 and 1 of three held", "80CADF2200"),
        ("PROCESS EMM three-parts, part 2: taken", _emm(sections[2])),
        ("GET DATA STATE", "80CADF2200"),
        ("GET DATA RIGHTS: more than 256 bytes", "80CADF2300"),
        ("GET RESPONSE", "00C0000000"),
    ]
    return "\n".join(["card 99999999999, key_version 255", *_play(99999999999, 255, steps)])


def _third_card() -> str:
    notices = {each["name"]: each["sections"] for each in load_vectors("notices.json")["notices"]}
    message, forced = notices["to-one-card"][0], notices["to-ranges"]
    steps = [
        ("SELECT, no answer wanted", f"00A4040C{len(DEFAULT_AID):02X}{DEFAULT_AID.hex()}"),
        ("PROCESS EMM to-one-card: a message for the mailbox", _emm(message)),
        ("the same again", _emm(message)),
        ("PROCESS EMM to-ranges, part 0: shown when all parts are there", _emm(forced[0])),
        *((f"part {number}", _emm(part)) for number, part in enumerate(forced[1:], 1)),
        ("PROCESS EMM fingerprint", _emm(notices["fingerprint"][0])),
        ("GET DATA MAILBOX: three letters, two of them to be shown now", "80CADF2800"),
        ("GET MESSAGE 1, and mark it as read", "80340100040000000100"),
        ("GET MESSAGE 4294967295, and mark it as shown", "8034010004FFFFFFFF00"),
        ("GET DATA MAILBOX", "80CADF2800"),
        ("GET MESSAGE 4294967295: shown, and gone", "8034000004FFFFFFFF00"),
    ]
    return "\n".join(["card 12345678901, key_version 1", *_play(12345678901, 1, steps)])


def _paired_card() -> str:
    emms = {each["name"]: each for each in load_vectors("emm.json")["unique"]}
    ecms = {each["name"]: each for each in load_vectors("ecm.json")["ecms"]}
    steps = [
        ("SELECT, no answer wanted", f"00A4040C{len(DEFAULT_AID):02X}{DEFAULT_AID.hex()}"),
        ("GET DATA PAIRING: none", "80CADF2600"),
        ("PROCESS EMM paired, revision 5", _emm(emms["paired"]["sections"][0])),
        ("GET DATA PAIRING: receiver 0100 0000 0000 01D8", "80CADF2600"),
        ("PROCESS ECM one-product: opened, and sealed for the receiver", _ecm(ecms["one-product"])),
    ]
    return "\n".join(["card 12345678901, key_version 1", *_play(12345678901, 1, steps)])


def _household_card() -> str:
    emms = {each["name"]: each for each in load_vectors("emm.json")["unique"]}
    steps = [
        ("SELECT, no answer wanted", f"00A4040C{len(DEFAULT_AID):02X}{DEFAULT_AID.hex()}"),
        ("GET DATA ACCESS: no parental level, three tries, no reset yet", "80CADF2700"),
        ("VERIFY without data: the PIN was not given", "00200081"),
        ("VERIFY 0000", "002000810430303030"),
        ("CHANGE REFERENCE DATA 0000 to 4711", "00240081083030303034373131"),
        ("VERIFY 0000: wrong", "002000810430303030"),
        ("PROCESS EMM household, revision 6: parental level 12, PIN reset", _emm(emms["household"]["sections"][0])),
        ("GET DATA ACCESS", "80CADF2700"),
        ("VERIFY 4711: not any more", "002000810434373131"),
        ("VERIFY 0000", "002000810430303030"),
        ("VERIFY without data: the PIN was given", "00200081"),
        ("VERIFY, P1 FF: forget that", "0020FF81"),
    ]
    return "\n".join(["card 12345678901, key_version 1", *_play(12345678901, 1, steps)])


def _play(address: int, key_version: int, steps: list[Step]) -> Iterator[str]:
    ladder = KeyLadder(LocalMasterKey(bytes.fromhex(load_vectors("keys.json")["master_key"])))
    memory = CardMemory(address, CardKeys.derive(ladder, address, key_version))
    card = CardApplication(MemoryStorage(memory))
    for name, text in steps:
        command = bytes.fromhex(text)
        yield f"# {name}"
        yield from _hex("> ", command)
        yield from _hex("< ", card.process(command))


def _emm(section: str) -> str:
    raw = bytes.fromhex(section)
    return f"8030{raw[0]:02X}00{len(raw) - 1:02X}{raw[1:].hex()}"


def _ecm(vector: dict[str, Any]) -> str:
    raw = bytes.fromhex(vector["section"])
    return f"8032{raw[0]:02X}00{len(raw) - 1:02X}{raw[1:].hex()}00"


def _hex(sign: str, data: bytes) -> Iterator[str]:
    text = data.hex().upper()
    for start in range(0, len(text), 2 * WIDTH):
        yield (sign if not start else " " * len(sign)) + text[start : start + 2 * WIDTH]


if __name__ == "__main__":
    print(transcript())
