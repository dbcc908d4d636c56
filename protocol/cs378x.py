"""CS378X: how a receiver hands EMMs and ECMs to a card server over TCP, as tsdecrypt and OSCam speak it.

No standard describes it; what stands here is what tsdecrypt 10.0 sends and takes. A message is a token that names the
user (4 bytes), then whole blocks of 16 bytes under AES-128-ECB with md5(password) as the key: a header of 20 bytes, the
data, and stuffing. MD5 and ECB are the protocol's, not our choice: it protects nothing, and belongs on the loopback.
"""

import hashlib
import hmac
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from construct import Int8ub, Int16ub, Int32ub, Padding, Struct
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from protocol.errors import DecodeError, EncodeError

DATA_MAX: Final = 255
"""The length is one byte. tsdecrypt hands over a section of 256 bytes as one of none."""

CONTROL_WORDS_SIZE: Final = 16
"""Data of an answer: the even control word and the odd one, of CSA2."""

_BLOCK: Final = 16
_TOKEN: Final = 4
_STUFFING: Final = b"\xff"


class Command(IntEnum):
    """What a message is about. Those not listed are passed on as plain numbers."""

    ECM = 0x00
    CONTROL_WORDS = 0x01
    EMM = 0x06
    KEEP_ALIVE = 0x37
    NOT_FOUND = 0x44


HEADER: Final = Struct(
    "command" / Int8ub,
    "length" / Int8ub,
    "zero" / Int16ub,
    "crc_32" / Int32ub,
    "service_id" / Int16ub,
    "ca_system_id" / Int16ub,
    "provider_id" / Int32ub,
    "request_id" / Int16ub,
    Padding(2, pattern=_STUFFING),
)
HEADER_SIZE: Final = HEADER.sizeof()


@dataclass(frozen=True, slots=True)
class CamdMessage:
    """One message, in clear. `data`: a section, or control words; never in repr."""

    command: int
    service_id: int
    ca_system_id: int
    request_id: int
    provider_id: int = 0
    data: bytes = b""

    def __repr__(self) -> str:
        return (
            f"<CamdMessage {self.command:#04x} service_id={self.service_id:#06x} "
            f"ca_system_id={self.ca_system_id:#06x} request_id={self.request_id} data={len(self.data)} bytes>"
        )

    def answer(self, command: Command, data: bytes = b"") -> "CamdMessage":
        """The answer to this message, with its ids."""
        return CamdMessage(command, self.service_id, self.ca_system_id, self.request_id, self.provider_id, data)


class CamdCodec:
    """Messages of one connection, either side: `feed` takes what came, `encode` gives what to send.

    After a DecodeError the connection is of no further use: nothing says where the next message begins.
    """

    def __init__(self, user: str, password: str) -> None:
        self._token = zlib.crc32(hashlib.md5(user.encode(), usedforsecurity=False).digest()).to_bytes(_TOKEN, "big")
        key = hashlib.md5(password.encode(), usedforsecurity=False).digest()
        self._cipher = Cipher(AES(key), ECB())  # noqa: S305 - the protocol's
        self._held = bytearray()

    def __repr__(self) -> str:
        return "<CamdCodec>"

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._held)

    def feed(self, data: bytes) -> list[CamdMessage]:
        """Add bytes and return each message that is complete now. Raises DecodeError.

        That is: another user, a wrong password (the header makes no sense), a wrong CRC.
        """
        self._held += data
        messages: list[CamdMessage] = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def encode(self, message: CamdMessage) -> bytes:
        """The bytes of a message. Raises EncodeError when the data does not fit."""
        if len(message.data) > DATA_MAX:
            raise EncodeError(f"a message carries at most {DATA_MAX} bytes, not {len(message.data)}")
        header = HEADER.build(
            {
                "command": message.command,
                "length": len(message.data),
                "zero": 0,
                "crc_32": zlib.crc32(message.data),
                "service_id": message.service_id,
                "ca_system_id": message.ca_system_id,
                "provider_id": message.provider_id,
                "request_id": message.request_id,
            }
        )
        clear = (header + message.data).ljust(_whole_blocks(HEADER_SIZE + len(message.data)), _STUFFING)
        return self._token + self._cipher.encryptor().update(clear)

    def _next(self) -> CamdMessage | None:
        held = self._held
        if held and not hmac.compare_digest(bytes(held[:_TOKEN]), self._token[: len(held)]):
            raise DecodeError("another user than the one that is allowed, or not this protocol")
        head = bytes(held[_TOKEN : _TOKEN + 2 * _BLOCK])
        if len(head) < 2 * _BLOCK:
            return None
        header = HEADER.parse(self._cipher.decryptor().update(head)[:HEADER_SIZE])
        if header.zero:
            raise DecodeError("the message does not make sense: the password is another one")
        end = _TOKEN + _whole_blocks(HEADER_SIZE + header.length)
        if len(held) < end:
            return None
        clear = self._cipher.decryptor().update(bytes(held[_TOKEN:end]))
        content = clear[HEADER_SIZE : HEADER_SIZE + header.length]
        del held[:end]
        if zlib.crc32(content) != header.crc_32:
            raise DecodeError("the CRC of the data is wrong: the password is another one, or the message is damaged")
        return CamdMessage(
            header.command, header.service_id, header.ca_system_id, header.request_id, header.provider_id, content
        )


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
