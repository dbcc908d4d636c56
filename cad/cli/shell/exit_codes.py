"""Exit codes of the `cad` command, and which error gives which. Documented in docs/operator.md (a test compares)."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What the shell sees."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Make a member that says what it means."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done; what was checked holds"
    DEFECT = 1, "an unexpected failure: a defect of the program, please report it"
    USAGE = 2, "the command line is wrong"
    SETTINGS = 3, "the settings file cannot be used"
    CHECK_FAILED = 4, "something that was checked does not hold"
    UNREACHABLE = 5, "the daemon does not run, or may not be asked by this user"
    KEYS = 6, "the master key cannot be made or opened"
    BUSY = 7, "another daemon runs, or an address is taken"
    NOT_FOUND = 8, "what was asked about does not exist"
    STATE = 9, "the state directory or the ledger cannot be used"
    CARD = 10, "the card, the reader or the card service refuses or is missing"
    INPUT = 11, "a card number, a file or bytes given to the command are not what they should be"
    FAILED = 12, "the work could not be done; the message says why"
    ABORTED = 130, "interrupted by the user or by a second signal"


# By dotted name, so that no package is imported only to know its errors. The nearest ancestor of an error counts.
CODE_OF_ERROR: Final[Mapping[str, ExitCode]] = {
    "config.errors.SettingsError": ExitCode.SETTINGS,
    "cad.errors.CadError": ExitCode.FAILED,
    "cad.errors.AlreadyRunningError": ExitCode.BUSY,
    "cad.errors.ListenError": ExitCode.BUSY,
    "cad.errors.KeyStoreError": ExitCode.KEYS,
    "cad.errors.StateError": ExitCode.STATE,
    "cad.errors.DaemonUnreachableError": ExitCode.UNREACHABLE,
    "cad.errors.BatchFileError": ExitCode.INPUT,
    "cad.errors.CatalogueFileError": ExitCode.INPUT,
    "cad.errors.NotFoundError": ExitCode.NOT_FOUND,
    "cad.errors.QuestionError": ExitCode.INPUT,
    "cad.errors.CheckFailedError": ExitCode.CHECK_FAILED,
    "cad.ledger.errors.LedgerError": ExitCode.STATE,
    "cad.ledger.errors.AuditBroken": ExitCode.CHECK_FAILED,
    "cards.errors.CardsError": ExitCode.CARD,
    "cards.errors.ReceiverFileError": ExitCode.INPUT,
    "emm.errors.EmmError": ExitCode.INPUT,
    "protocol.errors.ProtocolError": ExitCode.INPUT,
}


def code_of(error: BaseException) -> ExitCode | None:
    """Return the exit code of an error that the program knows, else None."""
    for ancestor in type(error).__mro__:
        if code := CODE_OF_ERROR.get(f"{ancestor.__module__}.{ancestor.__qualname__}"):
            return code
    return None
