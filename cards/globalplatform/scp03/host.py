"""The host's side of SCP03, sans I/O: ask the card, look at its offer, prove the keys, then protect commands."""

import hmac
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from cards.apdu import SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.globalplatform.errors import (
    AuthenticationRefusedError,
    ChannelStateError,
    EncodingError,
    KeySetBlockedError,
    KeySetUnknownError,
    LevelNotOfferedError,
    NotACardManagerError,
    SecureMessagingError,
    WrongKeyError,
)
from cards.globalplatform.scp03.channel import Scp03Channel
from cards.globalplatform.scp03.keys import (
    BLOCK,
    SEQUENCE_COUNTER_SIZE,
    AesKey,
    Mode,
    SecurityLevel,
    SessionKeys,
    StaticKeys,
)
from cards.globalplatform.status_word import GpStatusWord, is_failed_try, refuse, tries_remaining

CLA: Final = 0x80
CLA_SECURED: Final = 0x84
INS_INITIALIZE_UPDATE: Final = 0x50
INS_EXTERNAL_AUTHENTICATE: Final = 0x82
SCP03: Final = 0x03

# Amendment D table 5-1: bits of the parameter i.
OPTION_S16: Final = 0x01
OPTION_PSEUDO_RANDOM: Final = 0x10
OPTION_R_MAC: Final = 0x20
OPTION_R_ENC: Final = 0x40

DIVERSIFICATION_SIZE: Final = 10
_FIXED: Final = DIVERSIFICATION_SIZE + 3
_NO_MANAGER: Final = (
    GpStatusWord.WRONG_INSTRUCTION,
    GpStatusWord.WRONG_CLASS,
    GpStatusWord.NOT_FOUND,
)


@dataclass(frozen=True, slots=True)
class CardOffer:
    """The answer to INITIALIZE UPDATE (Amendment D table 7-3): all that is known before a key is chosen.

    `diversification` (10 bytes) and `key_version` say which keys this card has; `options` is the parameter i;
    `sequence_counter` is None when the card's challenge is random.
    """

    diversification: bytes
    key_version: int
    options: int
    mode: Mode
    card_challenge: bytes
    card_cryptogram: bytes
    sequence_counter: int | None

    @classmethod
    def decode(cls, data: bytes, mode: Mode) -> "CardOffer":
        """Parse the response data for the mode that the host's challenge chose. Raises EncodingError."""
        short = _FIXED + 2 * mode
        if len(data) not in (short, short + SEQUENCE_COUNTER_SIZE):
            raise EncodingError(f"the answer to INITIALIZE UPDATE has {len(data)} bytes, {short} or 3 more are right")
        version, protocol, options = data[DIVERSIFICATION_SIZE:_FIXED]
        if protocol != SCP03:
            raise NotACardManagerError(
                f"the card speaks secure channel protocol {protocol:02X}, here only 03 is spoken"
            )
        middle = _FIXED + mode
        counter = int.from_bytes(data[short:], "big") if len(data) > short else None
        return cls(
            data[:DIVERSIFICATION_SIZE], version, options, mode, data[_FIXED:middle], data[middle:short], counter
        )

    def encode(self) -> bytes:
        """The response data."""
        counter = b"" if self.sequence_counter is None else self.sequence_counter.to_bytes(SEQUENCE_COUNTER_SIZE, "big")
        head = self.diversification + bytes((self.key_version, SCP03, self.options))
        return head + self.card_challenge + self.card_cryptogram + counter

    def offers(self, level: SecurityLevel) -> bool:
        """Whether the card can protect responses as `level` asks."""
        return (not level.response_mac or bool(self.options & OPTION_R_MAC)) and (
            not level.response_encryption or bool(self.options & OPTION_R_ENC)
        )


class _State(Enum):
    NEW = auto()
    ASKED = auto()
    OFFERED = auto()
    PROVING = auto()
    OPEN = auto()
    CLOSED = auto()


# What may be called in which state, and where it leads when it succeeds; every failure leads to CLOSED.
_TRANSITIONS: Final[dict[tuple[_State, str], _State]] = {
    (_State.NEW, "initialize_update"): _State.ASKED,
    (_State.ASKED, "receive_offer"): _State.OFFERED,
    (_State.OFFERED, "authenticate"): _State.PROVING,
    (_State.PROVING, "receive_verdict"): _State.OPEN,
}


class HostHandshake:
    """Opens one secure channel, in four steps that are called in this order, each once.

    `host_challenge` is fresh and random, 8 bytes for S8 and 16 for S16. `key_version` 0 lets the card choose.
    A handshake tries one key set and no other: on any error it is closed, and what to try next is for the caller
    to decide, who sees the card's key version and diversification data before a key is used.
    """

    def __init__(self, host_challenge: bytes, key_version: int, level: SecurityLevel) -> None:
        try:
            self._mode = Mode(len(host_challenge))
        except ValueError:
            raise ChannelStateError("the host challenge has 8 bytes (S8) or 16 (S16)") from None
        self._challenge = host_challenge
        self._key_version = key_version
        self._level = level
        self._state = _State.NEW
        self._offer: CardOffer | None = None
        self._pending: tuple[Scp03Channel, AesKey] | None = None

    def initialize_update(self) -> CommandApdu:
        """Amendment D clause 7.1.1. Costs no try."""
        self._step("initialize_update")
        return CommandApdu(CLA, INS_INITIALIZE_UPDATE, self._key_version, 0, self._challenge, SHORT_LE_MAX)

    def receive_offer(self, response: ResponseApdu) -> CardOffer:
        """Take the answer to INITIALIZE UPDATE; nothing is checked with a key yet.

        Raises KeySetUnknownError, KeySetBlockedError, NotACardManagerError, LevelNotOfferedError, EncodingError,
        CardRefusedError.
        """
        self._step("receive_offer")
        try:
            self._offer = self._read_offer(response)
        except Exception:
            self._state = _State.CLOSED
            raise
        return self._offer

    def authenticate(self, keys: StaticKeys) -> CommandApdu:
        """Check the card's cryptogram, then give EXTERNAL AUTHENTICATE. Raises WrongKeyError: then send nothing."""
        self._step("authenticate")
        offer = self._offer
        if offer is None:
            raise ChannelStateError("the card has made no offer")
        session = SessionKeys.derive(keys, self._challenge, offer.card_challenge)
        proven = hmac.compare_digest(session.card_cryptogram(), offer.card_cryptogram)
        if keys.version != offer.key_version or not proven:
            self._state = _State.CLOSED
            raise WrongKeyError(offer.key_version)
        channel = Scp03Channel(session)
        self._pending = channel, keys.dek
        proof = CommandApdu(CLA_SECURED, INS_EXTERNAL_AUTHENTICATE, self._level, 0, session.host_cryptogram())
        return channel.protect_command(proof)

    def receive_verdict(self, response: ResponseApdu) -> "HostChannel":
        """Take the answer to EXTERNAL AUTHENTICATE. Raises AuthenticationRefusedError, KeySetBlockedError,
        CardRefusedError.
        """
        self._step("receive_verdict")
        if self._pending is None or self._offer is None:
            raise ChannelStateError("nothing has been proven")
        if response.sw != GpStatusWord.OK:
            self._state = _State.CLOSED
            version = self._offer.key_version
            if is_failed_try(response.sw):
                raise AuthenticationRefusedError(version, tries_remaining(response.sw))
            if response.sw == GpStatusWord.BLOCKED:
                raise KeySetBlockedError(version)
            refuse("EXTERNAL AUTHENTICATE", response.sw)
        channel, dek = self._pending
        channel.begin(self._level)
        return HostChannel(channel, dek, self._offer)

    def _step(self, name: str) -> None:
        target = _TRANSITIONS.get((self._state, name))
        if target is None:
            raise ChannelStateError(f"{name} is not possible now: the handshake is {self._state.name}")
        self._state = target

    def _read_offer(self, response: ResponseApdu) -> CardOffer:
        if response.sw == GpStatusWord.REFERENCE_NOT_FOUND:
            raise KeySetUnknownError(f"the card has no key set {self._key_version:02X}", self._key_version)
        if response.sw == GpStatusWord.BLOCKED:
            raise KeySetBlockedError(self._key_version)
        if response.sw in _NO_MANAGER:
            raise NotACardManagerError("the card does not know INITIALIZE UPDATE")
        if response.sw != GpStatusWord.OK:
            refuse("INITIALIZE UPDATE", response.sw)
        offer = CardOffer.decode(response.data, self._mode)
        if self._key_version not in (0, offer.key_version):
            raise KeySetUnknownError(
                f"the card offers key set {offer.key_version:02X} instead of {self._key_version:02X}", offer.key_version
            )
        if bool(offer.options & OPTION_S16) != (self._mode is Mode.S16) or not offer.offers(self._level):
            raise LevelNotOfferedError(
                f"the card (i={offer.options:02X}) does not offer {self._mode.name} at level {self._level:02X}"
            )
        return offer


class HostChannel:
    """An open secure channel: `wrap` a command, send it, `unwrap` its response, and so on in turn.

    After any error the channel is closed and refuses everything; open a new one.
    """

    def __init__(self, channel: Scp03Channel, dek: AesKey, offer: CardOffer) -> None:
        self._channel: Scp03Channel | None = channel
        self._dek = dek
        self._waiting = False
        self.offer = offer

    @property
    def level(self) -> SecurityLevel:
        """The level in force."""
        return self._live().level

    @property
    def data_max(self) -> int:
        """How many bytes of data fit one protected command with short lengths."""
        return self._live().data_max

    def wrap(self, command: CommandApdu) -> CommandApdu:
        """The command as it goes to the card."""
        channel = self._live()
        if self._waiting:
            raise ChannelStateError("the response to the last command has not been unwrapped yet")
        self._waiting = True
        return channel.protect_command(command)

    def unwrap(self, response: ResponseApdu) -> ResponseApdu:
        """The response as the card meant it. Raises SecureMessagingError and closes when it is not authentic."""
        channel = self._live()
        if not self._waiting:
            raise ChannelStateError("no command is waiting for a response")
        self._waiting = False
        try:
            return channel.open_response(response)
        except SecureMessagingError:
            self.close()
            raise

    def encrypt_sensitive(self, data: bytes) -> bytes:
        """`data`, filled up to whole blocks with zeros, under Key-DEK (Amendment D clause 6.2.8)."""
        self._live()
        return self._dek.encrypt_cbc(data + bytes(-len(data) % BLOCK))

    def close(self) -> None:
        """Forget the session's keys."""
        self._channel = None

    def _live(self) -> Scp03Channel:
        if self._channel is None:
            raise ChannelStateError("the secure channel is closed")
        return self._channel
