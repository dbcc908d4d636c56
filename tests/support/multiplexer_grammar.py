"""The grammar of EMMG⇔MUX (ETSI TS 103 197, clause 6) as the strict multiplexer knows it, with plain struct."""

import struct

CHANNEL_SETUP, CHANNEL_TEST, CHANNEL_STATUS, CHANNEL_CLOSE, CHANNEL_ERROR = 0x11, 0x12, 0x13, 0x14, 0x15
STREAM_SETUP, STREAM_TEST, STREAM_STATUS, CLOSE_REQUEST, CLOSE_RESPONSE = 0x111, 0x112, 0x113, 0x114, 0x115
STREAM_ERROR, BW_REQUEST, BW_ALLOCATION, DATA_PROVISION = 0x116, 0x117, 0x118, 0x211
CLIENT_ID, FLAG, CHANNEL_ID, STREAM_ID, DATAGRAM, BANDWIDTH, DATA_TYPE, DATA_ID = 1, 2, 3, 4, 5, 6, 7, 8
ERROR_STATUS, ERROR_INFORMATION = 0x7000, 0x7001
SIZES = {CLIENT_ID: 4, FLAG: 1, CHANNEL_ID: 2, STREAM_ID: 2, BANDWIDTH: 2, DATA_TYPE: 1, DATA_ID: 2, ERROR_STATUS: 2}

CHANNEL_IDS = (CLIENT_ID, CHANNEL_ID)
STREAM_IDS = (*CHANNEL_IDS, STREAM_ID)
# message: (mandatory, optional). Everything else in it is an inv_param_type.
GRAMMAR = {
    CHANNEL_SETUP: ((*CHANNEL_IDS, FLAG), ()),
    CHANNEL_TEST: (CHANNEL_IDS, ()),
    CHANNEL_STATUS: ((*CHANNEL_IDS, FLAG), ()),
    CHANNEL_CLOSE: (CHANNEL_IDS, ()),
    CHANNEL_ERROR: ((*CHANNEL_IDS, ERROR_STATUS), (ERROR_INFORMATION,)),
    STREAM_SETUP: ((*STREAM_IDS, DATA_ID, DATA_TYPE), ()),
    STREAM_TEST: (STREAM_IDS, ()),
    STREAM_STATUS: ((*STREAM_IDS, DATA_ID, DATA_TYPE), ()),
    CLOSE_REQUEST: (STREAM_IDS, ()),
    STREAM_ERROR: ((*STREAM_IDS, ERROR_STATUS), (ERROR_INFORMATION,)),
    BW_REQUEST: (STREAM_IDS, (BANDWIDTH,)),
    DATA_PROVISION: ((CLIENT_ID, DATA_ID, DATAGRAM), (CHANNEL_ID, STREAM_ID)),
}
GRAMMAR_VERSION_1 = GRAMMAR | {
    STREAM_SETUP: ((*STREAM_IDS, DATA_TYPE), ()),
    STREAM_STATUS: ((*STREAM_IDS, DATA_TYPE), ()),
    DATA_PROVISION: ((*STREAM_IDS, DATAGRAM), ()),
}
REPEATED = {DATAGRAM, ERROR_STATUS, ERROR_INFORMATION}
INV_MESSAGE, INV_VERSION, INV_TYPE, INV_PARAM_TYPE, INV_LENGTH, MISSING, INV_VALUE = 1, 2, 3, 0x0A, 0x0B, 0x0C, 0x0D


class BadSyntaxError(Exception):
    """A message that breaks the grammar, with its error_status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"error_status 0x{status:04X}")
        self.status = status


class BadStateError(Exception):
    """A message at the wrong time or with wrong ids: the connection is closed without a word."""


def parse(message: bytes, versions: tuple[int, ...]) -> dict[int, list[bytes]]:
    """Return the parameters of a message by type. Raises BadSyntaxError with the error_status of the standard."""
    if len(message) < 5:
        raise BadSyntaxError(INV_MESSAGE)
    version, kind, length = struct.unpack_from(">BHH", message)
    if version not in versions:
        raise BadSyntaxError(INV_VERSION)
    if kind not in GRAMMAR:
        raise BadSyntaxError(INV_TYPE)
    mandatory, optional = (GRAMMAR_VERSION_1 if version == 1 else GRAMMAR)[kind]
    fields: dict[int, list[bytes]] = {}
    position = 5
    if len(message) != 5 + length:
        raise BadSyntaxError(INV_MESSAGE)
    while position < len(message):
        if position + 4 > len(message):
            raise BadSyntaxError(INV_MESSAGE)
        tag, size = struct.unpack_from(">HH", message, position)
        value = message[position + 4 : position + 4 + size]
        position += 4 + size
        if len(value) != size:
            raise BadSyntaxError(INV_MESSAGE)
        if tag not in (*mandatory, *optional):
            raise BadSyntaxError(INV_PARAM_TYPE)
        if tag in SIZES and size != SIZES[tag]:
            raise BadSyntaxError(INV_LENGTH)
        if (tag == FLAG and value[0] > 1) or (tag == DATA_TYPE and value[0] > 2):
            raise BadSyntaxError(INV_VALUE)
        fields.setdefault(tag, []).append(value)
    if any(tag not in fields for tag in mandatory):
        raise BadSyntaxError(MISSING)
    if any(len(values) > 1 and tag not in REPEATED for tag, values in fields.items()):
        raise BadSyntaxError(INV_MESSAGE)
    return fields
