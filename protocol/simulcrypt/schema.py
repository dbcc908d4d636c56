"""How a SimulCrypt interface is declared, and the codec that follows from the declaration.

A parameter is declared once (`Parameter`), a message once (a dataclass under `@message`, each field one parameter with
its count). `Interface` derives decoding, checking, the error_status of every fault, encoding and reference tables.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import cached_property
from typing import Any, ClassVar, Final, Self, TypeVar, cast, dataclass_transform

from construct import Construct, ConstructError, SizeofError

from protocol.errors import DecodeError, EncodeError
from protocol.simulcrypt.frame import Frame, read_frame, read_header, write_frame

# ETSI TS 103 197, clause 4.4.1: parameter_type 0x8000 to 0xFFFF is user defined; a receiver passes over it.
USER_DEFINED_FROM: Final = 0x8000
MANY: Final = 0xFFFF
ALL_VERSIONS: Final = frozenset(range(1, 6))


class Fault(Enum):
    """What can be wrong with a message; each interface has its own error_status for it."""

    MESSAGE = "invalid message"
    VERSION = "unsupported protocol version"
    MESSAGE_TYPE = "unknown message_type"
    PARAMETER_TYPE = "unknown parameter_type"
    PARAMETER_LENGTH = "inconsistent parameter length"
    PARAMETER_MISSING = "missing mandatory parameter"
    PARAMETER_VALUE = "invalid parameter value"


class MessageError(DecodeError):
    """A message that cannot be accepted, with what a channel_error about it must say.

    `error_status` follows from the interface; `error_information` names the parameter to blame where there is one.
    """

    def __init__(self, what: str, fault: Fault, offset: int | None = None, parameter_type: int | None = None) -> None:
        super().__init__(what, offset)
        self.fault = fault
        self.parameter_type = parameter_type
        self.error_status = 0
        self.message_type: int | None = None
        self.protocol_version: int | None = None

    @property
    def error_information(self) -> tuple[bytes, ...]:
        """Two bytes: the parameter_type to blame; nothing where no parameter is to blame."""
        return () if self.parameter_type is None else (self.parameter_type.to_bytes(2, "big"),)


@dataclass(frozen=True)
class Parameter:
    """One parameter of an interface: its name in the standard, its type number, the form of its value.

    `values` lists what is allowed; None allows everything that fits.
    """

    name: str
    parameter_type: int
    form: Construct
    values: frozenset[int] | None = None

    @cached_property
    def size(self) -> int | None:
        """Bytes of the value, None where it may have any length."""
        try:
            return int(self.form.sizeof())
        except SizeofError:
            return None

    def read(self, value: bytes) -> int | bytes:
        """Return the value. Raises MessageError on a wrong length or a value that is not allowed."""
        if self.size is not None and len(value) != self.size:
            what = f"{self.name} has {len(value)} bytes instead of {self.size}"
            raise MessageError(what, Fault.PARAMETER_LENGTH, parameter_type=self.parameter_type)
        parsed = cast("int | bytes", self.form.parse(value))
        if self.values is not None and parsed not in self.values:
            what = f"{self.name} is {parsed!r}, allowed are {sorted(self.values)}"
            raise MessageError(what, Fault.PARAMETER_VALUE, parameter_type=self.parameter_type)
        return parsed

    def write(self, value: int | bytes) -> bytes:
        """Return the bytes of the value. Raises EncodeError when it does not fit or is not allowed."""
        if self.values is not None and value not in self.values:
            raise EncodeError(f"{self.name} is {value!r}, allowed are {sorted(self.values)}")
        try:
            return bytes(self.form.build(value))
        except ConstructError:
            raise EncodeError(f"{self.name}: the value does not fit {self.size} bytes") from None


@dataclass(frozen=True)
class Use:
    """A parameter in a message: how often it stands there, by protocol version."""

    field: str
    parameter: Parameter
    mandatory_in: frozenset[int]
    at_most: int

    def at_least(self, protocol_version: int) -> int:
        """Return the smallest number of occurrences in this version."""
        return 1 if protocol_version in self.mandatory_in else 0


@dataclass(frozen=True)
class Message:
    """Base of all messages; see `message`."""

    message_type: ClassVar[int] = 0
    message_name: ClassVar[str] = ""
    uses: ClassVar[tuple[Use, ...]] = ()

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from the values by field name."""
        return cls(**values)


MessageT = TypeVar("MessageT", bound=Message)


def one(parameter: Parameter) -> Any:
    """Declare a field for a parameter that stands exactly once."""
    return dataclasses.field(metadata={"use": (parameter, ALL_VERSIONS, 1)})


def optional(parameter: Parameter, mandatory_in: Collection[int] = (), default: int | bytes | None = None) -> Any:
    """Declare a field for a parameter that may be missing, except in the versions named."""
    return dataclasses.field(default=default, metadata={"use": (parameter, frozenset(mandatory_in), 1)})


def many(parameter: Parameter, at_least_one: bool, default: tuple[Any, ...] = (), secret: bool = False) -> Any:
    """Declare a field, a tuple, for a parameter that may stand any number of times. A secret is left out of repr."""
    use = (parameter, ALL_VERSIONS if at_least_one else frozenset[int](), MANY)
    return dataclasses.field(default=default, repr=not secret, metadata={"use": use})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(one, optional, many))
def message(message_type: int, message_name: str) -> Callable[[type[MessageT]], type[MessageT]]:
    """Declare a message: a frozen dataclass whose fields are made by `one`, `optional` and `many`."""

    def declare(cls: type[MessageT]) -> type[MessageT]:
        declared = dataclass(frozen=True, kw_only=True)(cls)
        declared.message_type = message_type
        declared.message_name = message_name
        declared.uses = tuple(Use(field.name, *field.metadata["use"]) for field in dataclasses.fields(declared))
        return declared

    return declare


@dataclass(frozen=True)
class Decoded:
    """A message that passed every check, and the version it was written in."""

    protocol_version: int
    message: Message


class Interface:
    """The codec of one SimulCrypt interface, derived from its messages.

    `error_status` gives the number that this interface uses for each fault. `versions` are those that are understood.
    """

    def __init__(
        self,
        name: str,
        messages: Collection[type[Message]],
        error_status: Mapping[Fault, IntEnum],
        versions: Collection[int] = ALL_VERSIONS,
    ) -> None:
        self.name = name
        self.messages = {declared.message_type: declared for declared in messages}
        self.error_status = dict(error_status)
        self.versions = frozenset(versions)
        self._uses = {
            declared.message_type: {use.parameter.parameter_type: use for use in declared.uses} for declared in messages
        }

    def decode(self, data: bytes) -> Decoded:
        """Decode and check one whole message. Raises MessageError, and nothing else, for any bytes."""
        try:
            frame = self._frame(data)
            return Decoded(frame.protocol_version, self._message(frame))
        except MessageError as error:
            error.error_status = int(self.error_status[error.fault])
            error.protocol_version = data[0] if data else None
            error.message_type = int.from_bytes(data[1:3], "big") if len(data) >= 3 else None
            raise

    def encode(self, message: Message, protocol_version: int) -> bytes:
        """Return the bytes of a message. Raises EncodeError when it cannot be said in this version."""
        if protocol_version not in self.versions:
            raise EncodeError(f"{self.name} has no version {protocol_version}")
        parameters: list[tuple[int, bytes]] = []
        for use in message.uses:
            value = getattr(message, use.field)
            values = value if use.at_most > 1 else () if value is None else (value,)
            if not use.at_least(protocol_version) <= len(values) <= use.at_most:
                raise EncodeError(f"{message.message_name} version {protocol_version} needs {use.parameter.name}")
            parameters += [(use.parameter.parameter_type, use.parameter.write(single)) for single in values]
        return write_frame(Frame(protocol_version, message.message_type, tuple(parameters)))

    def _frame(self, data: bytes) -> Frame:
        # The version is looked at before anything else: another version may have another form.
        try:
            header = read_header(data)
            if header.protocol_version not in self.versions:
                raise MessageError(f"protocol version {header.protocol_version} is not known", Fault.VERSION, 0)
            if header.message_type not in self.messages:
                raise MessageError(f"message_type 0x{header.message_type:04X} is not known", Fault.MESSAGE_TYPE, 1)
            return read_frame(data)
        except MessageError:
            raise
        except DecodeError as error:
            raise MessageError(error.what, Fault.MESSAGE, error.offset) from None

    def _message(self, frame: Frame) -> Message:
        uses = self._uses[frame.message_type]
        declared = self.messages[frame.message_type]
        found: dict[int, list[int | bytes]] = {parameter_type: [] for parameter_type in uses}
        for parameter_type, value in frame.parameters:
            use = uses.get(parameter_type)
            if use is not None:
                found[parameter_type].append(use.parameter.read(value))
            elif parameter_type < USER_DEFINED_FROM:
                what = f"{declared.message_name} has no parameter 0x{parameter_type:04X}"
                raise MessageError(what, Fault.PARAMETER_TYPE, parameter_type=parameter_type)
        values: dict[str, object] = {}
        for parameter_type, use in uses.items():
            values[use.field] = self._counted(declared, use, found[parameter_type], frame.protocol_version)
        return declared.from_values(values)

    @staticmethod
    def _counted(declared: type[Message], use: Use, found: list[int | bytes], protocol_version: int) -> object:
        what = f"{declared.message_name} version {protocol_version} has {len(found)} times {use.parameter.name}"
        if len(found) < use.at_least(protocol_version):
            raise MessageError(what, Fault.PARAMETER_MISSING, parameter_type=use.parameter.parameter_type)
        if len(found) > use.at_most:
            raise MessageError(what, Fault.MESSAGE, parameter_type=use.parameter.parameter_type)
        if use.at_most > 1:
            return tuple(found)
        return found[0] if found else None


def describe(message: Message) -> str:
    """Return one line for a log: the name and the numbers; of byte strings only how many and how long."""
    parts: list[str] = []
    for use in message.uses:
        value: Any = getattr(message, use.field)
        if isinstance(value, tuple):
            items = cast("tuple[int | bytes, ...]", value)
            shown = ",".join(f"{len(item)} bytes" if isinstance(item, bytes) else str(item) for item in items[:4])
            more = f",… ({len(items)} in all)" if len(items) > 4 else ""
            parts.append(f"{use.field}=[{shown}{more}]")
        elif isinstance(value, bytes):
            parts.append(f"{use.field}={len(value)} bytes")
        elif value is not None:
            parts.append(f"{use.field}={value}")
    return f"{message.message_name} {' '.join(parts)}"
