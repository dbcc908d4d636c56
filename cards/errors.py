"""Every error of the cards package. Nothing here ever carries key bytes or control words."""


class CardsError(Exception):
    """Root of all errors of this package. `advice` says in one sentence what to do next."""

    default_advice = ""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice or self.default_advice

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


class ApduError(CardsError):
    """Bytes that are not a command or response of ISO/IEC 7816-4, or one that cannot be spelled."""


class AtrError(CardsError):
    """Bytes that are not an answer to reset of ISO/IEC 7816-3."""


class StorageError(CardsError):
    """A card's memory could not be read or written; what stood there before still stands."""


class StateFileError(StorageError):
    """The state file of a software card cannot be used."""


class ReceiverFileError(CardsError):
    """The file with a receiver's number and pairing key cannot be used."""

    default_advice = "have the headend make one: cad keys receiver NUMBER --out FILE"


class PairedError(CardsError):
    """The card opened the ECM, but its control words are sealed for the receiver that it is paired with.

    `receiver`: that receiver's number, spelled.
    """

    default_advice = "use the card in that receiver, or have the operator pair it with this one: card pair"

    def __init__(self, message: str, receiver: str, advice: str = "") -> None:
        super().__init__(message, advice)
        self.receiver = receiver


class PinError(CardsError):
    """The card did not take the PIN. `tries_left`: 0 when it is blocked, None when the card was not asked."""

    def __init__(self, message: str, tries_left: int | None, advice: str) -> None:
        super().__init__(message, advice)
        self.tries_left = tries_left


class CardRefusedError(CardsError):
    """The card answered a command with a status word that is not a success. `sw` is that word."""

    def __init__(self, command: str, sw: int, meaning: str, advice: str) -> None:
        super().__init__(f"the card refused {command}: {meaning} (status word {sw:04X})", advice)
        self.command = command
        self.sw = sw


class WrongCardError(CardsError):
    """The card in the reader has no application of this conditional-access system."""

    default_advice = "put in a card of this system; if it is one, compare ca.card_aid of the settings with the card"


class CardReplyError(CardsError):
    """The card answered with something that its specification does not allow."""

    default_advice = "take the card out, put it in again and repeat; if it stays so, replace the card"


class VpcdError(CardsError):
    """The virtual reader cannot be reached or broke the connection."""

    default_advice = "start pcscd with the virtual reader: apt-get install pcscd vsmartcard-vpcd, then pcscd -f"


class PcscError(CardsError):
    """PC/SC reported an error. `code` is its 32-bit code, 0 when the service itself gave none."""

    def __init__(self, message: str, advice: str = "", code: int = 0) -> None:
        super().__init__(message if not code else f"{message} (PC/SC 0x{code:08X})", advice)
        self.code = code


class PyscardMissingError(PcscError):
    """pyscard, the Python door to PC/SC, cannot be imported."""


class ServiceError(PcscError):
    """pcscd, the PC/SC service, does not answer."""

    default_advice = "install and start it: apt-get install pcscd, then systemctl start pcscd.socket"


class PermissionDeniedError(PcscError):
    """pcscd does not let this user in."""

    default_advice = (
        "run as a user whom the polkit rules of pcscd allow (a local login is one), or as root; then repeat"
    )


class NoReaderError(PcscError):
    """There is no reader, or none of that name."""

    default_advice = "plug the reader in and look at: cad reader list"


class AmbiguousReaderError(PcscError):
    """Several readers fit, and only one can be used."""

    default_advice = "name one with --reader, or read all with --all"


class NoCardError(PcscError):
    """There is no card in the reader."""

    default_advice = "put the card in, chip first and facing up, and repeat"


class CardRemovedError(PcscError):
    """The card was taken out, or the reader unplugged, during a command."""

    default_advice = "put the card in again, leave it until the command has ended, and repeat"


class CardUnresponsiveError(PcscError):
    """The card is in the reader and does not answer."""

    default_advice = (
        "check that the chip faces the reader's contacts, clean them, and try another card to tell card from reader"
    )


class CardInUseError(PcscError):
    """Another program holds the card."""

    default_advice = "close the other program that uses this reader, and repeat"


class PinPadError(PcscError):
    """The PIN was not typed on the reader's keypad as it should be; the card heard nothing, and no try was spent."""

    default_advice = "repeat, and type the PIN on the reader, then its OK key"


class UnknownCardError(PcscError):
    """The card's answer to reset is not one that PC/SC can work with."""

    default_advice = "put in a card of this system, the right way round"
