"""A card server for one monitoring receiver: lets an operator watch his own channels with a card in a PC/SC reader.

The receiver follows the tables and descrambles by itself; what it hands over (CS378X) goes to the card: EMMs for the
card's address, and ECMs, whose control words go back. Loopback only, one card, one receiver at a time, everything that
is opened or refused is logged, control words never (I8).
"""

import contextlib
import selectors
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, TypeVar

import structlog

from cad.errors import CadError, ListenError
from cards.errors import CardRefusedError, CardsError, PcscError
from cards.session import CardSession, ControlWords
from cards.status_word import StatusWord, explain
from emm.ecm import Parity
from emm.errors import DecodeError as EmmDecodeError
from emm.message import EmmKind, parse_emm
from emm.pairing import ReceiverIdentity
from protocol import card_number, receiver_number
from protocol.control_word import SIZE as WORD_SIZE
from protocol.control_word import with_checksums
from protocol.cs378x import CONTROL_WORDS_SIZE, CamdCodec, CamdMessage, Command
from protocol.errors import DecodeError

log = structlog.get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 2233
"""The port that tsdecrypt takes when it is told none."""

SEND_TIMEOUT_S: Final = 5.0
_RECEIVE: Final = 4096
Answer = TypeVar("Answer")


class PasswordFileError(CadError):
    """The file with the receiver's password cannot be used."""


class PoweredCard(Protocol):
    """A card that has been connected to; `cards.pcsc.Connection` is one."""

    def transmit(self, command: bytes) -> bytes: ...


class MonitoredCard:
    """The card in one reader. It is connected to when it is needed, and again after it was taken out. One thread."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[PoweredCard]],
        aid: bytes,
        receiver: ReceiverIdentity | None = None,
    ) -> None:
        """`connect` gives a connection that no other program shares (`cards.pcsc.connect`, exclusive).

        `receiver`: who this program is to a card that is paired.
        """
        self._connect = connect
        self._aid = aid
        self._identity = receiver
        self._connection = contextlib.ExitStack()
        self._session: CardSession | None = None
        self.address: int | None = None

    def open(self) -> int:
        """Connect, unless it is already, and return the card's address. Raises CardsError."""
        self._opened()
        assert self.address is not None
        return self.address

    def process_emm(self, section: bytes) -> StatusWord:
        """As CardSession's. Raises CardsError; after a PcscError the next call connects anew."""
        return self._ask(lambda session: session.process_emm(section))

    def process_ecm(self, section: bytes) -> ControlWords:
        """As CardSession's. Raises CardsError; after a PcscError the next call connects anew."""
        return self._ask(lambda session: session.process_ecm(section))

    def close(self) -> None:
        """Let go of the card; harmless when it is gone."""
        self._session = None
        self._connection.close()

    def _ask(self, question: Callable[[CardSession], Answer]) -> Answer:
        try:
            return question(self._opened())
        except PcscError:
            self.close()
            raise

    def _opened(self) -> CardSession:
        if self._session is None:
            card = self._connection.enter_context(self._connect())
            try:
                session = CardSession(card.transmit, self._aid, self._identity)
                info = session.read_info()
                self.address = info.address
            except CardsError:
                self._connection.close()
                raise
            self._session = session
            log.info("card connected", card=card_number.spell(self.address))
            if info.receiver is not None and (self._identity is None or self._identity.number != info.receiver):
                log.warning(
                    "the card is paired with another receiver: channels stay closed here",
                    paired_with=receiver_number.spell(info.receiver),
                )
        return self._session


class Bridge:
    """Between what a receiver hands over and the card. `counts` says what became of it."""

    def __init__(self, card: MonitoredCard, ca_system_id: int) -> None:
        self._card = card
        self._ca_system_id = ca_system_id
        self._told: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def take(self, message: CamdMessage) -> CamdMessage | None:
        """Do what the receiver asks, and return the answer where it waits for one. Raises nothing."""
        match message.command:
            case Command.ECM:
                words = self._open(message)
                if words is None:
                    return message.answer(Command.NOT_FOUND)
                return message.answer(Command.CONTROL_WORDS, words)
            case Command.EMM:
                self._hand_over(message)
            case Command.KEEP_ALIVE:
                return message.answer(Command.KEEP_ALIVE)
            case unknown:
                self._tell("command", f"{unknown:#04x}", "the receiver sends a command that is not known; passed over")
        return None

    def _open(self, message: CamdMessage) -> bytes | None:
        """The even and the odd control word, None where the channel stays closed; the log says why."""
        service = f"service {message.service_id}"
        refusal = self._foreign(message)
        if refusal is None:
            try:
                words = even_and_odd(message.data[0], self._card.process_ecm(message.data))
            except CardRefusedError as refused:
                refusal = explain(refused.sw).meaning
            except CardsError as error:
                refusal = str(error)
            except ValueError as error:
                refusal = str(error)
            else:
                self.counts["ECMs opened"] += 1
                self._tell(service, "open", "channel opened", service_id=message.service_id)
                return words
        self.counts["ECMs refused"] += 1
        self._tell(service, refusal, "channel stays closed", service_id=message.service_id, reason=refusal)
        return None

    def _hand_over(self, message: CamdMessage) -> None:
        self.counts["EMMs heard"] += 1
        # tsdecrypt also hands over sections of other tables, what it takes for sections on other PIDs, and those of
        # 256 bytes empty.
        if self._foreign(message) is not None:
            return
        try:
            if not concerns(message.data, self._card.open()):
                return
            self.counts["EMMs for this card"] += 1
            taken = self._card.process_emm(message.data)
        except CardsError as error:
            self.counts["EMMs refused"] += 1
            self._tell("EMM", str(error), "EMM not taken", reason=str(error))
            return
        if taken in (StatusWord.OK, StatusWord.PART_HELD):
            self.counts["EMMs new"] += 1
            log.info("card took an EMM", result=explain(taken).meaning)
        self._told.pop("EMM", None)

    def _foreign(self, message: CamdMessage) -> str | None:
        """Why the message is not for a card of this system, or None."""
        if not message.data:
            return "the section came empty: this protocol cannot carry 256 bytes"
        if message.ca_system_id != self._ca_system_id:
            return (
                f"it is of CA system {message.ca_system_id:#06x}, the card of {self._ca_system_id:#06x}: "
                "set the receiver to the latter"
            )
        return None

    def _tell(self, subject: str, state: str, event: str, **details: object) -> None:
        """Log what has changed, not what is repeated ten times a second."""
        if self._told.get(subject) != state:
            self._told[subject] = state
            log.info(event, **details)


class MonitorServer:
    """Serves one receiver on the loopback, one after the other. A further one is hung up on, and logged.

    `run` lasts until `stop` is called, by a signal handler or another thread.
    """

    def __init__(self, bridge: Bridge, user: str, password: str, port: int = DEFAULT_PORT) -> None:
        """Listens from now on; port 0 takes a free one. Raises ListenError."""
        self._bridge = bridge
        self._credentials = (user, password)
        self._receiver: socket.socket | None = None
        self._codec = CamdCodec(user, password)
        try:
            self._listener = socket.create_server((LOOPBACK, port))
        except OSError as error:
            raise ListenError(
                f"port {port} of {LOOPBACK} cannot be listened on: {error.strerror}; take another with --port"
            ) from error
        self.port = int(self._listener.getsockname()[1])
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()

    def __repr__(self) -> str:
        return f"<MonitorServer port={self.port}>"

    def run(self) -> None:
        """Serve until stopped, then close everything."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._admit)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.data is None:
                        return
                    key.data()
        finally:
            self._hang_up("the server ends")
            for each in (self._listener, self._woken, self._waker):
                each.close()
            self._selector.close()

    def stop(self) -> None:
        """End `run` soon."""
        with contextlib.suppress(OSError):  # it has ended already
            self._waker.send(b"\0")

    def _admit(self) -> None:
        connection, (host, port) = self._listener.accept()
        if self._receiver is not None:
            log.warning("second receiver refused: one is being served", peer=f"{host}:{port}")
            connection.close()
            return
        # Without TCP_NODELAY an answer may wait for the receiver's delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SEND_TIMEOUT_S)
        self._receiver, self._codec = connection, CamdCodec(*self._credentials)
        self._selector.register(connection, selectors.EVENT_READ, self._serve)
        log.info("receiver connected", peer=f"{host}:{port}")

    def _serve(self) -> None:
        assert self._receiver is not None
        try:
            data = self._receiver.recv(_RECEIVE)
            if not data:
                self._hang_up("it closed the connection")
                return
            for message in self._codec.feed(data):
                if (answer := self._bridge.take(message)) is not None:
                    self._receiver.sendall(self._codec.encode(answer))
        except DecodeError as error:
            self._hang_up(str(error))
        except OSError as error:
            self._hang_up(error.strerror or str(error))

    def _hang_up(self, reason: str) -> None:
        if self._receiver is not None:
            self._selector.unregister(self._receiver)
            self._receiver.close()
            self._receiver = None
            log.info("receiver gone", reason=reason, **dict(self._bridge.counts))


def concerns(section: bytes, address: int) -> bool:
    """Whether this is an EMM that speaks to the card: to its address, to its group, or to all."""
    try:
        header = parse_emm(section).header
    except EmmDecodeError:
        return False
    wanted = {EmmKind.UNIQUE: address, EmmKind.GROUP: address >> 8, EmmKind.GLOBAL: 0}
    return header.address == wanted[header.kind]


def even_and_odd(table_id: int, words: ControlWords) -> bytes:
    """Control words as receivers take them: the even one, the odd one, with checksums; zeros where there is none.

    Raises ValueError for words that are not of CSA2.
    """
    if any(len(word) != WORD_SIZE for word in words.words):
        raise ValueError("its control words are not of CSA2, which is all that this protocol carries")
    halves = [bytes(WORD_SIZE)] * (CONTROL_WORDS_SIZE // WORD_SIZE)
    first = int(table_id == Parity.ODD)
    for number, word in enumerate(words.words):
        halves[first ^ number] = with_checksums(word)
    return b"".join(halves)


def read_password(path: Path) -> str:
    """The receiver's password: the first line of a file that only its owner can read. Raises PasswordFileError."""
    make = f"make one: (umask 077; openssl rand -hex 16 > {path})"
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise PasswordFileError(f"{path} does not exist; {make}") from None
    except OSError as error:
        raise PasswordFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PasswordFileError(f"{path} is not UTF-8 text; {make}") from None
    if mode & 0o077:
        raise PasswordFileError(f"{path} is open to others (mode {mode & 0o777:04o}); run: chmod 600 {path}")
    if not lines or not lines[0]:
        raise PasswordFileError(f"{path} is empty; {make}")
    return lines[0]
