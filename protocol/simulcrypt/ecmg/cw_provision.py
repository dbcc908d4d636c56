"""CW_provision in, ECM_response out, by hand: the two messages that come for every crypto-period of every service.

`ecmg_scs` declares them. What is read here is exactly what the declaration reads; whatever is not the usual form is
left to it, so that there is one judge of faults.
"""

import struct
from collections.abc import Collection
from typing import Final

from protocol.errors import EncodeError
from protocol.simulcrypt.ecmg_scs import (
    ACCESS_CRITERIA,
    CP_CW_COMBINATION,
    CP_DURATION,
    CP_NUMBER,
    CW_ENCRYPTION,
    ECM_CHANNEL_ID,
    ECM_DATAGRAM,
    ECM_STREAM_ID,
    CwProvision,
    EcmResponse,
)
from protocol.simulcrypt.frame import HEADER_SIZE, PARAMETER_HEAD_SIZE
from protocol.simulcrypt.schema import USER_DEFINED_FROM

_HEADER: Final = struct.Struct(">BHH")
_PARAMETER_HEAD: Final = struct.Struct(">HH")
_CHANNEL: Final = ECM_CHANNEL_ID.parameter_type
_STREAM: Final = ECM_STREAM_ID.parameter_type
_CP: Final = CP_NUMBER.parameter_type
_DURATION: Final = CP_DURATION.parameter_type
_CP_CW: Final = CP_CW_COMBINATION.parameter_type
_CRITERIA: Final = ACCESS_CRITERIA.parameter_type
_ENCRYPTION: Final = CW_ENCRYPTION.parameter_type
_NUMBERS: Final = frozenset({_CHANNEL, _STREAM, _CP, _DURATION})
_BYTES: Final = frozenset({_CRITERIA, _ENCRYPTION})
_TYPE: Final = CwProvision.message_type
# version, type, length; ECM_channel_id, ECM_stream_id, CP_number with type and length each; type and length of the ECM.
_RESPONSE: Final = struct.Struct(">BHH HHH HHH HHH HH")
_RESPONSE_FIXED: Final = _RESPONSE.size - HEADER_SIZE


def read_cw_provision(message: bytes, versions: Collection[int]) -> tuple[int, CwProvision] | None:
    """Return protocol version and CW_provision, or None: another message, or one that the declaration must judge."""
    end = len(message)
    if end < HEADER_SIZE:
        return None
    version, message_type, length = _HEADER.unpack_from(message)
    if message_type != _TYPE or length != end - HEADER_SIZE or version not in versions:
        return None
    numbers: dict[int, int] = {}
    values: dict[int, bytes] = {}
    combinations: list[bytes] = []
    at = HEADER_SIZE
    while at < end:
        start = at + PARAMETER_HEAD_SIZE
        if start > end:
            return None
        parameter_type, length = _PARAMETER_HEAD.unpack_from(message, at)
        at = start + length
        if at > end:
            return None
        if parameter_type == _CP_CW:
            combinations.append(message[start:at])
        elif parameter_type in _NUMBERS:
            if length != 2 or parameter_type in numbers:
                return None
            numbers[parameter_type] = message[start] << 8 | message[start + 1]
        elif parameter_type in _BYTES:
            if parameter_type in values:
                return None
            values[parameter_type] = message[start:at]
        elif parameter_type < USER_DEFINED_FROM:
            return None
    if _CHANNEL not in numbers or _STREAM not in numbers or _CP not in numbers:
        return None
    return version, CwProvision(
        ecm_channel_id=numbers[_CHANNEL],
        ecm_stream_id=numbers[_STREAM],
        cp_number=numbers[_CP],
        cw_encryption=values.get(_ENCRYPTION),
        cp_cw_combination=tuple(combinations),
        cp_duration=numbers.get(_DURATION),
        access_criteria=values.get(_CRITERIA),
    )


def write_ecm_response(
    protocol_version: int, ecm_channel_id: int, ecm_stream_id: int, cp_number: int, ecm_datagram: bytes
) -> bytes:
    """Return an ECM_response as the declaration spells it. Raises EncodeError for a number that does not fit."""
    size = len(ecm_datagram)
    try:
        return (
            _RESPONSE.pack(
                protocol_version,
                EcmResponse.message_type,
                _RESPONSE_FIXED + size,
                _CHANNEL,
                2,
                ecm_channel_id,
                _STREAM,
                2,
                ecm_stream_id,
                _CP,
                2,
                cp_number,
                ECM_DATAGRAM.parameter_type,
                size,
            )
            + ecm_datagram
        )
    except struct.error:
        raise EncodeError("a number of the ECM_response does not fit its field, or the ECM is too long") from None
