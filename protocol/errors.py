"""Errors of the package: everything that bytes or text from outside can do wrong."""


class ProtocolError(Exception):
    """Root of all errors raised by `protocol`."""


class DecodeError(ProtocolError):
    """Bytes or text from outside that are not what they should be.

    `what` says in plain words what is wrong and never holds the bytes; `offset` is the byte where it was seen, counted
    from the start of the decoded object, or None where no single byte is to blame.
    """

    def __init__(self, what: str, offset: int | None = None) -> None:
        super().__init__(what if offset is None else f"{what} (at byte {offset})")
        self.what = what
        self.offset = offset


class EncodeError(ProtocolError):
    """A value that cannot be spelled in this format, and why: too long, out of range."""


class CardNumberError(ProtocolError):
    """Text that is not a card number: wrong length, wrong character or wrong check digit."""


class ReceiverNumberError(ProtocolError):
    """Text that is not a receiver number: wrong length, wrong character or wrong check digits."""


class LocalProtocolError(ProtocolError):
    """Our own side asked a session for something that its state does not allow: a mistake of the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; the connection is of no further use."""
