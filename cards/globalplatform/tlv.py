"""BER-TLV as cards use it (ISO/IEC 7816-4 clause 5.2.2) and data groups (GlobalPlatform Card Specification 11.11)."""

from collections.abc import Iterable
from typing import Final

from cards.globalplatform.errors import EncodingError

_LONG_GROUP: Final = 0xFF
_LENGTH_MAX: Final = 0xFFFF


def encode_tlv(tag: int, value: bytes) -> bytes:
    """One TLV; tag of one or two bytes, value of at most 65,535."""
    name = tag.to_bytes(2 if tag > 0xFF else 1, "big")
    size = len(value)
    if size > _LENGTH_MAX:
        raise EncodingError(f"a value has at most {_LENGTH_MAX} bytes, not {size}")
    if size < 0x80:
        return name + bytes((size,)) + value
    if size < 0x100:
        return name + bytes((0x81, size)) + value
    return name + b"\x82" + size.to_bytes(2, "big") + value


def decode_tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """All TLVs that `data` is made of, in order. Raises EncodingError when anything is left over or cut off."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        tag = data[offset]
        offset += 1
        if tag & 0x1F == 0x1F:
            if offset == len(data) or data[offset] & 0x80:
                raise EncodingError("a tag is cut off, or longer than two bytes")
            tag = tag << 8 | data[offset]
            offset += 1
        size, offset = _decode_length(data, offset)
        if offset + size > len(data):
            raise EncodingError("a value is cut off")
        found.append((tag, data[offset : offset + size]))
        offset += size
    return found


def _decode_length(data: bytes, offset: int) -> tuple[int, int]:
    first = data[offset : offset + 1]
    if first and first[0] < 0x80:
        return first[0], offset + 1
    width = first[0] & 0x7F if first else 0
    end = offset + 1 + width
    if not 1 <= width <= 2 or end > len(data):
        raise EncodingError("a length is cut off, or longer than three bytes")
    return int.from_bytes(data[offset + 1 : end], "big"), end


def encode_groups(groups: Iterable[tuple[int, bytes]]) -> bytes:
    """Data groups one after another: name of two bytes, length (FF and two bytes from 255 on), content."""
    out = bytearray()
    for name, content in groups:
        size = len(content)
        if size > _LENGTH_MAX:
            raise EncodingError(f"a data group has at most {_LENGTH_MAX} bytes, not {size}")
        length = bytes((size,)) if size < _LONG_GROUP else b"\xff" + size.to_bytes(2, "big")
        out += name.to_bytes(2, "big") + length + content
    return bytes(out)


def decode_groups(data: bytes) -> list[tuple[int, bytes]]:
    """All data groups that `data` is made of, in order. Raises EncodingError when one is cut off."""
    found: list[tuple[int, bytes]] = []
    offset = 0
    while offset < len(data):
        head = 5 if data[offset + 2 : offset + 3] == b"\xff" else 3
        if offset + head > len(data):
            raise EncodingError("the name or length of a data group is cut off")
        size = int.from_bytes(data[offset + 3 : offset + 5], "big") if head == 5 else data[offset + 2]
        end = offset + head + size
        if end > len(data):
            raise EncodingError("the content of a data group is cut off")
        found.append((int.from_bytes(data[offset : offset + 2], "big"), data[offset + head : end]))
        offset = end
    return found
