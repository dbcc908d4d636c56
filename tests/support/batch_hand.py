"""A batch of cards as it is made: the program as a process that can be heard, and a clumsy hand that obeys it."""

import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cards import pcsc
from cards.errors import PcscError, VpcdError
from cards.globalplatform.chip import Chip
from cards.readers.state import CardPresence
from cards.vpcd import VirtualSlot
from tests.support.pcscd import Pcscd
from tests.support.waiting import wait_until

LAST_WORDS = ("made", "already", "again", "aside")
"""Events of `cad card batch --json` after which the program is done with the chip that is in the reader."""
COMMANDS_OF_A_CARD = 20
"""A hand pulls within so many commands; making a card takes a few more."""
PULLS_OF_A_CHIP_MAX = 2
WORD_S = 60.0
SLIPPED_S = 5.0
"""So long a hand listens what is said of a chip that slipped out: a program that was just killed says nothing."""


class BatchProgram:
    """`cad card batch --json`; what it says is collected line by line, and `told` hears each at once."""

    def __init__(self, order: Path, settings: Path, environment: dict[str, str], *more: str, told=None) -> None:
        command = [sys.executable, "-m", "cad", "card", "batch", str(order), "--config", str(settings), "--json"]
        self.said: list[dict[str, Any]] = []
        self._told = told
        self._errors: list[str] = []
        self.process = subprocess.Popen(
            [*command, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONUNBUFFERED": "1"},
        )
        self._threads = [threading.Thread(target=self._listen), threading.Thread(target=self._collect_errors)]
        for thread in self._threads:
            thread.start()

    def __str__(self) -> str:
        """All it said, for the message of a failed test."""
        return "\n".join([*map(json.dumps, self.said), *self._errors])

    @property
    def errors(self) -> str:
        """What it said on standard error, complete once it has ended."""
        return "".join(self._errors)

    def _listen(self) -> None:
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:  # killed within a line
                continue
            self.said.append(event)
            if self._told is not None:
                self._told(event)

    def _collect_errors(self) -> None:
        self._errors.extend(self.process.stderr)

    def finish(self, timeout_s: float) -> int:
        """Wait for its end; its exit code. Fails with all that it said when the time is over."""
        wait_until(lambda: self.process.poll() is not None, timeout_s, lambda: f"the batch to end; it said\n{self}")
        self.close()
        return self.process.returncode

    def kill(self) -> None:
        """kill -9, and nothing of it is left, neither process nor thread nor open pipe."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Wait for the process, which has ended or is about to, and put away what belongs to it."""
        self.process.wait(30)
        for thread in self._threads:
            thread.join(30)
        self.process.stdout.close()
        self.process.stderr.close()


@contextlib.contextmanager
def batch_program(folder: Path, pcscd: Pcscd, *more: str, told=None) -> Iterator[BatchProgram]:
    """The batch box.toml of a folder; it does not outlive the block."""
    program = BatchProgram(folder / "box.toml", folder / "cad.toml", pcscd.environment, *more, told=told)
    try:
        yield program
    finally:
        if not program.process.stdout.closed:
            program.kill()


class SlipperyChip:
    """A chip in a reader that slips out at a given command, before the chip hears it or before its answer is heard."""

    def __init__(self, chip: Chip, port: int, at: int | None, answer_lost: bool) -> None:
        self.slot = VirtualSlot(self, port=port, keep=True)
        self.slipped = threading.Event()
        self._chip = chip
        self._at = at
        self._answer_lost = answer_lost
        self._heard = 0

    @property
    def atr(self) -> bytes:
        return self._chip.atr

    def reset(self) -> None:
        self._chip.reset()

    def process(self, command: bytes) -> bytes:
        self._heard += 1
        if self._heard != self._at:
            return self._chip.process(command)
        if self._answer_lost:
            self._chip.process(command)
        self.slot.pull()
        self.slipped.set()
        return b"\x6f\x00"  # goes nowhere


class Hand:
    """Puts chips into the readers and takes them out when the program says so, or lets them slip in the midst of it.

    Chips slip with probability `clumsy`, each at most twice. Use as a context; `hear` takes the program's events.
    """

    def __init__(self, pcscd: Pcscd, chips: Sequence[Chip], seed: int, clumsy: float) -> None:
        self._pcscd = pcscd
        self._box = list(chips)
        self._chance = random.Random(seed)
        self._clumsy = clumsy
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._words: dict[str, threading.Event] = {name: threading.Event() for name in pcscd.readers}
        self._last: dict[str, str] = {}
        self._slipped: dict[int, int] = {}
        self.slips = 0
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(len(pcscd.ports))]

    def hear(self, event: dict[str, Any]) -> None:
        """Listen to what the program says; from its thread."""
        reader = event.get("reader")
        if reader in self._words and event["event"] in LAST_WORDS:
            self._last[reader] = event["event"]
            self._words[reader].set()

    def __enter__(self) -> "Hand":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WORD_S)
        if kind is None:
            assert not self.failures, self.failures

    def _run(self, reader: int) -> None:
        try:
            while not self._stop.is_set():
                with self._lock:
                    chip = self._box.pop(0) if self._box else None
                if chip is None:
                    self._stop.wait(0.05)
                elif not self._show(chip, reader):
                    with self._lock:
                        self._box.append(chip)
        except BaseException as error:
            self.failures.append(error)

    def _show(self, chip: Chip, reader: int) -> bool:
        """Put a chip in, take it out at the program's last word about it; whether it is a card."""
        name = self._pcscd.readers[reader]
        self._words[name].clear()
        slippery = self._grasp(chip, self._pcscd.ports[reader])
        self._insert(slippery.slot)
        while not self._stop.is_set() and not slippery.slipped.is_set() and not self._words[name].wait(0.05):
            pass
        if slippery.slipped.is_set():
            self._words[name].wait(SLIPPED_S)
        slippery.slot.remove()
        wait_until(lambda: self._stop.is_set() or self._is_empty(reader), WORD_S, what="the reader to be empty")
        return not slippery.slipped.is_set() and self._last.get(name) in ("made", "already")

    def _grasp(self, chip: Chip, port: int) -> SlipperyChip:
        with self._lock:
            slips = self._slipped.get(id(chip), 0)
            at = None
            if slips < PULLS_OF_A_CHIP_MAX and self._chance.random() < self._clumsy:
                self._slipped[id(chip)] = slips + 1
                self.slips += 1
                at = self._chance.randint(1, COMMANDS_OF_A_CARD)
            return SlipperyChip(chip, port, at, self._chance.random() < 0.5)

    def _insert(self, slot: VirtualSlot) -> None:
        while not self._stop.is_set():
            try:
                slot.insert()
            except VpcdError:  # pcscd is being restarted
                self._stop.wait(0.1)
            else:
                return

    @staticmethod
    def _is_empty(reader: int) -> bool:
        try:
            return pcsc.list_readers()[reader].presence is CardPresence.EMPTY
        except (PcscError, IndexError):  # pcscd is being restarted
            return False
