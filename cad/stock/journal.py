"""The journal of a batch: what became of each chip, on this machine's disk before the next step is taken.

One JSON object a line, each flushed to the disk. A half line at the end is what a power cut leaves, and is dropped.
No key is ever in it, only check values.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from cad.errors import JournalError

FORMAT: Final = "cad-batch-journal-1"
SIZE_MAX: Final = 512 * 1024 * 1024


@dataclass(slots=True)
class ChipRecord:
    """What the journal knows of one chip. `aside`: why it was put aside, None when nothing is wrong with it."""

    serial: str
    address: int
    step: str = "claimed"
    check_values: dict[str, str] = field(default_factory=dict)
    made_at: str = ""
    finished: bool = False
    recorded: bool = False
    aside: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Whose journal it is."""

    operator: str
    batch: str
    first: int
    last: int


class Journal:
    """Open for one program at a time. Threads may share it. Every call raises JournalError when the disk fails.

    After a failed write nothing more is written: what the disk holds is unknown until the journal is opened again.
    """

    def __init__(self, path: Path, now: Callable[[], str]) -> None:
        self.path = path
        self.head: Head | None = None
        self.chips: dict[str, ChipRecord] = {}
        self._now = now
        self._lock = threading.Lock()
        self._failed = False
        self._descriptor = -1

    @classmethod
    def open(cls, path: Path, now: Callable[[], str]) -> Self:
        """Open or begin a journal, and read what it says. `now` spells the time."""
        journal = cls(path, now)
        try:
            journal._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            journal._load()
        except BlockingIOError:
            journal.close()
            raise JournalError(f"{path} is in use: another cad card batch works on this batch") from None
        except OSError as error:
            journal.close()
            raise JournalError(f"{path} cannot be used: {error.strerror}") from None
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, head: Head) -> None:
        """Say whose journal it is; the same again changes nothing."""
        if self.head is not None and self.head != head:
            raise JournalError(
                f"{self.path} belongs to batch {self.head.batch} of {self.head.operator} with other numbers:"
                " give the batch its own journal"
            )
        if self.head is None:
            self._write("begun", format=FORMAT, **{name: getattr(head, name) for name in Head.__slots__})

    def claimed(self, serial: str, address: int, reader: str) -> None:
        """A chip has its number, and is about to get keys."""
        if serial not in self.chips:
            self._write("claimed", serial=serial, address=address, reader=reader)

    def step(self, serial: str, step: str) -> None:
        """The chip has confirmed a step."""
        self._write("step", serial=serial, step=step)

    def finished(self, serial: str, check_values: dict[str, str]) -> None:
        """The card is done, and what is left is to tell the ledger."""
        self._write("finished", serial=serial, check_values=check_values)

    def recorded(self, serial: str) -> None:
        """The ledger has the card in stock."""
        self._write("recorded", serial=serial)

    def put_aside(self, serial: str, reason: str) -> None:
        """Something is wrong with this chip; it is not touched again without a person's word."""
        self._write("aside", serial=serial, reason=reason)

    def taken_up(self, serial: str) -> None:
        """A person wants a chip that was put aside to be tried once more."""
        self._write("again", serial=serial)

    def note_failure(self, reader: str, serial: str | None, reason: str) -> None:
        """A run ended early; the chip can be put in again."""
        self._write("failed", reader=reader, serial=serial, reason=reason)

    # --- inside

    def _write(self, kind: str, **facts: Any) -> None:
        record = {"at": self._now(), "kind": kind, **facts}
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._failed or self._descriptor < 0:
                raise JournalError(f"{self.path} failed before: look at the disk, then run the same command again")
            try:
                if os.write(self._descriptor, line) != len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(self._descriptor)
            except OSError as error:
                self._failed = True
                raise JournalError(
                    f"{self.path} cannot be written: {error.strerror}; mend the disk, then run the same command again"
                ) from None
            self._take(record)

    def _load(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(self._descriptor).st_size
        if size > SIZE_MAX:
            raise JournalError(f"{self.path} is no journal: it has {size} bytes")
        content = os.pread(self._descriptor, size, 0)
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                if number == 1 and (record["kind"], record["format"]) != ("begun", FORMAT):
                    raise ValueError(FORMAT)
                self._take(record)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise JournalError(
                    f"{self.path} line {number} is not of a batch journal; it is not touched. The numbers given are"
                    " in the ledger: begin with another journal, the chips keep their numbers"
                ) from None
        if len(whole) < size:
            os.ftruncate(self._descriptor, len(whole))
            os.fsync(self._descriptor)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _take(self, record: dict[str, Any]) -> None:
        kind, serial = record["kind"], str(record.get("serial"))
        if kind == "begun":
            self.head = Head(str(record["operator"]), str(record["batch"]), int(record["first"]), int(record["last"]))
        elif kind == "claimed":
            self.chips[serial] = ChipRecord(serial, int(record["address"]))
        elif kind == "step":
            self.chips[serial].step = str(record["step"])
        elif kind == "finished":
            chip = self.chips[serial]
            chip.check_values, chip.finished, chip.made_at = dict(record["check_values"]), True, str(record["at"])
        elif kind == "recorded":
            self.chips[serial].recorded = True
        elif kind in ("aside", "again") and serial in self.chips:
            self.chips[serial].aside = str(record["reason"]) if kind == "aside" else None
        elif kind not in ("failed", "aside", "again"):
            raise ValueError(kind)
