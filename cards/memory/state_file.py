"""The memory of a software card in one file: replaced as a whole, so that a crash at any moment leaves old or new.

The file holds keys. It is made with mode 0600, and refused when others may read it.
"""

import fcntl
import os
import weakref
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cards.errors import StateFileError
from cards.mailbox.stored import StoredMailbox
from cards.memory.contents import CardKeys, CardMemory, Collection, Track
from cards.memory.pin import Pin
from emm.errors import EmmError
from emm.message import EmmKind, Version
from emm.payload import EmmPayload, build_payload, parse_payload
from emm.secret import Secret

FORMAT: Final = "cad software card 1"
SIZE_MAX: Final = 1_000_000
_MODE: Final = 0o600


class _Model(BaseModel):
    # The file holds keys: an error names the field, never the value.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Version(_Model):
    period: int = Field(ge=0, le=0xFFFF)
    revision: int = Field(ge=0, le=0xFFFF_FFFF)


class _Part(_Model):
    number: int
    payload: str


class _Collection(_Model):
    version: _Version
    last_part: int
    parts: list[_Part]


class _Track(_Model):
    held: _Version | None
    content: list[str]
    collecting: _Collection | None


class _Keys(_Model):
    key_version: int
    card_key: str
    group_key: str
    global_key: str


class _Pin(_Model):
    digits: str
    tries_left: int
    reset_mark: int


class _File(_Model):
    format: Literal["cad software card 1"]
    address: int
    keys: _Keys
    last_time: int
    unique: _Track
    group: _Track
    everyone: _Track
    mailbox: StoredMailbox = StoredMailbox()
    pin: _Pin | None = None


class StateFile:
    """A `cards.memory.contents.Storage` in a file. Made by `create` or `open`; held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _lock(path)
        self._finalizer = weakref.finalize(self, os.close, self._lock)

    @classmethod
    def create(cls, path: Path, memory: CardMemory) -> Self:
        """Write a new state file. Raises StateFileError when there is one already, or it cannot be written."""
        new = cls(path)
        if path.exists():
            new.close()
            raise StateFileError(f"{path} exists already", "choose another file, or remove it if the card is dead")
        new.store(memory)
        return new

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take hold of an existing state file. Raises StateFileError."""
        if not path.exists():
            raise StateFileError(f"there is no state file {path}", "make one: cad card soft --create NUMBER")
        return cls(path)

    def __repr__(self) -> str:
        return f"<StateFile {self._path}>"

    def load(self) -> CardMemory:
        """Read the memory. Raises StateFileError."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                open_to_others = os.fstat(descriptor).st_mode & 0o077
                raw = file.read(SIZE_MAX + 1)
        except OSError as error:
            raise StateFileError(f"{self._path} cannot be read: {error.strerror}") from error
        if open_to_others:
            raise StateFileError(f"others may read the keys in {self._path}", f"chmod 600 {self._path}")
        try:
            return decode(raw)
        except StateFileError as error:
            raise StateFileError(f"{self._path} {error.message}", error.advice) from None

    def store(self, memory: CardMemory) -> None:
        """Replace the file: write beside it, fsync, rename over it, fsync the directory. Raises StateFileError."""
        if not self._finalizer.alive:
            raise StateFileError(f"{self._path} is closed", "open the card again")
        try:
            _replace(self._path, encode(memory))
        except OSError as error:
            raise StateFileError(
                f"{self._path} cannot be written: {error.strerror}", "make room on the disk, then repeat"
            ) from error

    def close(self) -> None:
        """Let go of the file, for others to open."""
        self._finalizer()


def encode(memory: CardMemory) -> bytes:
    """The bytes of a state file. They hold keys."""
    keys = memory.keys
    file = _File(
        format=FORMAT,
        address=memory.address,
        keys=_Keys(
            key_version=keys.key_version,
            card_key=keys.card_key.hex(),
            group_key=keys.group_key.hex(),
            global_key=keys.global_key.hex(),
        ),
        last_time=memory.last_time,
        unique=_track_out(EmmKind.UNIQUE, memory),
        group=_track_out(EmmKind.GROUP, memory),
        everyone=_track_out(EmmKind.GLOBAL, memory),
        mailbox=StoredMailbox.of(memory.mailbox),
        pin=_Pin(
            digits=memory.pin.digits.hex(),
            tries_left=memory.pin.tries_left,
            reset_mark=memory.pin.reset_mark,
        ),
    )
    return file.model_dump_json(indent=1).encode()


def decode(raw: bytes) -> CardMemory:
    """The memory in the bytes of a state file. Raises StateFileError, which never shows a value."""
    advice = "restore the file from a copy of the same card, or make a new card"
    if len(raw) > SIZE_MAX:
        raise StateFileError("is too large for a state file", advice)
    try:
        file = _File.model_validate_json(raw)
        return CardMemory(
            file.address,
            CardKeys(
                file.keys.key_version,
                Secret(bytes.fromhex(file.keys.card_key)),
                Secret(bytes.fromhex(file.keys.group_key)),
                Secret(bytes.fromhex(file.keys.global_key)),
            ),
            {
                EmmKind.UNIQUE: _track_in(EmmKind.UNIQUE, file.unique),
                EmmKind.GROUP: _track_in(EmmKind.GROUP, file.group),
                EmmKind.GLOBAL: _track_in(EmmKind.GLOBAL, file.everyone),
            },
            file.last_time,
            file.mailbox.read(),
            _pin_in(file.pin),
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise StateFileError(f"is no state file of a software card: {where}: {first['msg']}", advice) from None
    except (EmmError, ValueError):
        raise StateFileError("is no state file of a software card: a value in it makes no sense", advice) from None


def _track_out(kind: EmmKind, memory: CardMemory) -> _Track:
    track = memory.tracks[kind]
    collecting = track.collecting
    return _Track(
        held=None if track.held is None else _version_out(track.held),
        content=[build_payload(kind, part).hex() for part in track.content],
        collecting=None
        if collecting is None
        else _Collection(
            version=_version_out(collecting.version),
            last_part=collecting.last_part,
            parts=[_Part(number=number, payload=build_payload(kind, part).hex()) for number, part in collecting.parts],
        ),
    )


def _track_in(kind: EmmKind, track: _Track) -> Track:
    collecting = track.collecting
    if (track.held is None) == bool(track.content):
        raise ValueError("a version is held with its content, or neither")
    return Track(
        None if track.held is None else _version_in(track.held),
        tuple(_payload_in(kind, part) for part in track.content),
        None
        if collecting is None
        else Collection(
            _version_in(collecting.version),
            collecting.last_part,
            tuple((part.number, _payload_in(kind, part.payload)) for part in collecting.parts),
        ),
    )


def _pin_in(pin: _Pin | None) -> Pin:
    return Pin() if pin is None else Pin(Secret(bytes.fromhex(pin.digits)), pin.tries_left, pin.reset_mark)


def _version_out(version: Version) -> _Version:
    return _Version(period=version.period, revision=version.revision)


def _version_in(version: _Version) -> Version:
    return Version(version.period, version.revision)


def _payload_in(kind: EmmKind, text: str) -> EmmPayload:
    return parse_payload(kind, bytes.fromhex(text))


def _lock(path: Path) -> int:
    """Hold a lock file beside the state file; the kernel lets go of it when this process ends, however it ends."""
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
        raise StateFileError(
            f"{path} is used by another program", "end the other program that runs this card"
        ) from error
    return descriptor


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, _MODE)
    try:
        os.fchmod(descriptor, _MODE)  # left behind by another umask or program
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
