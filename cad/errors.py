"""Errors of the package. The command line turns them into a message and an exit code (`cad.cli.failures`)."""


class CadError(Exception):
    """Root of all errors raised by `cad`. The text says what is wrong and what to do."""


class AlreadyRunningError(CadError):
    """Another daemon uses the same state directory (I4)."""


class KeyStoreError(CadError):
    """The master key cannot be made, read or opened."""


class StateError(CadError):
    """The state directory or something in it cannot be used."""


class ListenError(CadError):
    """The daemon cannot listen where the settings say."""


class DaemonUnreachableError(CadError):
    """The command line does not get through to the daemon."""


class NotFoundError(CadError):
    """What was asked about does not exist."""


class CatalogueFileError(CadError):
    """A catalogue file cannot be used; the text says everything there is to mend."""


class CatalogueChangedError(CadError):
    """A catalogue is not loaded, because the offers are not any more what it was compared with."""


class QuestionError(CadError):
    """What was asked cannot be answered as it was asked."""


class CheckFailedError(CadError):
    """Something that was to be checked does not hold."""


class StockRefusedError(CadError):
    """A card number cannot be reserved, given to this chip or put in stock."""


class NumbersUsedUpError(StockRefusedError):
    """All numbers that were reserved for a batch have gone to chips."""


class JournalError(CadError):
    """The journal of a batch cannot be read or written, or is another batch's."""


class BatchFileError(CadError):
    """A batch file, a delivery of transport keys or a result file cannot be used."""


class BackupError(CadError):
    """A backup cannot be taken, is not whole, or cannot be put back."""
