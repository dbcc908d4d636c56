"""The card's side of SCP03: from a key set and two challenges to an open channel."""

import hmac

from cards.apdu import CommandApdu, ResponseApdu
from cards.globalplatform.errors import SecureMessagingError
from cards.globalplatform.scp03.channel import Scp03Channel
from cards.globalplatform.scp03.keys import AesKey, SecurityLevel, SessionKeys, StaticKeys


class CardHandshake:
    """One INITIALIZE UPDATE that waits for its EXTERNAL AUTHENTICATE; good for one attempt."""

    def __init__(self, keys: StaticKeys, host_challenge: bytes, card_challenge: bytes) -> None:
        self._session = SessionKeys.derive(keys, host_challenge, card_challenge)
        self._keys = keys
        self.key_version = keys.version
        self.mode = self._session.mode

    def cryptogram(self) -> bytes:
        """The card's cryptogram for the answer to INITIALIZE UPDATE."""
        return self._session.card_cryptogram()

    def verify(self, command: CommandApdu, level: SecurityLevel) -> "CardChannel":
        """Check MAC and host cryptogram of EXTERNAL AUTHENTICATE. Raises SecureMessagingError on either, alike."""
        channel = Scp03Channel(self._session)
        proof = channel.open_command(command).data
        if not hmac.compare_digest(proof, self._session.host_cryptogram()):
            raise SecureMessagingError("the host cryptogram is wrong")
        channel.begin(level)
        return CardChannel(channel, self._keys.dek)


class CardChannel:
    """An open channel as the card sees it, with the Key-DEK of the key set that opened it."""

    def __init__(self, channel: Scp03Channel, dek: AesKey) -> None:
        self._channel = channel
        self.dek = dek

    @property
    def level(self) -> SecurityLevel:
        """The level in force."""
        return self._channel.level

    def open(self, command: CommandApdu) -> CommandApdu:
        """The command as the host meant it. Raises SecureMessagingError; then the channel is of no further use."""
        return self._channel.open_command(command)

    def protect(self, response: ResponseApdu) -> ResponseApdu:
        """The response as it leaves the card."""
        return self._channel.protect_response(response)
