"""Cards of the protocol T=0 on the real pcscd: no case 4, GET RESPONSE for answers to data, exact lengths."""

import contextlib

import pytest

from cards import pcsc
from cards.apdu import CommandApdu, ResponseApdu
from cards.globalplatform.dialogue import GetResponse, Wire, link, run
from cards.globalplatform.personalisation import read_chip
from cards.session import CardSession
from cards.status_word import StatusWord
from emm.plan import Right
from tests.support.cards import ADDRESS, WORDS, ecm, emm
from tests.support.stock import chip_in, serial

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]

GET_RESPONSE = 0xC0


class T0Card:
    """Another card's commands behind the rules of T=0 (ISO/IEC 7816-3 clause 12.2, 7816-4 clause 5.3.4).

    Data goes in or comes out, never both: an answer to data waits for GET RESPONSE (61xx), and a wrong length is
    answered with the right one (6Cxx). It takes no extended length. `heard`: the rules that it had to apply.
    """

    atr = bytes.fromhex("3B00")  # no interface bytes: T=0 only

    def __init__(self, card) -> None:
        self._card = card
        self._waiting = b""
        self.heard: list[str] = []

    def reset(self) -> None:
        self._waiting = b""
        self._card.reset()

    def process(self, command: bytes) -> bytes:
        apdu = CommandApdu.decode(command)
        if apdu.extended or apdu.case == 4:
            self.heard.append("case 4")
            return b"\x67\x00"
        if apdu.ins == GET_RESPONSE:
            self.heard.append("get response")
            return self._give(apdu)
        le = 256 if apdu.data or apdu.le is not None else None
        inner = CommandApdu(apdu.cla, apdu.ins, apdu.p1, apdu.p2, apdu.data, le)
        answer = run(GetResponse(Wire()).exchange(inner), self._ask)
        if not answer.data:
            return answer.encode()
        self._waiting = answer.encode()
        return self._give(apdu) if apdu.case == 2 else self._more()

    def _ask(self, command: CommandApdu) -> ResponseApdu:
        return ResponseApdu.decode(self._card.process(command.encode()))

    def _more(self) -> bytes:
        return bytes((0x61, min(len(self._waiting) - 2, 256) % 256))

    def _give(self, apdu: CommandApdu) -> bytes:
        """So many bytes as were asked for, or the right number instead."""
        there = min(len(self._waiting) - 2, 256)
        if apdu.le != there:
            self.heard.append("wrong length")
            return bytes((0x6C, there % 256))
        data, self._waiting = self._waiting[:there], self._waiting[there:]
        if len(self._waiting) > 2:
            return data + self._more()
        sw, self._waiting = self._waiting, b""
        return data + sw


def test_a_t0_card_takes_emms_opens_channels_and_tells_its_rights(pcscd, make_card, insert):
    card = T0Card(make_card(ADDRESS))
    insert(card)
    with pcsc.connect(pcscd.readers[0]) as connection, connection.transaction():
        assert connection.protocol == "T=0"
        session = CardSession(connection.transmit)
        sections = emm(*(Right(product, 0) for product in range(1, 51)))
        assert [session.process_emm(section) for section in sections][-1] is StatusWord.OK
        assert session.process_ecm(ecm(50)).words == WORDS
        info = session.read_info()
        assert len(session.authenticate(bytes(16))) == 16
    assert (info.address, len(info.rights)) == (ADDRESS, 50)
    assert "case 4" not in card.heard
    assert {"get response", "wrong length"} <= set(card.heard)


def test_a_t0_chip_tells_its_serial_number(pcscd, insert, tmp_path):
    chip = chip_in(tmp_path, 1)
    insert(T0Card(chip))
    with contextlib.closing(chip), pcsc.connect(pcscd.readers[0]) as connection:

        def exchange(command: CommandApdu) -> ResponseApdu:
            return ResponseApdu.decode(connection.transmit(command.encode()))

        found = run(read_chip(link(extended=False)), exchange)
    assert found.serial == serial(1)
