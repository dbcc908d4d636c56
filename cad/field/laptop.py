"""What a laptop keeps in its state directory: the extract, and what was done until the headend has it. Mode 0600."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cad.errors import StateError
from cad.technicians.documents import VISITS_MAX, Extract, SignedExtract, Visit, Visits, VisitsAnswer
from cad.technicians.errors import ExtractError
from cad.technicians.signing import open_extract

CLOCK_TOLERANCE_S: Final = 300


class Laptop:
    """The state directory. Several programs may use it at a time. Raises StateError, ExtractError."""

    def __init__(self, folder: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._folder = folder
        self._random = random
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"state_dir {folder} cannot be made: {error.strerror}; name another") from None

    # The extract.

    def keep_extract(self, signed: SignedExtract, public_key: str, now: float) -> Extract:
        """Check an extract and take it along in place of an older one."""
        extract = open_extract(signed.model_dump_json().encode(), public_key)
        with self._locked():
            self._write("extract.json", signed.model_dump_json())
            self._change(extract_key=public_key, used={}, latest=now)
        return extract

    def extract(self, now: float) -> Extract:
        """The extract taken along, if it may still be used at `now` (the laptop's clock)."""
        with self._locked():
            memory = self._memory()
            try:
                data = (self._folder / "extract.json").read_bytes()
            except FileNotFoundError:
                raise ExtractError("no extract was taken along; with network: cad field fetch") from None
            extract = open_extract(data, str(memory.get("extract_key", "00" * 32)))
            if now < max(extract.made_at, float(memory.get("latest", 0))) - CLOCK_TOLERANCE_S:
                raise ExtractError("the laptop's clock is behind the time that it has seen already; set it right")
            if now >= extract.expires_at:
                raise ExtractError("the extract taken along has expired; with network: cad field fetch")
            self._change(latest=max(now, float(memory.get("latest", 0))))
            return extract

    def next_challenge(self, number: str, count: int) -> int:
        """Which of the `count` prepared challenges of a card comes next; each is used once before one is again."""
        with self._locked():
            used = dict(self._memory().get("used", {}))
            place = int(used.get(number, 0))
            self._change(used=used | {number: place + 1})
        return place % count

    # What was done.

    def record(self, **facts: Any) -> Visit:
        """Write down what was done, durably, and number it."""
        with self._locked():
            seq = int(self._memory().get("next", 1))
            visit = Visit(seq=seq, **facts)
            self._change(next=seq + 1)
            self._write("visits.jsonl", "".join(f"{one.model_dump_json()}\n" for one in [*self._visits(), visit]))
        return visit

    def waiting(self) -> list[Visit]:
        """What the headend does not have yet, oldest first."""
        with self._locked():
            return self._visits()

    def hand_in(self, send: Callable[[Visits], VisitsAnswer]) -> VisitsAnswer:
        """Send what waits and forget what was taken; return the answers. When `send` raises, the rest waits on."""
        answers: list[Any] = []
        while waiting := self.waiting()[:VISITS_MAX]:
            with self._locked():
                laptop = self._laptop()
            found = send(Visits(laptop=laptop, visits=tuple(waiting)))
            taken = {one.seq for one in found.visits}
            if not taken:
                break
            with self._locked():
                rest = [one for one in self._visits() if one.seq not in taken]
                self._write("visits.jsonl", "".join(f"{one.model_dump_json()}\n" for one in rest))
            answers += found.visits
        return VisitsAnswer(visits=tuple(answers))

    # Files.

    def _laptop(self) -> str:
        memory = self._memory()
        if "laptop" not in memory:
            self._change(laptop=self._random(8).hex())
        return str(self._memory()["laptop"])

    def _visits(self) -> list[Visit]:
        try:
            lines = (self._folder / "visits.jsonl").read_bytes().splitlines()
            return [Visit.model_validate_json(line) for line in lines]
        except FileNotFoundError:
            return []
        except ValidationError:
            raise StateError(
                f"{self._folder}/visits.jsonl is damaged; keep a copy for the operator, then move it away"
            ) from None

    def _memory(self) -> dict[str, Any]:
        try:
            found = json.loads((self._folder / "laptop.json").read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise StateError(f"{self._folder}/laptop.json is damaged; move it away, then: cad field fetch")
        return found

    def _change(self, **values: Any) -> None:
        self._write("laptop.json", json.dumps(self._memory() | values))

    def _write(self, name: str, text: str) -> None:
        """Replace a file, whole or not at all."""
        draft = self._folder / f".{name}.new"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._folder / name)
        except OSError as error:
            raise StateError(f"{self._folder}/{name} cannot be written: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"state_dir {self._folder} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
