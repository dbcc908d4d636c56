"""The kinds of single values in the settings: their form, their limits, and the table that holds them."""

import ipaddress
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from protocol import card_number
from protocol.errors import CardNumberError

SOCKET_PATH_MAX: Final = 107  # sun_path of unix(7), without its closing zero byte


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path")
    return path


def _socket(path: Path) -> Path:
    if len(str(path).encode()) > SOCKET_PATH_MAX:
        raise ValueError(f"the path of a Unix socket has at most {SOCKET_PATH_MAX} bytes; choose a shorter one")
    return path


def _card_address(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write the card number between quotes, with its check digit")
    try:
        return card_number.parse(value)
    except CardNumberError as error:
        raise ValueError(str(error)) from None


def _aid(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("write the AID as hexadecimal digits between quotes")
    try:
        aid = bytes.fromhex(value)
    except ValueError:
        raise ValueError("this is not hexadecimal; an AID looks like F0434144454D4D01") from None
    if not 5 <= len(aid) <= 16:  # ISO/IEC 7816-4, 8.2.1.2
        raise ValueError(f"an AID has 5 to 16 bytes, here are {len(aid)}")
    return aid


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError("unknown time zone; write one such as Europe/Helsinki (Debian package tzdata)") from None
    return name


def _listen(value: str) -> str:
    if value and listen_address(value) is None:
        raise ValueError('write host:port, such as 127.0.0.1:9464, or "" for none')
    return value


def _stream_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host  # a name
    # RFC 5771, 4: what is sent to 224.0.0.0/24 belongs to routing protocols and is never passed on.
    if address.is_unspecified or address in ipaddress.ip_network("224.0.0.0/24"):
        raise ValueError("no stream can be sent there; take a receiver's address or a group such as 239.1.1.1")
    return host


def listen_address(value: str) -> tuple[str, int] | None:
    """Split `host:port` (`[v6]:port`); None when it is not of that form."""
    host, separator, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and separator and port.isascii() and port.isdigit() and len(port) <= 5 and 0 <= int(port) <= 0xFFFF):
        return None
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine is reached by that name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
SocketPath = Annotated[AbsolutePath, AfterValidator(_socket)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^\s/]+$")]
StreamHost = Annotated[Host, AfterValidator(_stream_host)]
Port = Annotated[int, Field(ge=1, le=0xFFFF)]
ProductId = Annotated[int, Field(ge=1, le=0xFFFF)]
U16 = Annotated[int, Field(ge=0, le=0xFFFF)]
U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
CardAddress = Annotated[int, BeforeValidator(_card_address)]
Aid = Annotated[bytes, BeforeValidator(_aid)]
TimeZoneName = Annotated[str, AfterValidator(_time_zone)]
ListenAddress = Annotated[str, AfterValidator(_listen)]
MandatoryListenAddress = Annotated[str, Field(min_length=1), AfterValidator(_listen)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Table(BaseModel):
    """One table of the file: frozen, typed strictly, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)
