"""The part of pyscard's low-level module that cards/pcsc.py uses. Result codes are signed or unsigned 32-bit numbers."""

from collections.abc import Sequence

SCARD_SCOPE_SYSTEM: int
SCARD_SHARE_EXCLUSIVE: int
SCARD_SHARE_SHARED: int
SCARD_PROTOCOL_T0: int
SCARD_PROTOCOL_T1: int
SCARD_PCI_T0: int
SCARD_PCI_T1: int
SCARD_LEAVE_CARD: int
SCARD_RESET_CARD: int
SCARD_STATE_UNAWARE: int
SCARD_STATE_IGNORE: int
SCARD_STATE_UNKNOWN: int
SCARD_STATE_UNAVAILABLE: int
SCARD_STATE_PRESENT: int
SCARD_STATE_EXCLUSIVE: int
SCARD_STATE_INUSE: int
SCARD_STATE_MUTE: int

def SCardEstablishContext(dwScope: int) -> tuple[int, int]: ...
def SCardReleaseContext(hcontext: int) -> int: ...
def SCardListReaders(hcontext: int, readergroups: list[str]) -> tuple[int, list[str]]: ...
def SCardGetStatusChange(
    hcontext: int, dwTimeout: int, readerstates: Sequence[tuple[str, int]]
) -> tuple[int, list[tuple[str, int, list[int]]]]: ...
def SCardCancel(hcontext: int) -> int: ...
def SCardConnect(
    hcontext: int, szReader: str, dwShareMode: int, dwPreferredProtocols: int
) -> tuple[int, int, int]: ...
def SCardReconnect(
    hcard: int, dwShareMode: int, dwPreferredProtocols: int, dwInitialization: int
) -> tuple[int, int]: ...
def SCardDisconnect(hcard: int, dwDisposition: int) -> int: ...
def SCardBeginTransaction(hcard: int) -> int: ...
def SCardEndTransaction(hcard: int, dwDisposition: int) -> int: ...
def SCardTransmit(hcard: int, pioSendPci: int, apducommand: list[int]) -> tuple[int, list[int]]: ...
def SCardStatus(hcard: int) -> tuple[int, str, int, int, list[int]]: ...
