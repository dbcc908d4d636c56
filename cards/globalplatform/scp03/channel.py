"""The moving part of an SCP03 session, the same at both ends: MAC chaining value and encryption counter."""

import hmac
from dataclasses import replace
from typing import Final

from cards.apdu import SHORT_DATA_MAX, SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.globalplatform.errors import SecureMessagingError
from cards.globalplatform.scp03.keys import BLOCK, ZERO_BLOCK, SecurityLevel, SessionKeys

# ISO/IEC 7816-4 clause 5.4.1: the bits of the class byte.
_FURTHER_INTERINDUSTRY: Final = 0x40
_SECURED_FIRST: Final = 0x04
_SECURED_FURTHER: Final = 0x20
_PROPRIETARY: Final = 0x80


def secured_class(cla: int) -> int:
    """The class byte with secure messaging announced (GlobalPlatform Card Specification clause 11.1.4)."""
    return cla | _SECURED_FURTHER if cla & _FURTHER_INTERINDUSTRY else cla & ~0x0C | _SECURED_FIRST


def plain_class(cla: int) -> int:
    """The class byte without secure messaging."""
    return cla & ~_SECURED_FURTHER if cla & _FURTHER_INTERINDUSTRY else cla & ~0x0C


def is_secured(cla: int) -> bool:
    """Whether the class byte announces GlobalPlatform secure messaging."""
    return bool(cla & (_SECURED_FURTHER if cla & _FURTHER_INTERINDUSTRY else _SECURED_FIRST))


def is_protected(sw: int) -> bool:
    """Clause 6.2.5: only 9000 and warnings (62xx, 63xx) are protected; an error is a bare status word."""
    return sw == 0x9000 or sw >> 8 in (0x62, 0x63)


def pad(data: bytes) -> bytes:
    """80, then zeros up to whole blocks (Card Specification B.2.3)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % BLOCK)


def unpad(data: bytes) -> bytes:
    """Undo `pad`; raises SecureMessagingError."""
    body = data.rstrip(b"\x00")
    if not body.endswith(b"\x80") or len(data) - len(body) >= BLOCK:
        raise SecureMessagingError("the padding of a decrypted message is wrong")
    return body[:-1]


class Scp03Channel:
    """Protects and opens the APDUs of one session. Host and card each hold one, and stay in step command by command.

    Before `begin` only EXTERNAL AUTHENTICATE passes, with a MAC and in clear (clause 6.2.3). Every error that is
    raised means that the channel is of no further use.
    """

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys
        self._chain = ZERO_BLOCK  # clause 6.2.3: the first MAC chaining value
        self._counter = 0  # clause 6.2.6: 1 for the first command after EXTERNAL AUTHENTICATE
        self._level = SecurityLevel.C_MAC
        self._begun = False

    @property
    def level(self) -> SecurityLevel:
        """The level in force."""
        return self._level

    @property
    def data_max(self) -> int:
        """How many bytes of data fit one protected command with short lengths."""
        if not self._level.command_mac:
            return SHORT_DATA_MAX
        room = SHORT_DATA_MAX - self._keys.mode
        return room // BLOCK * BLOCK - 1 if self._level.command_encryption else room

    def begin(self, level: SecurityLevel) -> None:
        """EXTERNAL AUTHENTICATE has succeeded: from now on `level` is in force."""
        self._level, self._begun = level, True

    def protect_command(self, command: CommandApdu) -> CommandApdu:
        """The command as it goes to the card. With short data it takes the short form: Le above 256 becomes 256."""
        self._next_command()
        if not self._level.command_mac:
            return command
        data = command.data
        if data and self._begun and self._level.command_encryption:
            data = self._keys.enc.encrypt_cbc(pad(data), self._initial(response=False))
        wide = len(data) + self._keys.mode > SHORT_DATA_MAX
        mac = self._command_mac(command, data, wide)
        le = command.le if wide or command.le is None else min(command.le, SHORT_LE_MAX)
        return replace(command, cla=secured_class(command.cla), data=data + mac, le=le, extended=wide)

    def open_command(self, command: CommandApdu) -> CommandApdu:
        """The command as the host meant it; raises SecureMessagingError when it is not authentic."""
        self._next_command()
        if not self._level.command_mac:
            return command
        if not is_secured(command.cla):
            raise SecureMessagingError("a command came without the protection that the session demands")
        data, mac = command.data[: -self._keys.mode], command.data[-self._keys.mode :]
        wide = command.extended or len(command.data) > SHORT_DATA_MAX
        if not hmac.compare_digest(mac, self._command_mac(command, data, wide)):
            raise SecureMessagingError("the MAC of a command is wrong")
        if data and self._begun and self._level.command_encryption:
            data = self._decrypt(data, self._initial(response=False))
        return replace(command, cla=plain_class(command.cla), data=data)

    def protect_response(self, response: ResponseApdu) -> ResponseApdu:
        """The response as it leaves the card."""
        if not is_protected(response.sw):
            return ResponseApdu(response.sw)
        if not self._level.response_mac:
            return response
        data = response.data
        if data and self._level.response_encryption:
            data = self._keys.enc.encrypt_cbc(pad(data), self._initial(response=True))
        return ResponseApdu(response.sw, data + self._response_mac(data, response.sw))

    def open_response(self, response: ResponseApdu) -> ResponseApdu:
        """The response as the card meant it; raises SecureMessagingError when it is not authentic.

        An error status word is never protected: take it as a failure, never as a statement about the card.
        """
        if not self._level.response_mac:
            return response
        if not is_protected(response.sw):
            if response.data:
                raise SecureMessagingError("an error came with data, which no secure channel allows")
            return response
        if len(response.data) < self._keys.mode:
            raise SecureMessagingError("a response came without the MAC that the session demands")
        data, mac = response.data[: -self._keys.mode], response.data[-self._keys.mode :]
        if not hmac.compare_digest(mac, self._response_mac(data, response.sw)):
            raise SecureMessagingError("the MAC of a response is wrong")
        if data and self._level.response_encryption:
            data = self._decrypt(data, self._initial(response=True))
        return ResponseApdu(response.sw, data)

    def _next_command(self) -> None:
        if self._begun:
            self._counter += 1  # clause 6.2.6: also for a command without data

    def _command_mac(self, command: CommandApdu, data: bytes, wide: bool) -> bytes:
        """Clause 6.2.4: chaining value, class on channel 0, INS, P1, P2, Lc with the MAC, data."""
        cla = command.cla & _PROPRIETARY | _SECURED_FIRST
        length = len(data) + self._keys.mode
        lc = b"\x00" + length.to_bytes(2, "big") if wide else bytes((length,))
        header = bytes((cla, command.ins, command.p1, command.p2))
        self._chain = self._keys.mac.cmac(self._chain + header + lc + data)
        return self._chain[: self._keys.mode]

    def _response_mac(self, data: bytes, sw: int) -> bytes:
        """Clause 6.2.5: the chaining value of the command, response data, status word."""
        return self._keys.rmac.cmac(self._chain + data + sw.to_bytes(2, "big"))[: self._keys.mode]

    def _initial(self, *, response: bool) -> bytes:
        """Clauses 6.2.6 and 6.2.7: the counter encrypted; for responses its first byte is 80."""
        block = self._counter.to_bytes(BLOCK, "big")
        return self._keys.enc.encrypt_block(b"\x80" + block[1:] if response else block)

    def _decrypt(self, data: bytes, initial: bytes) -> bytes:
        if len(data) % BLOCK:
            raise SecureMessagingError("encrypted data is not whole blocks")
        return unpad(self._keys.enc.decrypt_cbc(data, initial))
