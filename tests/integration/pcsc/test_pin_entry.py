"""The subscriber's PIN: on the reader's keypad where it has one, else on the terminal, and nowhere else (C6).

vpcd knows no keypad. So SCardControl, the lowest edge, is played here by hand: a keypad that reads the structure it is
given, puts in the digits that "the person" types, and sends the command through the real pcscd.
"""

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from cad.cli import main
from cad.cli.shell.exit_codes import ExitCode
from cards import pcsc
from cards.readers.pin_pad import MODIFY, VERIFY
from cards.session import CardSession
from tests.support.cards import ADDRESS

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("pcscd")]

VERIFY_CONTROL, MODIFY_CONTROL = 0x42330006, 0x42330007
FEATURES = bytes.fromhex("060442330006070442330007")
CAD = [sys.executable, "-c", "from cad.cli.main import main; main()"]


class Keypad:
    """A reader's keypad. `typed`: the PINs that the person types, in order; None: he presses the cancel key."""

    def __init__(self, *typed: bytes | None) -> None:
        self.typed = typed
        self.controls: list[int] = []

    def control(self, card: int, code: int, data: list[int]) -> tuple[int, list[int]]:
        self.controls.append(code)
        if code == VERIFY_CONTROL:
            return self._answer(card, VERIFY.parse(bytes(data)), (0,))
        if code == MODIFY_CONTROL:
            told = MODIFY.parse(bytes(data))
            return self._answer(card, told, (told.offset_old, told.offset_new))
        return 0, list(FEATURES)

    def _answer(self, card: int, told, offsets: tuple[int, ...]) -> tuple[int, list[int]]:
        command = bytearray(told.command)
        for offset, pin in zip(offsets, self.typed, strict=True):
            if pin is None:
                return 0, [0x64, 0x01]
            if not told.digits_min <= len(pin) <= told.digits_max:
                return 0, [0x64, 0x03]
            command[5 + offset : 5 + offset + told.block_size] = pin
        return pcsc.scard.SCardTransmit(card, pcsc.scard.SCARD_PCI_T1, list(command))


@pytest.fixture
def card(make_card, insert):
    made = make_card(ADDRESS)
    insert(made)
    return made


@pytest.mark.parametrize(
    ("verb", "typed", "code", "words"),
    [
        ("verify", (b"0000",), ExitCode.OK, "the PIN is right"),
        ("verify", (b"4711",), ExitCode.CARD, "2 tries are left"),
        ("verify", (None,), ExitCode.CARD, "cancel key"),
        ("verify", (b"123",), ExitCode.CARD, "too few or too many"),
        ("change", (b"0000", b"4711"), ExitCode.OK, "the PIN is changed"),
        ("change", (b"1111", b"4711"), ExitCode.CARD, "2 tries are left"),
    ],
)
def test_a_pin_is_typed_on_a_reader_that_has_a_keypad(card, monkeypatch, capfd, verb, typed, code, words):
    keypad = Keypad(*typed)
    monkeypatch.setattr(pcsc.scard, "SCardControl", keypad.control)
    assert main.run(["card", "pin", verb]) == code
    said = "".join(capfd.readouterr())
    assert words in said
    assert "type the PIN on the reader" in said
    assert (VERIFY_CONTROL if verb == "verify" else MODIFY_CONTROL) in keypad.controls
    session = CardSession(card.process)
    session.give_pin("4711" if words == "the PIN is changed" else "0000")


def test_reader_list_tells_the_keypad(card, monkeypatch, capfd):
    monkeypatch.setattr(pcsc.scard, "SCardControl", Keypad().control)
    assert main.run(["reader", "list", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)["readers"][0]
    assert (found["pin_pad"], found["features"]) == (True, ["verify-pin-direct", "modify-pin-direct"])


def test_a_reader_in_another_programs_hands_keeps_its_features_to_itself(card, pcscd):
    assert pcsc.reader_features(pcscd.readers[0]) == {}
    with pcsc.connect(pcscd.readers[0], exclusive=True):
        assert pcsc.reader_features(pcscd.readers[0]) is None
    with pcsc.connect(pcscd.readers[0]) as other, other.transaction():
        assert pcsc.reader_features(pcscd.readers[0]) is None


class Terminal:
    """A command on a terminal of its own; `said`: all that the person sees."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.said = b""
        self.process = subprocess.Popen(
            [*CAD, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def answer(self, prompt: bytes, typed: bytes) -> None:
        """Wait for a prompt and type something."""
        seen = len(self.said)
        while prompt not in self.said[seen:]:
            self.said += os.read(self._ours, 1000)
        os.write(self._ours, typed + b"\n")

    def finish(self) -> int:
        try:
            while data := os.read(self._ours, 1000):
                self.said += data
        except OSError:  # the other end is closed
            pass
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(60)
        os.close(self._ours)


@pytest.fixture
def terminal(pcscd) -> Iterator[object]:
    made: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        made.append(Terminal(list(arguments), pcscd.environment))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_without_a_keypad_the_pin_is_asked_for_on_the_terminal_and_not_shown(card, terminal):
    change = terminal("card", "pin", "change")
    change.answer(b"PIN:", b"0000")
    change.answer(b"New PIN:", b"4711")
    change.answer(b"confirm", b"4711")
    assert change.finish() == ExitCode.OK, change.said
    assert b"the PIN is changed" in change.said
    wrong = terminal("card", "pin", "verify")
    wrong.answer(b"PIN:", b"1234")
    assert wrong.finish() == ExitCode.CARD
    assert b"2 tries are left" in wrong.said
    right = terminal("card", "pin", "verify", "--json")
    right.answer(b"PIN:", b"4711")
    assert right.finish() == ExitCode.OK, right.said
    assert b'"typed_on": "terminal"' in right.said
    for one in (change, wrong, right):
        assert not any(pin in one.said for pin in (b"0000", b"4711", b"1234")), one.said


def test_a_pin_is_not_taken_from_a_pipe(card, pcscd):
    done = subprocess.run(
        [*CAD, "card", "pin", "verify"], input=b"0000\n", capture_output=True, env=pcscd.environment, timeout=60
    )
    assert done.returncode == ExitCode.USAGE
    assert b"on a terminal only" in done.stderr
