"""Errors of the package `protocol`: one root, and what went wrong as attributes."""


class ProtocolError(Exception):
    """Root of everything that `protocol` raises on its own account."""


class DecodeError(ProtocolError):
    """Bytes from outside that are not what they should be. The text says what was wrong, and never holds the bytes."""


class EncodeError(ProtocolError):
    """A value that cannot be spelled in this format, and why."""


class CardNumberError(ProtocolError):
    """A printed card number that is mistyped, or a card address out of range."""
