"""The file that makes a program a receiver: its number and its pairing key. Written by `cad keys receiver`."""

import os
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cards.errors import ReceiverFileError
from emm.pairing import ReceiverIdentity
from emm.secret import Secret
from protocol import receiver_number
from protocol.errors import ReceiverNumberError

FORMAT: Final = "cad receiver 1"
SIZE_MAX: Final = 10_000
_MODE: Final = 0o600


class _File(BaseModel):
    # The file holds a key: an error names the field, never the value.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    format: Literal["cad receiver 1"]
    receiver: str
    pairing_key: str = Field(pattern=r"^[0-9a-f]{64}$")


def write(path: Path, identity: ReceiverIdentity) -> None:
    """Write a receiver's file with mode 0600, and flush it. Raises ReceiverFileError, also when there is a file."""
    file = _File(
        format=FORMAT,
        receiver=receiver_number.spell(identity.number),
        pairing_key=identity.pairing_key.hex(),
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as out:
            os.fchmod(descriptor, _MODE)
            out.write(file.model_dump_json(indent=1).encode() + b"\n")
            out.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise ReceiverFileError(f"{path} exists already", "choose another file, or remove it") from None
    except OSError as error:
        raise ReceiverFileError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> ReceiverIdentity:
    """Read a receiver's file. Raises ReceiverFileError, which never shows a value; also when others may read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            open_to_others = os.fstat(descriptor).st_mode & 0o077
            raw = file.read(SIZE_MAX)
    except OSError as error:
        raise ReceiverFileError(f"{path} cannot be read: {error.strerror}") from error
    if open_to_others:
        raise ReceiverFileError(f"others may read the key in {path}", f"chmod 600 {path}")
    try:
        found = _File.model_validate_json(raw)
        return ReceiverIdentity(receiver_number.parse(found.receiver), Secret(bytes.fromhex(found.pairing_key)))
    except (ValidationError, ReceiverNumberError):
        raise ReceiverFileError(f"{path} is no receiver file") from None
