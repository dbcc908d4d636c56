"""Key bytes that do not show themselves (I8)."""

from typing import Final

KEY_SIZE: Final = 16
SIV_KEY_SIZE: Final = 32


class Secret(bytes):
    """Bytes of a key or of a control word: equal and usable as bytes, but opaque to `repr`, `str` and `format`.

    Slicing, joining and `hex()` give plain, visible values: do not put those anywhere a person could read them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<secret of {len(self)} bytes>"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, format_spec: str) -> str:
        return format(repr(self), format_spec)
