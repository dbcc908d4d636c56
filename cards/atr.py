"""The answer to reset: ISO/IEC 7816-3 clause 8 (its bytes), 7816-4 clause 12.1.1 (the historical ones)."""

from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Final

from cards.errors import AtrError

ATR_MAX: Final = 33
HISTORICAL_MAX: Final = 15

_TS_DIRECT: Final = 0x3B
_TS_INVERSE: Final = 0x3F
# T=1 alone (TD1, TD2), information field of 254 bytes (TA3), waiting times BWI 4 and CWI 5 (TB3).
_INTERFACE: Final = bytes((0x81, 0x31, 0xFE, 0x45))
_COMPACT_TLV: Final = 0x80
_CAPABILITIES_TAG: Final = 0x7
_APPLICATION_TAG: Final = 0xF
# Selection by the full application name; data units of one byte; extended Lc and Le (7816-4 table 117 to 119).
_CAPABILITIES: Final = bytes((0x80, 0x21, 0x40))


@dataclass(frozen=True, slots=True)
class Atr:
    """A parsed answer to reset. `protocols`: the T numbers offered, in order; [0] when none is named."""

    raw: bytes
    protocols: tuple[int, ...]
    historical: bytes

    @property
    def application(self) -> bytes | None:
        """The application identifier that the historical bytes name, or None."""
        if not self.historical or self.historical[0] != _COMPACT_TLV:
            return None
        rest = self.historical[1:]
        while rest:
            tag, length = divmod(rest[0], 16)
            value, rest = rest[1 : 1 + length], rest[1 + length :]
            if tag == _APPLICATION_TAG and len(value) == length:
                return value
        return None


def build(aid: bytes) -> bytes:
    """The answer to reset of a card with the application `aid` (5..16 bytes, as ISO/IEC 7816-4 has them).

    The historical bytes name the application when it has at most 9 bytes; a longer one does not fit.
    """
    if not 5 <= len(aid) <= 16:
        raise AtrError(f"an application identifier has 5 to 16 bytes, not {len(aid)}")
    historical = bytes((_COMPACT_TLV, _CAPABILITIES_TAG << 4 | len(_CAPABILITIES))) + _CAPABILITIES
    if len(historical) + 1 + len(aid) <= HISTORICAL_MAX:
        historical += bytes((_APPLICATION_TAG << 4 | len(aid),)) + aid
    body = bytes((0x80 | len(historical),)) + _INTERFACE + historical
    return bytes((_TS_DIRECT,)) + body + bytes((_check_character(body),))


def parse(raw: bytes) -> Atr:
    """Parse an answer to reset, all of `raw`. Raises AtrError."""
    if not 2 <= len(raw) <= ATR_MAX or raw[0] not in (_TS_DIRECT, _TS_INVERSE):
        raise AtrError(f"an answer to reset has 2 to {ATR_MAX} bytes and begins with 3B or 3F")
    history_length = raw[1] & 0x0F
    follows, position = raw[1] >> 4, 2
    protocols: list[int] = []
    while True:
        position += (follows & 0b0111).bit_count()  # TA, TB, TC
        if not follows & 0b1000:
            break
        if position >= len(raw):
            raise AtrError("the answer to reset ends within its interface bytes")
        follows, protocol = divmod(raw[position], 16)
        protocols.append(protocol)
        position += 1
    end = position + history_length
    has_check = any(protocol != 0 for protocol in protocols)
    if len(raw) != end + has_check:
        raise AtrError(f"the answer to reset announces {end + has_check} bytes and has {len(raw)}")
    if has_check and _check_character(raw[1:end]) != raw[end]:
        raise AtrError("the check character of the answer to reset is wrong")
    # T=15 qualifies global interface bytes and is not a protocol (7816-3 clause 8.2.3).
    offered = tuple(dict.fromkeys(protocol for protocol in protocols if protocol != 15)) or (0,)
    return Atr(raw, offered, raw[position:end])


def names_application(raw: bytes, aid: bytes) -> bool:
    """Whether an answer to reset, whatever it is, names the application `aid`."""
    try:
        return parse(raw).application == aid
    except AtrError:
        return False


def _check_character(body: bytes) -> int:
    return reduce(xor, body, 0)
