"""Which control words of a CW_provision go into the ECM, and when they do not suffice."""

from collections.abc import Mapping
from typing import Final

from protocol.errors import ProtocolError
from protocol.simulcrypt.ecmg_scs import CP_CW_COMBINATION, CW_ENCRYPTION, CwProvision, ErrorStatus

CP_SIZE: Final = 2
WORD_SIZES: Final = (8, 16)
"""DVB-CSA1/2 has control words of 8 bytes, DVB-CISSA and CSA3 of 16."""
CP_NUMBERS: Final = 0x10000


class OrderRefusedError(ProtocolError):
    """No ECM can be made of this CW_provision; the text says why and what to do, without any of its bytes."""

    def __init__(self, what: str, error_status: ErrorStatus, parameter_type: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.error_status = error_status
        self.parameter_type = parameter_type

    @property
    def error_information(self) -> tuple[bytes, ...]:
        """Two bytes: the parameter_type to blame; nothing where no parameter is to blame."""
        return () if self.parameter_type is None else (self.parameter_type.to_bytes(2, "big"),)


def words_by_period(provision: CwProvision) -> dict[int, bytes]:
    """Return the control words by crypto-period. Raises OrderRefusedError for what is not a set of control words."""
    if provision.cw_encryption is not None:
        raise OrderRefusedError(
            "the control words are encrypted, which this ECMG does not do: switch CW encryption off in the scrambler",
            ErrorStatus.INV_PARAM_VALUE,
            CW_ENCRYPTION.parameter_type,
        )
    words: dict[int, bytes] = {}
    size = 0
    for combination in provision.cp_cw_combination:
        word = combination[CP_SIZE:]
        if len(word) not in WORD_SIZES or (size and len(word) != size):
            raise OrderRefusedError(
                "a CP_CW_combination has 2 bytes and a control word of 8 or of 16, all of one size",
                ErrorStatus.INV_PARAM_LENGTH,
                CP_CW_COMBINATION.parameter_type,
            )
        size = len(word)
        period = combination[0] << 8 | combination[1]
        if words.setdefault(period, word) != word:
            raise OrderRefusedError(
                f"crypto-period {period} has two different control words",
                ErrorStatus.INV_PARAM_VALUE,
                CP_CW_COMBINATION.parameter_type,
            )
    return words


def words_for_ecm(cp_number: int, lead_cw: int, words: Mapping[int, bytes], kept: Mapping[int, bytes]) -> list[bytes]:
    """Return the words of the ECM of crypto-period `cp_number`: its own and, with lead_cw 1, the next one's.

    `kept` are those of the message before, for SCSs that send each word once. CP_number counts on from 65,535 to 0.
    Raises OrderRefusedError with NOT_ENOUGH_CW.
    """
    chosen: list[bytes] = []
    for ahead in range(lead_cw + 1):
        period = (cp_number + ahead) % CP_NUMBERS
        word = words.get(period) or kept.get(period)
        if word is None:
            raise OrderRefusedError(
                f"the control word of crypto-period {period} is missing for the ECM of {cp_number}",
                ErrorStatus.NOT_ENOUGH_CW,
                CP_CW_COMBINATION.parameter_type,
            )
        chosen.append(word)
    if len(chosen[0]) != len(chosen[-1]):
        raise OrderRefusedError(
            "the size of the control words has changed between two messages",
            ErrorStatus.INV_PARAM_LENGTH,
            CP_CW_COMBINATION.parameter_type,
        )
    return chosen
