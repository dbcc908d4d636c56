"""Commands and responses of a card as bytes: ISO/IEC 7816-3 clause 12.1.3 and 7816-4 clause 5.1, short and extended."""

from dataclasses import dataclass
from typing import Final

from cards.errors import ApduError

SHORT_DATA_MAX: Final = 255
SHORT_LE_MAX: Final = 256
EXTENDED_DATA_MAX: Final = 65_535
EXTENDED_LE_MAX: Final = 65_536
_HEADER: Final = 4


@dataclass(frozen=True, slots=True, repr=False)
class CommandApdu:
    """One command. `le`: how many bytes of answer are wanted at most (1..65536), None for none.

    `extended` asks for the extended form of the lengths also where the short one would do; a command that needs
    the extended form gets it in any case. Raises ApduError when a field is out of range.
    """

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = b""
    le: int | None = None
    extended: bool = False

    def __post_init__(self) -> None:
        for name, value in (("CLA", self.cla), ("INS", self.ins), ("P1", self.p1), ("P2", self.p2)):
            if not 0 <= value <= 0xFF:
                raise ApduError(f"{name} of a command is one byte, not {value}")
        if len(self.data) > EXTENDED_DATA_MAX:
            raise ApduError(f"a command carries at most {EXTENDED_DATA_MAX} bytes, not {len(self.data)}")
        if self.le is not None and not 1 <= self.le <= EXTENDED_LE_MAX:
            raise ApduError(f"Le is 1..{EXTENDED_LE_MAX}, not {self.le}")

    def __repr__(self) -> str:
        return (
            f"CommandApdu({self.cla:02X} {self.ins:02X} {self.p1:02X} {self.p2:02X}, "
            f"{len(self.data)} bytes of data, le={self.le})"
        )

    @property
    def case(self) -> int:
        """1: neither data nor answer, 2: answer, 3: data, 4: both."""
        return 1 + (self.le is not None) + 2 * bool(self.data)

    def encode(self) -> bytes:
        """The command's bytes."""
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        wide = self.extended or len(self.data) > SHORT_DATA_MAX or (self.le or 0) > SHORT_LE_MAX
        if wide:
            return header + self._extended_body()
        lc = bytes((len(self.data),)) if self.data else b""
        le = b"" if self.le is None else bytes((self.le % SHORT_LE_MAX,))
        return header + lc + self.data + le

    def _extended_body(self) -> bytes:
        if self.case == 1:
            return b""
        lc = len(self.data).to_bytes(2, "big") if self.data else b""
        le = b"" if self.le is None else (self.le % EXTENDED_LE_MAX).to_bytes(2, "big")
        return b"\x00" + lc + self.data + le

    @classmethod
    def decode(cls, raw: bytes) -> "CommandApdu":
        """Parse one command, all of `raw`. Raises ApduError.

        ISO/IEC 7816-3 table 13: the length and the byte after the header tell the seven forms apart.
        """
        if len(raw) < _HEADER:
            raise ApduError(f"a command has at least {_HEADER} bytes, not {len(raw)}")
        data, le, extended = _decode_body(raw[_HEADER:])
        return cls(raw[0], raw[1], raw[2], raw[3], data, le, extended)


def _decode_body(body: bytes) -> tuple[bytes, int | None, bool]:
    if not body:  # case 1
        return b"", None, False
    if len(body) == 1:  # case 2 short
        return b"", body[0] or SHORT_LE_MAX, False
    if body[0]:  # case 3 and 4 short
        lc, rest = body[0], body[1:]
        if len(rest) == lc:
            return rest, None, False
        if len(rest) == lc + 1:
            return rest[:lc], rest[lc] or SHORT_LE_MAX, False
        raise ApduError(f"Lc says {lc} bytes of data, but {len(rest)} bytes follow it")
    if len(body) < 3:
        raise ApduError("an extended length has two bytes")
    number, rest = int.from_bytes(body[1:3], "big"), body[3:]
    if not rest:  # case 2 extended
        return b"", number or EXTENDED_LE_MAX, True
    if not number:
        raise ApduError("an extended Lc is not 0")
    if len(rest) == number:  # case 3 extended
        return rest, None, True
    if len(rest) == number + 2:  # case 4 extended
        return rest[:number], int.from_bytes(rest[number:], "big") or EXTENDED_LE_MAX, True
    raise ApduError(f"the extended Lc says {number} bytes of data, but {len(rest)} bytes follow it")


@dataclass(frozen=True, slots=True, repr=False)
class ResponseApdu:
    """One response: data and status word. The repr names only the length: the data may be control words."""

    sw: int
    data: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.sw <= 0xFFFF:
            raise ApduError(f"a status word has two bytes, not the value {self.sw}")
        if len(self.data) > EXTENDED_LE_MAX:
            raise ApduError(f"a response carries at most {EXTENDED_LE_MAX} bytes, not {len(self.data)}")

    def __repr__(self) -> str:
        return f"ResponseApdu(sw={self.sw:04X}, {len(self.data)} bytes of data)"

    def encode(self) -> bytes:
        """The response's bytes: data, then the status word."""
        return self.data + self.sw.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> "ResponseApdu":
        """Parse one response, all of `raw`. Raises ApduError."""
        if len(raw) < 2:
            raise ApduError(f"a response has at least the two bytes of its status word, not {len(raw)}")
        return cls(int.from_bytes(raw[-2:], "big"), raw[:-2])
