"""The card manager's memory of a software chip in one file, replaced as a whole. It holds keys: mode 0600."""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final

from cards.errors import StateFileError

_MODE: Final = 0o600
_SIZE_MAX: Final = 100_000


class ManagerFile:
    """A `cards.globalplatform.card_state.ManagerMemory` in a file; one process at a time may hold it."""

    def __init__(self, path: Path) -> None:
        """Raises StateFileError when the file is held already, or its directory cannot be written to."""
        self._path = path
        self._release = weakref.finalize(self, os.close, _lock(path))

    def __repr__(self) -> str:
        return f"<ManagerFile {self._path}>"

    def read(self) -> bytes | None:
        """The content; None when there is no file. Raises StateFileError, also when others may read the file."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(f"{self._path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & 0o077:
                raise StateFileError(f"others may read the keys in {self._path}", f"chmod 600 {self._path}")
            try:
                content = file.read(_SIZE_MAX + 1)
            except OSError as error:
                raise StateFileError(f"{self._path} cannot be read: {error.strerror}") from error
        if len(content) > _SIZE_MAX:
            raise StateFileError(f"{self._path} is too large for the memory of a card manager")
        return content

    def write(self, content: bytes) -> None:
        """Write beside, fsync, rename over, fsync the directory. Raises StateFileError."""
        if not self._release.alive:
            raise StateFileError(f"{self._path} is closed", "open the card again")
        try:
            self._replace(content)
        except OSError as error:
            raise StateFileError(
                f"{self._path} cannot be written: {error.strerror}", "make room on the disk, then repeat"
            ) from error

    def close(self) -> None:
        """Let go of the file, for others to open."""
        self._release()

    def _replace(self, content: bytes) -> None:
        beside = self._path.with_name(f".{self._path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _MODE)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _lock(path: Path) -> int:
    """Hold a lock file beside the memory; the kernel lets go of it when this process ends, however it ends."""
    beside = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise StateFileError(
            f"{beside} cannot be made: {error.strerror}", "choose a directory that you may write to"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateFileError(f"{path} is used by another program", "end the program that runs this card") from error
    return descriptor
