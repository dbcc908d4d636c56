"""Dialogues with a card without any I/O, and the processors that carry a command through what a reader can do.

A dialogue is a generator: it yields the next command for the card and is sent the card's response; what it returns
is its result. Whoever moves the bytes drives it, with `run` or with a loop of his own.
"""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from cards.apdu import EXTENDED_LE_MAX, SHORT_DATA_MAX, SHORT_LE_MAX, CommandApdu, ResponseApdu
from cards.errors import CardReplyError
from cards.globalplatform.scp03.host import HostChannel
from cards.status_word import is_more_data, is_wrong_le

T = TypeVar("T")
Dialogue = Generator[CommandApdu, ResponseApdu, T]

INS_GET_RESPONSE: Final = 0xC0
CLA_CHAINED: Final = 0x10
_OK: Final = 0x9000


def run(dialogue: Dialogue[T], transmit: Callable[[CommandApdu], ResponseApdu]) -> T:
    """Drive a dialogue to its end. An error of `transmit` is thrown into it, so that it may close what it opened."""
    try:
        command = next(dialogue)
        while True:
            try:
                response = transmit(command)
            except Exception as error:
                command = dialogue.throw(error)
            else:
                command = dialogue.send(response)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Processor(Protocol):
    """One link of the chain between a meaning and the wire."""

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Carry one command through, and return its response."""
        ...


class Wire:
    """The end of the chain: one command, one response."""

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Hand the command to the driver."""
        return (yield command)


class LeCorrection:
    """Repeats a command once with the length that the card asks for in 6Cxx (ISO/IEC 7816-4 clause 5.6)."""

    def __init__(self, below: Processor) -> None:
        self._below = below

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Raises CardReplyError when the card does not keep to its own word."""
        response = yield from self._below.exchange(command)
        if not is_wrong_le(response.sw):
            return response
        response = yield from self._below.exchange(replace(command, le=response.sw & 0xFF or SHORT_LE_MAX))
        if is_wrong_le(response.sw):
            raise CardReplyError("the card asked twice for another length of the same answer")
        return response


class GetResponse:
    """Fetches what 61xx announces and joins it (ISO/IEC 7816-4 clauses 5.3.4 and 11.1.1)."""

    def __init__(self, below: Processor) -> None:
        self._below = below

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Raises CardReplyError when the card announces more and gives nothing, or more than a response may hold."""
        response = yield from self._below.exchange(command)
        data = response.data
        cla = command.cla & (0x4F if command.cla & 0x40 else 0x03)  # the same logical channel
        while is_more_data(response.sw):
            le = response.sw & 0xFF or SHORT_LE_MAX
            response = yield from self._below.exchange(CommandApdu(cla, INS_GET_RESPONSE, 0, 0, le=le))
            if is_more_data(response.sw) and not response.data:
                raise CardReplyError("the card announces more of its answer and does not give it")
            data += response.data
            if len(data) > EXTENDED_LE_MAX:
                raise CardReplyError(f"the card's answer is longer than {EXTENDED_LE_MAX} bytes")
        return ResponseApdu(response.sw, data)


class CommandChaining:
    """Splits long commands for a card or reader without extended length (ISO/IEC 7816-4 clause 5.3.3)."""

    def __init__(self, below: Processor) -> None:
        self._below = below

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Ends early with the card's word when it refuses a part."""
        le = None if command.le is None else min(command.le, SHORT_LE_MAX)
        data = command.data
        while len(data) > SHORT_DATA_MAX:
            part = replace(command, cla=command.cla | CLA_CHAINED, data=data[:SHORT_DATA_MAX], le=None, extended=False)
            response = yield from self._below.exchange(part)
            if response.sw != _OK:
                return response
            data = data[SHORT_DATA_MAX:]
        return (yield from self._below.exchange(replace(command, data=data, le=le, extended=False)))


class SecureMessaging:
    """Carries every command through an open secure channel; the topmost link."""

    def __init__(self, below: Processor, channel: HostChannel) -> None:
        self._below = below
        self.channel = channel

    def exchange(self, command: CommandApdu) -> Dialogue[ResponseApdu]:
        """Raises SecureMessagingError, and closes the channel on every error of the links below."""
        wrapped = self.channel.wrap(command)
        try:
            response = yield from self._below.exchange(wrapped)
        except BaseException:
            self.channel.close()
            raise
        return self.channel.unwrap(response)


def link(*, extended: bool) -> Processor:
    """The chain below a secure channel. `extended`: card and reader both take extended length."""
    fetching = GetResponse(LeCorrection(Wire()))
    return fetching if extended else CommandChaining(fetching)
