"""Errors of the ledger."""

from cad.errors import CadError


class LedgerError(CadError):
    """Root of what the ledger raises."""


class LedgerUnavailable(LedgerError):  # noqa: N818 - it reads as what happened
    """Nothing can be stored at present; nothing of the failed call was. `reason` and `advice` are for a person.

    `broken` is True when waiting does not help: the file itself is damaged or not ours.
    """

    def __init__(self, reason: str, advice: str, *, broken: bool = False) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
        self.advice = advice
        self.broken = broken


class LedgerRefused(LedgerError):  # noqa: N818 - it reads as what happened
    """The ledger exists, but is not for this program, this key or this moment to use."""


class VersionWouldFall(LedgerRefused):
    """The period counted now is below one that cards have seen: every card would ignore what is sent (I3)."""


class AuditBroken(LedgerError):  # noqa: N818 - it reads as what happened
    """The audit chain does not verify. `seq` is the first record in question, `reason` what was found."""

    def __init__(self, seq: int, reason: str) -> None:
        super().__init__(f"audit record {seq}: {reason}")
        self.seq = seq
        self.reason = reason


class CopyBroken(LedgerError):  # noqa: N818 - it reads as what happened
    """An operator's rows could not be read as of one moment; nothing is wrong with them."""
