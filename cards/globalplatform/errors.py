"""Errors of the GlobalPlatform wing. None carries a key, a cryptogram or a check of one."""

from cards.errors import CardsError


class GlobalPlatformError(CardsError):
    """Root of the errors of this wing."""


class KeyFormatError(GlobalPlatformError):
    """Bytes that are not an AES key, or keys that do not go together in one key set."""

    default_advice = "AES keys have 16, 24 or 32 bytes, and the three keys of a set have the same length"


class EncodingError(GlobalPlatformError):
    """Bytes that are not the TLV, data group or structure they should be, or a value that has no spelling."""


class ChannelStateError(GlobalPlatformError):
    """The caller asked a channel for something that its state does not allow: a mistake of the program."""

    default_advice = "this is an error of the program, not of the card; report it"


class NotACardManagerError(GlobalPlatformError):
    """The card has no GlobalPlatform card manager of the kind spoken here."""

    default_advice = "put in a card of this system; cards of others cannot be personalised here"


class LevelNotOfferedError(GlobalPlatformError):
    """The card does not offer the security level or the mode (S8, S16) that was asked for. No try was spent."""

    default_advice = "compare the mode and level in the settings with the card vendor's data sheet"


class WeakChannelError(GlobalPlatformError):
    """Keys would go over a channel that does not encrypt commands. Nothing was sent."""

    default_advice = "ask for security level 03, 13 or 33"


class KeySetUnknownError(GlobalPlatformError):
    """The card has no key set of the version asked for, or none that we hold keys of. No try was spent."""

    default_advice = "compare the key version with the transport-key file of the delivery"

    def __init__(self, message: str, key_version: int, advice: str = "") -> None:
        super().__init__(message, advice)
        self.key_version = key_version


class KeySetBlockedError(GlobalPlatformError):
    """The tries of this key set are used up; the card refuses it for good."""

    default_advice = "this key set cannot be used again: return the card to the vendor, take another"

    def __init__(self, key_version: int) -> None:
        super().__init__(f"the card has blocked key set {key_version:02X}: too many wrong keys were tried")
        self.key_version = key_version


class WrongKeyError(GlobalPlatformError):
    """The card's cryptogram does not fit our key. EXTERNAL AUTHENTICATE was not sent; try no other key blindly."""

    default_advice = "find out which keys this delivery has before trying again: every wrong try may count on the card"

    def __init__(self, key_version: int) -> None:
        super().__init__(f"our key set {key_version:02X} is not the one on this card")
        self.key_version = key_version


class AuthenticationRefusedError(GlobalPlatformError):
    """The card refused our cryptogram; one try is spent. `attempts_remaining` is None when the card does not say."""

    default_advice = "stop: find out which keys this delivery has before trying again"

    def __init__(self, key_version: int, attempts_remaining: int | None) -> None:
        left = "" if attempts_remaining is None else f"; {attempts_remaining} tries are left"
        super().__init__(f"the card refused our proof of key set {key_version:02X}{left}")
        self.key_version = key_version
        self.attempts_remaining = attempts_remaining


class SecureMessagingError(GlobalPlatformError):
    """A command or response of the secure channel is not authentic; the channel is closed."""

    default_advice = "take the card out, put it in again and repeat; if it stays so, suspect reader or cable"


class KeyCheckError(GlobalPlatformError):
    """The key check values echoed by the card are not those of the keys sent: the card may hold other keys."""

    default_advice = "put this card aside and do not give it out; it cannot be trusted to hold the right keys"


class OtherIdentityError(GlobalPlatformError):
    """The card is personalised already, with another identity or other keys of the same version."""

    default_advice = "read its number with: cad card read; a card keeps its first number for life"
