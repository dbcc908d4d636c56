"""The one door to PC/SC. Needs the extra `cad[pcsc]` (pyscard); importing this without it raises PyscardMissingError.

Nothing else imports `smartcard`. Every object here belongs to one thread at a time; the C library releases the
interpreter's lock while a card works, so two readers on two threads run side by side (`cards.readers.pool`).
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from cards.apdu import CommandApdu
from cards.errors import ApduError, CardInUseError, CardReplyError, NoReaderError, PcscError, PyscardMissingError
from cards.readers import codes
from cards.readers.pin_pad import (
    GET_FEATURE_REQUEST,
    Feature,
    card_word,
    modify_structure,
    parse_features,
    verify_structure,
)
from cards.readers.state import CardPresence, ReaderState

try:
    from smartcard import scard
except ModuleNotFoundError as missing:
    raise PyscardMissingError(
        "PC/SC needs the Python package pyscard, which is not installed",
        "install it: apt-get install gcc libpcsclite-dev python3-dev, then pip install 'cad[pcsc]'",
    ) from missing
except ImportError as broken:
    raise PyscardMissingError(
        "pyscard is installed, but the PC/SC library libpcsclite cannot be loaded",
        "install it: apt-get install libpcsclite1",
    ) from broken

RESERVE_S: Final = 3.0
"""So long another program's transaction is waited for; together with the headend's answers below ten seconds."""
LOOK_S: Final = 0.5
"""The same for a look at a reader's features."""
PATIENCE_NAME: Final = "card in use"
PNP_NOTIFICATION: Final = "\\\\?PnP?\\Notification"
Result = TypeVar("Result")
_LOOKS: Final = 4
_LOOK_S: Final = 0.3
_PROTOCOLS: Final = scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1


class Context:
    """A connection to pcscd. Raises ServiceError or PermissionDeniedError when there is none to be had.

    After any ServiceError it is of no further use: close it and make a new one. (`SCardIsValidContext` still calls a
    context valid whose pcscd is dead, so it is not asked.)
    """

    def __init__(self) -> None:
        code, self._handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
        self.given_up = False
        _check(code, "connecting to PC/SC", opening=True)

    def readers(self) -> tuple[str, ...]:
        """The names of the readers, in pcscd's order; empty when there are none."""
        code, names = scard.SCardListReaders(self._handle, [])
        if _unsigned(code) == codes.NO_READERS_AVAILABLE:
            return ()
        _check(code, "listing the readers")
        return tuple(names)

    def wait_for_change(self, known: Mapping[str, ReaderState], timeout_s: float) -> dict[str, ReaderState]:
        """Block until something differs from `known`, `cancel` is called or the time is over; return what is there."""
        asked: list[Any] = [(name, state.raw) for name, state in known.items()]
        asked.append((PNP_NOTIFICATION, len(known) << 16))
        code, _ = scard.SCardGetStatusChange(self._handle, int(timeout_s * 1000), asked)
        quiet = (codes.TIMEOUT, codes.CANCELLED, codes.UNKNOWN_READER)
        if _unsigned(code) not in quiet:
            _check(code, "watching the readers")
        return self.states()

    def states(self) -> dict[str, ReaderState]:
        """The readers and what is in each, at this moment."""
        names = self.readers()
        if not names:
            return {}
        unaware: list[Any] = [(name, scard.SCARD_STATE_UNAWARE) for name in names]
        code, found = scard.SCardGetStatusChange(self._handle, 0, unaware)
        if _unsigned(code) == codes.UNKNOWN_READER:  # unplugged since it was listed
            return {}
        _check(code, "looking into the readers")
        return {name: _reader_state(name, raw, bytes(atr)) for name, raw, atr in found}

    def cancel(self) -> None:
        """End a `wait_for_change` of another thread."""
        scard.SCardCancel(self._handle)

    def features(self, reader: str) -> dict[Feature, int] | None:
        """What a reader offers (`Connection.features`), with or without a card; None while another program has it."""
        code, handle, _ = self._patiently(
            lambda: scard.SCardConnect(self._handle, reader, scard.SCARD_SHARE_DIRECT, 0),
            lambda late: scard.SCardDisconnect(late[1], scard.SCARD_LEAVE_CARD),
            "looking at the reader",
            reader,
            LOOK_S,
        )
        if _unsigned(code) == codes.SHARING_VIOLATION:
            return None
        _check(code, "looking at the reader", reader, opening=True)
        with Connection(self, handle, 0, reader, exclusive=False) as connection:
            return connection.features()

    def connect(self, reader: str, exclusive: bool = False, wait_s: float = RESERVE_S) -> "Connection":
        """Power the card in `reader` and connect to it. `exclusive`: no other program may use it meanwhile.

        Waits at most `wait_s` for another program's transaction; then CardInUseError, and this context is of no use.
        Raises NoReaderError, NoCardError, CardInUseError, CardUnresponsiveError, UnknownCardError or ServiceError.
        """
        share = scard.SCARD_SHARE_EXCLUSIVE if exclusive else scard.SCARD_SHARE_SHARED
        doing = "connecting to the card"
        code, handle, protocol = self._patiently(
            lambda: scard.SCardConnect(self._handle, reader, share, _PROTOCOLS),
            lambda late: scard.SCardDisconnect(late[1], scard.SCARD_LEAVE_CARD),
            doing,
            reader,
            wait_s,
        )
        if _unsigned(code) == codes.SHARING_VIOLATION:
            raise codes.in_use(doing, reader, wanted_alone=exclusive)
        _check(code, doing, reader, opening=True)
        return Connection(self, handle, protocol, reader, exclusive)

    def close(self) -> None:
        """Give the context back; harmless when pcscd is gone."""
        if not self.given_up:
            scard.SCardReleaseContext(self._handle)

    def begin_transaction(self, card: int, reader: str, wait_s: float) -> None:
        """Begin a transaction with the connected `card`. Raises CardInUseError; the context is then given up."""

        def undo(_: int) -> None:
            scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)  # ends a transaction too

        doing = "reserving the card"
        _check(self._patiently(lambda: scard.SCardBeginTransaction(card), undo, doing, reader, wait_s), doing, reader)

    def _patiently(
        self, call: Callable[[], Result], undo: Callable[[Result], object], doing: str, reader: str, wait_s: float
    ) -> Result:
        """Make a call that waits for other programs, for so long at most."""
        result = _Patience(self._handle, call, undo).result(wait_s)
        if result is None:
            self.given_up = True
            raise codes.in_use(doing, reader)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Connection:
    """A powered card in a reader. Made by `Context.connect` or `connect`."""

    def __init__(self, context: Context, handle: int, protocol: int, reader: str, exclusive: bool) -> None:
        self._context = context
        self._handle = handle
        self._protocol = protocol
        self._exclusive = exclusive
        self.reader = reader

    @property
    def protocol(self) -> str:
        """`T=0` or `T=1`."""
        return "T=0" if self._protocol == scard.SCARD_PROTOCOL_T0 else "T=1"

    def transmit(self, command: bytes) -> bytes:
        """Send one command APDU and return the response APDU (at least two bytes).

        Raises CardRemovedError when the card is pulled meanwhile, and the other PcscErrors.
        """
        t0 = self._protocol == scard.SCARD_PROTOCOL_T0
        pci = scard.SCARD_PCI_T0 if t0 else scard.SCARD_PCI_T1
        sent = for_t0(command) if t0 else command
        code, answer = scard.SCardTransmit(self._handle, pci, list(sent))
        code = _unsigned(code)
        if code == codes.SUCCESS and len(answer) >= 2:
            return bytes(answer)
        # On an error `answer` is uninitialised memory: it is neither looked at nor passed on.
        doing = "sending a command to the card"
        if code in (codes.SUCCESS, codes.NOT_TRANSACTED):
            # The first error after a card was pulled says success, with an empty answer; the next "not transacted".
            raise self._why_nothing_came(code, doing)
        raise codes.error_of(code, doing, self.reader)

    def _why_nothing_came(self, code: int, doing: str) -> Exception:
        if code == codes.SUCCESS or self._card_is_gone():
            return codes.removed(doing, self.reader)
        return codes.error_of(code, doing, self.reader)

    def _card_is_gone(self) -> bool:
        """Whether the card was taken out; pcscd looks for it a few times a second, so it is given that time."""
        known = self._context.states()
        for _ in range(_LOOKS):
            if self.reader not in known or known[self.reader].presence is CardPresence.EMPTY:
                return True
            known = self._context.wait_for_change(known, _LOOK_S)
        return False

    def features(self) -> dict[Feature, int]:
        """What the reader offers beyond the exchange of commands (PC/SC part 10), with control codes; often nothing."""
        code, answer = scard.SCardControl(self._handle, GET_FEATURE_REQUEST, [])
        if _unsigned(code) in codes.NO_CONTROL:
            return {}
        _check(code, "asking the reader for its features", self.reader)
        return parse_features(bytes(answer))

    def type_pin(self, change: bool, header: bytes, digits: int) -> int | None:
        """Have the PIN typed on the reader's keypad and given to the card; the card's status word.

        None: the reader has no keypad for that. `header`: CLA INS P1 P2 of the command, whose data is the PIN or
        (`change`) the old and the new one, each of so many ASCII digits. Raises PinPadError.
        """
        feature = Feature.MODIFY_PIN_DIRECT if change else Feature.VERIFY_PIN_DIRECT
        control = self.features().get(feature)
        if control is None:
            return None
        structure = (modify_structure if change else verify_structure)(header, digits)
        code, answer = scard.SCardControl(self._handle, control, list(structure))
        _check(code, "having the PIN typed on the reader", self.reader)
        return card_word(bytes(answer))

    def atr(self) -> bytes:
        """The card's answer to reset."""
        code, _, _, _, atr = scard.SCardStatus(self._handle)
        _check(code, "reading the answer to reset", self.reader)
        if not atr:
            raise CardReplyError(f"the card in {self.reader} gave no answer to reset")
        return bytes(atr)

    @contextmanager
    def transaction(self, wait_s: float = RESERVE_S) -> Generator[None, None, None]:
        """Keep every other program off the card for the time of the block; waits at most `wait_s` until it is free.

        Raises CardInUseError when another program does not let go of it; connection and context are then of no use.
        """
        self._context.begin_transaction(self._handle, self.reader, wait_s)
        try:
            yield
        except BaseException:
            scard.SCardEndTransaction(self._handle, scard.SCARD_LEAVE_CARD)  # the block's own error says more
            raise
        _check(scard.SCardEndTransaction(self._handle, scard.SCARD_LEAVE_CARD), "releasing the card", self.reader)

    def reset(self) -> None:
        """Reset the card: its application is no longer selected afterwards."""
        share = scard.SCARD_SHARE_EXCLUSIVE if self._exclusive else scard.SCARD_SHARE_SHARED
        code, protocol = scard.SCardReconnect(self._handle, share, _PROTOCOLS, scard.SCARD_RESET_CARD)
        _check(code, "resetting the card", self.reader)
        self._protocol = protocol

    def close(self) -> None:
        """Let go of the card; harmless when it or pcscd is gone."""
        if self._context.given_up:
            return
        scard.SCardDisconnect(self._handle, scard.SCARD_LEAVE_CARD)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Patience(Generic[Result]):
    """A call that waits without limit for another program's transaction, made on a thread of its own.

    Nothing can call it off, and the C library lets nobody else use the context meanwhile. So who gives up leaves the
    context to this thread, which undoes the call and puts the context away when the wait has ended at last.
    """

    def __init__(self, context: int, call: Callable[[], Result], undo: Callable[[Result], object]) -> None:
        self._context = context
        self._call = call
        self._undo = undo
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._given_up = False
        self._results: list[Result] = []
        threading.Thread(target=self._run, name=PATIENCE_NAME, daemon=True).start()

    def result(self, wait_s: float) -> Result | None:
        """What the call gave; None when it has not come back in time, and is given up."""
        self._over.wait(wait_s)
        with self._lock:
            self._given_up = not self._over.is_set()
            return None if self._given_up else self._results[0]

    def _run(self) -> None:
        result = self._call()
        with self._lock:
            self._results.append(result)
            self._over.set()
            if not self._given_up:
                return
        self._undo(result)
        scard.SCardReleaseContext(self._context)


def list_readers() -> list[ReaderState]:
    """Every reader and what is in it. Raises ServiceError or PermissionDeniedError."""
    with Context() as context:
        return list(context.states().values())


def reader_features(reader: str) -> dict[Feature, int] | None:
    """What a reader offers (PC/SC part 10); None while another program has it. Raises PcscErrors."""
    with Context() as context:
        try:
            return context.features(reader)
        except CardInUseError:
            return None


@contextmanager
def connect(reader: str, exclusive: bool = False) -> Generator[Connection, None, None]:
    """A connection to the card in `reader` with a context of its own, closed after the block. Raises PcscErrors."""
    with Context() as context:
        names = context.readers()
        if reader not in names:
            known = "; connected are: " + ", ".join(names) if names else "; no reader is connected"
            raise NoReaderError(f"there is no reader named {reader!r}{known}")
        with context.connect(reader, exclusive) as connection:
            yield connection


def for_t0(command: bytes) -> bytes:
    """The command as it goes to a T=0 card: PC/SC part 5 clause 3.1.3 has case 4 sent without Le.

    The card then answers 61xx, and the host fetches the answer with GET RESPONSE.
    """
    try:
        apdu = CommandApdu.decode(command)
    except ApduError:
        return command
    return command[:-1] if apdu.case == 4 and not apdu.extended else command


def _reader_state(name: str, raw: int, atr: bytes) -> ReaderState:
    if raw & (scard.SCARD_STATE_UNKNOWN | scard.SCARD_STATE_UNAVAILABLE | scard.SCARD_STATE_IGNORE):
        presence = CardPresence.UNAVAILABLE
    elif raw & scard.SCARD_STATE_MUTE:
        presence = CardPresence.MUTE
    elif raw & scard.SCARD_STATE_PRESENT:
        presence = CardPresence.PRESENT
    else:
        presence = CardPresence.EMPTY
    in_use = bool(raw & (scard.SCARD_STATE_INUSE | scard.SCARD_STATE_EXCLUSIVE))
    return ReaderState(name, presence, atr if presence is CardPresence.PRESENT else b"", in_use, raw)


def _unsigned(code: int) -> int:
    return code & 0xFFFF_FFFF


def _check(code: int, doing: str, reader: str | None = None, opening: bool = False) -> None:
    if _unsigned(code) != codes.SUCCESS:
        raise codes.error_of(code, doing, reader, opening)


__all__ = ["Connection", "Context", "PcscError", "connect", "for_t0", "list_readers", "reader_features"]
