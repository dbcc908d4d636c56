"""The codes of PC/SC (PC/SC Workgroup, part 5; pcsc-lite `pcsclite.h`) as errors that say what to do."""

import os
import shutil
from pathlib import Path
from typing import Final

from cards import errors
from cards.errors import PcscError
from cards.readers.programs import other_programs

DAEMON: Final = Path("/usr/sbin/pcscd")

SUCCESS: Final = 0
CANCELLED: Final = 0x8010_0002
TIMEOUT: Final = 0x8010_000A
UNKNOWN_READER: Final = 0x8010_0009
NO_READERS_AVAILABLE: Final = 0x8010_002E
SHARING_VIOLATION: Final = 0x8010_000B
NOT_TRANSACTED: Final = 0x8010_0016
REMOVED_CARD: Final = 0x8010_0069
NO_SERVICE: Final = 0x8010_001D

SECURITY_VIOLATION: Final = 0x8010_006A
NO_CONTROL: Final = (0x8010_001F, 0x8010_0022, NOT_TRANSACTED)
"""A driver that knows no such control code: unsupported feature; older pcsc-lite and drivers say other things."""

_IN_USE: Final = "another program uses the card alone"
_BROKE: Final = "the connection to the PC/SC service (pcscd) broke"
_SERVICE_GONE: Final = "the PC/SC service (pcscd) does not answer"
_REMOVED: Final = "the card was taken out during the command"

TABLE: Final[dict[int, tuple[type[PcscError], str]]] = {
    0x8010_0001: (errors.ServiceError, "the PC/SC service (pcscd) reports an internal error"),
    CANCELLED: (PcscError, "the wait was cancelled"),
    0x8010_0003: (errors.ServiceError, "the PC/SC service (pcscd) was restarted; the connection to it is gone"),
    0x8010_0006: (errors.ServiceError, "the PC/SC service (pcscd) is out of memory"),
    UNKNOWN_READER: (errors.NoReaderError, "there is no reader of this name"),
    TIMEOUT: (PcscError, "nothing happened in time"),
    SHARING_VIOLATION: (errors.CardInUseError, _IN_USE),
    0x8010_000C: (errors.NoCardError, "there is no card in the reader"),
    0x8010_000D: (errors.UnknownCardError, "PC/SC does not know this kind of card"),
    0x8010_000F: (errors.UnknownCardError, "the card's answer to reset offers no protocol that the reader speaks"),
    0x8010_0010: (errors.CardUnresponsiveError, "the reader or the card is not ready"),
    0x8010_0013: (errors.ServiceError, _BROKE),
    NOT_TRANSACTED: (errors.CardUnresponsiveError, "the reader could not exchange a command with the card"),
    0x8010_0017: (errors.NoReaderError, "the reader was unplugged"),
    NO_SERVICE: (errors.ServiceError, _SERVICE_GONE),
    0x8010_001E: (errors.ServiceError, "the PC/SC service (pcscd) is stopping"),
    NO_READERS_AVAILABLE: (errors.NoReaderError, "no reader is connected"),
    0x8010_002F: (errors.CardUnresponsiveError, "the communication with the card failed"),
    0x8010_0065: (errors.UnknownCardError, "the card's answer to reset is one that the reader cannot work with"),
    0x8010_0066: (errors.CardUnresponsiveError, "the card does not answer to reset"),
    0x8010_0067: (errors.CardUnresponsiveError, "the card has no power"),
    0x8010_0068: (errors.CardInUseError, "another program has reset the card"),
    REMOVED_CARD: (errors.CardRemovedError, _REMOVED),
    SECURITY_VIOLATION: (errors.PermissionDeniedError, "pcscd does not let this user use the card or the reader"),
}


def error_of(code: int, doing: str, reader: str | None = None, opening: bool = False) -> PcscError:
    """The error for a PC/SC result `code` other than success, which came while `doing` something.

    `opening`: while connecting to pcscd or to a card, where its rules of access are asked.
    pyscard gives codes as signed or unsigned numbers; both are understood.
    """
    code &= 0xFFFF_FFFF
    if code == SECURITY_VIOLATION and not opening:
        # pcsc-lite gives this code for every connection that pcscd closes, also when it dies.
        return service_error(_BROKE, doing, code)
    kind, meaning = TABLE.get(code, (PcscError, "PC/SC reports an error that has no text here"))
    where = f" ({reader})" if reader else ""
    if kind is errors.ServiceError:
        return service_error(meaning, doing, code)
    advice = "" if kind is not PcscError else "repeat; if it stays so, restart pcscd and look at its log"
    return kind(f"{doing}: {meaning}{where}", advice, code)


def removed(doing: str, reader: str) -> PcscError:
    """The error for a card pulled during a command, whatever code PC/SC gave for it."""
    return errors.CardRemovedError(f"{doing}: {_REMOVED} ({reader})", "", REMOVED_CARD)


def in_use(doing: str, reader: str, wanted_alone: bool = False) -> PcscError:
    """The error for a card that another program holds; it names the programs that may be meant.

    `wanted_alone`: it need not hold the card alone, being connected is enough.
    """
    meaning = "another program is connected to the card, and this work needs it alone" if wanted_alone else _IN_USE
    using = other_programs()
    named = f"; PC/SC is used now by {', '.join(using)}" if using else ""
    advice = f"close the other program that uses this reader, and repeat{named}"
    return errors.CardInUseError(f"{doing}: {meaning} ({reader})", advice, SHARING_VIOLATION)


def socket_path() -> Path:
    """Where pcsc-lite looks for the socket of pcscd."""
    return Path(os.environ.get("PCSCLITE_CSOCK_NAME", "/run/pcscd/pcscd.comm"))


def service_error(meaning: str, doing: str, code: int) -> PcscError:
    """Tell apart why pcscd does not answer: not installed, not started, not allowed, died."""
    path = socket_path()
    message = f"{doing}: {meaning}"
    if path.exists() and not os.access(path, os.W_OK):
        return errors.PermissionDeniedError(
            f"{doing}: this user may not use the socket of pcscd, {path}",
            "run as root, or give the user access to this socket",
            code,
        )
    if path.exists():
        return errors.ServiceError(message, "start it again: systemctl restart pcscd.socket pcscd", code)
    if shutil.which("pcscd") is None and not DAEMON.exists():
        return errors.ServiceError(message, "install it: apt-get install pcscd", code)
    return errors.ServiceError(message, "start it: systemctl start pcscd.socket", code)
