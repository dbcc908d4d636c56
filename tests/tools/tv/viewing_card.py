"""A card as a receiver uses it: plain APDUs from docs/card.md, through whatever carries them (PC/SC)."""

from collections.abc import Callable

AID = bytes.fromhex("F0434144454D4D01")
NUMBER = b"\xdf\x20"
OK = 0x9000
EMM_TAKEN = (OK, 0x9101, 0x9102, 0x9103, 0x9109)


class ViewingCard:
    """The card behind `transmit`, selected. Commands fail by AssertionError where the card does not behave."""

    def __init__(self, transmit: Callable[[bytes], bytes]) -> None:
        self._transmit = transmit
        status, _ = self._exchange(b"\x00\xa4\x04\x00" + bytes([len(AID)]) + AID + b"\x00")
        assert status == OK, f"SELECT: {status:04X}"
        status, self.address = self._exchange(b"\x80\xca" + NUMBER + b"\x00")
        assert (status, len(self.address)) == (OK, 5), f"GET DATA NUMBER: {status:04X}"

    def filters(self, section: bytes) -> bool:
        """What a receiver's hardware would let through: EMMs to the card, to its group, to all."""
        size = {0x82: 5, 0x84: 4, 0x88: 0}.get(section[0])
        return size is not None and section[3 : 3 + size] == self.address[:size]

    def take_emm(self, section: bytes) -> bool:
        """Give the card an EMM; whether it took anything new from it."""
        status, _ = self._exchange(self._command(0x30, section))
        assert status in EMM_TAKEN, f"PROCESS EMM: {status:04X}"
        return status == OK

    def open_ecm(self, section: bytes) -> tuple[int, list[bytes]]:
        """Give the card an ECM: the status word, and control words where it opens."""
        status, answer = self._exchange(self._command(0x32, section) + b"\x00")
        if status != OK:
            return status, []
        assert not answer[0] & 8, f"PROCESS ECM: sealed for the receiver it is paired with, {self.paired_with()}"
        count, long = answer[0] >> 4, answer[0] & 15
        size = 16 if long else 8
        assert len(answer) == 1 + count * size, "PROCESS ECM: not control words"
        return status, [answer[at : at + size] for at in range(1, len(answer), size)]

    def paired_with(self) -> str:
        """The number of the one receiver that the card serves; empty for any."""
        status, number = self._exchange(b"\x80\xca\xdf\x26\x00")
        assert status == OK, f"GET DATA PAIRING: {status:04X}"
        return number.hex().upper()

    def _command(self, instruction: int, section: bytes) -> bytes:
        return bytes([0x80, instruction, section[0], 0, len(section) - 1]) + section[1:]

    def _exchange(self, command: bytes) -> tuple[int, bytes]:
        answer = self._transmit(command)
        while len(answer) == 2 and answer[0] == 0x61:
            answer = self._transmit(b"\x00\xc0\x00\x00" + answer[1:])
        return int.from_bytes(answer[-2:], "big"), answer[:-2]
