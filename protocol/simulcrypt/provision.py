"""Datagrams into data_provision messages, within the limits of a multiplexer. Fast: the fixed part is encoded once."""

import struct
from collections.abc import Sequence
from typing import Final

from protocol.errors import EncodeError
from protocol.simulcrypt.emmg_mux import DATAGRAM, EMMG_MUX, DataForm, DataProvision
from protocol.simulcrypt.frame import HEADER_SIZE, MESSAGE_MAX, PARAMETER_HEAD_SIZE

TS_PACKET_SIZE: Final = 188
TS_SYNC_BYTE: Final = 0x47
SECTION_HEADER_SIZE: Final = 3

_HEAD: Final = struct.Struct(">BHH")
_DATAGRAM_HEAD: Final = struct.Struct(">HH")


class ProvisionFramer:
    """Build the data_provision messages of one stream.

    `datagrams_max` and `bytes_max` limit each message, header included; some multiplexers lose what goes beyond.
    """

    def __init__(
        self,
        stream: DataProvision,
        protocol_version: int,
        form: DataForm,
        datagrams_max: int,
        bytes_max: int = MESSAGE_MAX,
    ) -> None:
        empty = EMMG_MUX.encode(
            DataProvision(
                client_id=stream.client_id,
                data_channel_id=stream.data_channel_id,
                data_stream_id=stream.data_stream_id,
                data_id=stream.data_id,
                datagram=(b"",),
            ),
            protocol_version,
        )
        self._ids = empty[HEADER_SIZE:-PARAMETER_HEAD_SIZE]
        self._version = protocol_version
        self._check = check_section if form is DataForm.SECTION else check_ts_packets
        self._datagrams_max = datagrams_max
        self._bytes_max = min(bytes_max, MESSAGE_MAX)
        if datagrams_max < 1 or self._bytes_max <= HEADER_SIZE + len(self._ids) + PARAMETER_HEAD_SIZE:
            raise EncodeError("a data_provision must have room for at least one datagram")

    def messages(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Return the messages that carry these datagrams, in order.

        Raises EncodeError if one is not what the channel carries, or is too long for a message by itself.
        """
        built: list[bytes] = []
        parts: list[bytes] = []
        body_size = len(self._ids)
        for datagram in datagrams:
            self._check(datagram)
            size = PARAMETER_HEAD_SIZE + len(datagram)
            if parts and (len(parts) == 2 * self._datagrams_max or HEADER_SIZE + body_size + size > self._bytes_max):
                built.append(self._message(parts, body_size))
                parts, body_size = [], len(self._ids)
            if HEADER_SIZE + body_size + size > self._bytes_max:
                raise EncodeError(
                    f"a datagram of {len(datagram)} bytes does not fit {self._bytes_max} bytes of message"
                )
            parts += (_DATAGRAM_HEAD.pack(DATAGRAM.parameter_type, len(datagram)), datagram)
            body_size += size
        if parts:
            built.append(self._message(parts, body_size))
        return built

    def _message(self, parts: list[bytes], body_size: int) -> bytes:
        return b"".join((_HEAD.pack(self._version, DataProvision.message_type, body_size), self._ids, *parts))


def check_section(datagram: bytes) -> None:
    """Raise EncodeError unless the datagram is exactly one section. Multiplexers want one section per datagram."""
    if len(datagram) < SECTION_HEADER_SIZE or ((datagram[1] & 0x0F) << 8 | datagram[2]) + SECTION_HEADER_SIZE != len(
        datagram
    ):
        raise EncodeError(f"a datagram of {len(datagram)} bytes is not exactly one section")


def check_ts_packets(datagram: bytes) -> None:
    """Raise EncodeError unless the datagram is whole TS packets, each with its sync byte."""
    if not datagram or len(datagram) % TS_PACKET_SIZE:
        raise EncodeError(f"a datagram of {len(datagram)} bytes is not whole TS packets of {TS_PACKET_SIZE} bytes")
    if any(datagram[start] != TS_SYNC_BYTE for start in range(0, len(datagram), TS_PACKET_SIZE)):
        raise EncodeError("a TS packet does not start with the sync byte 0x47")
