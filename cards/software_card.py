"""A card in software: the card application with its memory in a file, which holds its keys: treat it as secret."""

import threading
from pathlib import Path
from typing import Self

from cards import atr
from cards.application import DEFAULT_AID, CardApplication
from cards.memory.contents import CardKeys, CardMemory
from cards.memory.state_file import StateFile


class SoftwareCard:
    """A card that answers to reset and to APDUs, as `cards.vpcd` wants it. Threads may share it.

    One process at a time may have a state file open: `open` and `create` raise StateFileError for the second.
    """

    def __init__(self, storage: StateFile, aid: bytes = DEFAULT_AID) -> None:
        self._storage = storage
        self._application = CardApplication(storage, aid)
        self._atr = atr.build(aid)
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, address: int, keys: CardKeys, aid: bytes = DEFAULT_AID) -> Self:
        """Make a new state file (mode 0600) and the card in it. Raises StateFileError, also when the file exists."""
        return cls(StateFile.create(path, CardMemory(address, keys)), aid)

    @classmethod
    def open(cls, path: Path, aid: bytes = DEFAULT_AID) -> Self:
        """The card in an existing state file. Raises StateFileError."""
        return cls(StateFile.open(path), aid)

    def __repr__(self) -> str:
        return f"<SoftwareCard {self._application!r}>"

    @property
    def atr(self) -> bytes:
        """The answer to reset."""
        return self._atr

    @property
    def memory(self) -> CardMemory:
        """What the card remembers without power; its keys are secrets."""
        return self._application.memory

    def reset(self) -> None:
        """Power on, off or reset."""
        with self._lock:
            self._application.reset()

    def process(self, command: bytes) -> bytes:
        """Answer one command APDU. Raises nothing, whatever `command` holds."""
        with self._lock:
            return self._application.process(command)

    def close(self) -> None:
        """Let go of the state file; the card answers no more afterwards."""
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
