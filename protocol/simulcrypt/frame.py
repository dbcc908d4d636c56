"""The outer form of every SimulCrypt message, on all interfaces: header, then parameters in any order."""

import io
from dataclasses import dataclass
from typing import Final

from construct import ConstructError, GreedyBytes, Int8ub, Int16ub, Prefixed, Struct

from protocol.errors import DecodeError, EncodeError

# ETSI TS 103 197, clause 4.4.1 "Generic message structure": protocol_version, message_type, message_length, then
# for each parameter parameter_type, parameter_length, value. Lengths do not count what stands before them.
HEADER: Final = Struct("protocol_version" / Int8ub, "message_type" / Int16ub, "message_length" / Int16ub)
PARAMETER: Final = Struct("parameter_type" / Int16ub, "value" / Prefixed(Int16ub, GreedyBytes))

HEADER_SIZE: Final = 5
PARAMETER_HEAD_SIZE: Final = 4
BODY_MAX: Final = 0xFFFF
MESSAGE_MAX: Final = HEADER_SIZE + BODY_MAX


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it stands on the wire, its parameters not yet understood."""

    protocol_version: int
    message_type: int
    parameters: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Header:
    """The first five bytes of a message."""

    protocol_version: int
    message_type: int
    message_length: int


def read_header(data: bytes | bytearray | memoryview) -> Header:
    """Return the header at the start of `data`. Raises DecodeError if there are fewer than five bytes."""
    if len(data) < HEADER_SIZE:
        raise DecodeError(f"a message has a header of {HEADER_SIZE} bytes, here are {len(data)}", 0)
    fields = HEADER.parse(bytes(data[:HEADER_SIZE]))
    return Header(int(fields.protocol_version), int(fields.message_type), int(fields.message_length))


def read_frame(message: bytes) -> Frame:
    """Take one whole message apart. Raises DecodeError when a length does not fit what is there."""
    header = read_header(message)
    body_size = len(message) - HEADER_SIZE
    if header.message_length != body_size:
        raise DecodeError(f"message_length is {header.message_length}, but {body_size} bytes follow", 3)
    stream = io.BytesIO(message)
    stream.seek(HEADER_SIZE)
    parameters: list[tuple[int, bytes]] = []
    while (offset := stream.tell()) < len(message):
        try:
            parameter = PARAMETER.parse_stream(stream)
        except ConstructError:
            raise DecodeError("the last parameter is cut short", offset) from None
        parameters.append((int(parameter.parameter_type), bytes(parameter.value)))
    return Frame(header.protocol_version, header.message_type, tuple(parameters))


def write_frame(frame: Frame) -> bytes:
    """Return the bytes of a message. Raises EncodeError when it does not fit 65,535 bytes of body."""
    try:
        body = b"".join(
            PARAMETER.build({"parameter_type": parameter_type, "value": value})
            for parameter_type, value in frame.parameters
        )
        head = HEADER.build(
            {
                "protocol_version": frame.protocol_version,
                "message_type": frame.message_type,
                "message_length": len(body),
            }
        )
    except ConstructError:
        raise EncodeError(f"a message holds at most {BODY_MAX} bytes of parameters") from None
    return bytes(head) + body


class MessageSplitter:
    """Cut a stream of bytes into whole messages.

    Pieces may come in any size. Nothing is checked but the length, so that each message is judged by itself. At most
    one message and the last piece are held. Of a message longer than `longest` bytes only the header is handed out,
    and the rest is passed over without being held.
    """

    def __init__(self, longest: int = MESSAGE_MAX) -> None:
        self._held = bytearray()
        self._longest = longest
        self._to_skip = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes and return each message that is complete now, header included."""
        held = self._held
        held += data
        complete: list[bytes] = []
        start = 0
        while len(held) - start > self._to_skip:
            start += self._to_skip
            self._to_skip = 0
            if len(held) - start < HEADER_SIZE:
                break
            size = HEADER_SIZE + int.from_bytes(held[start + 3 : start + HEADER_SIZE], "big")
            if size > self._longest:
                complete.append(bytes(held[start : start + HEADER_SIZE]))
                start += HEADER_SIZE
                self._to_skip = size - HEADER_SIZE
                continue
            if len(held) < start + size:
                break
            complete.append(bytes(held[start : start + size]))
            start += size
        if self._to_skip:
            skipped = min(self._to_skip, len(held) - start)
            start += skipped
            self._to_skip -= skipped
        del held[:start]
        return complete

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._held)
