"""A chip's whole life in APDUs, as docs/personalisation.md shows it: known keys, known challenges, byte for byte."""

import textwrap

from cards.globalplatform.dialogue import link
from cards.globalplatform.status_word import EXPLANATIONS
from tests.support.cards import KEYS
from tests.support.globalplatform import INITIAL_VERSION, OWN, TRANSPORT, Reader, static_keys, stock, terms, whole_life

_WIDTH = 96


def transcript() -> str:
    """`>` to the card, `<` from it; long lines go on, indented."""
    reader = Reader(stock()[0])
    reader.run(whole_life(link(extended=False), terms()))
    lines: list[str] = []
    for command, response in zip(reader.heard, reader.answered, strict=True):
        for mark, apdu in ((">", command.encode()), ("<", response.encode())):
            lines += textwrap.wrap(apdu.hex(), _WIDTH, initial_indent=f"{mark} ", subsequent_indent="  ")
    return "\n".join(lines)


def keys_used() -> str:
    """The key sets of the transcript and the keys of its application."""
    rows = [
        f"{version:02X}  {name}  {key.reveal().hex()}  KCV {key.check_value().hex().upper()}"
        for version in (INITIAL_VERSION, TRANSPORT, OWN)
        for name, key in zip(("ENC", "MAC", "DEK"), static_keys(version).keys, strict=True)
    ]
    rows += [
        f"{name:<11} {bytes(key).hex()}"
        for name, key in (("card key", KEYS.card_key), ("group key", KEYS.group_key), ("global key", KEYS.global_key))
    ]
    return "\n".join(rows)


def status_words() -> str:
    """The table of status words, as Markdown."""
    rows = [f"| {int(sw):04X} | {said.meaning} |" for sw, said in EXPLANATIONS.items()]
    return "\n".join(["| SW | meaning |", "|---|---|", *rows])
