"""One stream of an ECMG's channel: what it has to remember, and who makes its ECMs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.errors import DecodeError
from protocol.simulcrypt.ecmg.conversation import StreamState
from protocol.simulcrypt.ecmg.profile import EcmgProfile
from protocol.simulcrypt.ecmg.words import OrderRefusedError, words_by_period, words_for_ecm
from protocol.simulcrypt.ecmg_scs import ACCESS_CRITERIA, ECM_CHANNEL_ID, ECM_STREAM_ID, CwProvision, ErrorStatus
from protocol.simulcrypt.frame import read_frame


class EcmMaker(Protocol):
    """Makes the ECM. It is asked at once, with everything that the ECM says."""

    def make(self, cp_number: int, words: Sequence[bytes], access_criteria: bytes) -> bytes:
        """Return the ECM_datagram: the first word is that of crypto-period `cp_number`, the second the next one's.

        Raises OrderRefusedError.
        """
        ...

    def prepare(self) -> None:
        """Do ahead what the next ECM will need. Called when the answers have been sent, and nobody waits."""
        ...


@dataclass(slots=True)
class Stream:
    """`kept` are control words of the last message, only where the SCS sends each of them once."""

    ecm_id: int
    state: StreamState = StreamState.NOT_OPEN
    access_criteria: bytes | None = None
    kept: dict[int, bytes] = field(default_factory=dict[int, bytes], repr=False)

    def words(self, order: CwProvision, profile: EcmgProfile) -> list[bytes]:
        """Return the control words of the ECM that is ordered. Raises OrderRefusedError."""
        given = words_by_period(order)
        kept = self.kept
        # lead_CW 1, CW_per_msg 1: each message brings the next word; the present one came in the message before.
        if profile.cw_per_msg <= profile.lead_cw:
            self.kept = given
        return words_for_ecm(order.cp_number, profile.lead_cw, given, kept)

    def criteria(self, order: CwProvision) -> bytes:
        """Return the access criteria in force; an SCS may leave them out while they do not change.

        Raises OrderRefusedError when there never were any.
        """
        if order.access_criteria is not None:
            # Noted before anybody knows whether they are right: after wrong ones the former hold no more.
            self.access_criteria = order.access_criteria
        if self.access_criteria is None:
            raise OrderRefusedError(
                "no access_criteria have come for this stream: enter those of the service in the scrambler",
                ErrorStatus.MISSING_PARAM,
                ACCESS_CRITERIA.parameter_type,
            )
        return self.access_criteria


def ids_in(whole: bytes) -> dict[int, int]:
    """Return ECM_channel_id and ECM_stream_id, as far as they stand in a message that cannot be read otherwise."""
    found: dict[int, int] = {}
    try:
        parameters = read_frame(whole).parameters
    except DecodeError:
        return found
    for parameter_type, value in parameters:
        if parameter_type in (ECM_CHANNEL_ID.parameter_type, ECM_STREAM_ID.parameter_type) and len(value) == 2:
            found.setdefault(parameter_type, int.from_bytes(value, "big"))
    return found
