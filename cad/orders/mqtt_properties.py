"""Properties of a publication, packed by hand: paho's own take longer than all the rest of publishing a message."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LENGTH_MAX: Final = 0xFFFF

# MQTT 5.0, 2.2.2.2: identifiers of properties
_PAYLOAD_FORMAT: Final = b"\x01"
_CONTENT_TYPE: Final = b"\x03"
_CORRELATION_DATA: Final = b"\x09"
_USER_PROPERTY: Final = b"\x26"
_UTF_8: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class PublishProperties:
    """What a message of text is published with. paho asks nothing of it but `pack`."""

    content_type: str
    user_properties: Iterable[tuple[str, str]] = ()
    correlation: bytes | None = None

    def pack(self) -> bytes:
        """Return the properties as they stand in a PUBLISH packet, their length first (MQTT 5.0, 2.2.2)."""
        parts = [_PAYLOAD_FORMAT, _UTF_8, _CONTENT_TYPE, _string(self.content_type)]
        if self.correlation is not None:
            parts += (_CORRELATION_DATA, _binary(self.correlation))
        for name, value in self.user_properties:
            parts += (_USER_PROPERTY, _string(name), _string(value))
        packed = b"".join(parts)
        return _variable(len(packed)) + packed


def _string(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > LENGTH_MAX:
        raise ValueError(f"a property has at most {LENGTH_MAX} bytes, this one has {len(data)}")
    return len(data).to_bytes(2, "big") + data


def _variable(number: int) -> bytes:
    """Return a variable byte integer (MQTT 5.0, 1.5.5)."""
    made = bytearray()
    while True:
        number, digit = divmod(number, 0x80)
        made.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(made)
