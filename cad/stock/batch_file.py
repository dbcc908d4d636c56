"""The file that orders a batch of cards: TOML, strict, without secrets."""

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cad.errors import BatchFileError
from cad.ledger.acts.stock import COUNT_MAX
from cards.globalplatform.data_groups import ISSUER_SIZE_MAX
from cards.globalplatform.scp03.keys import VERSION_MAX, Mode
from config.problems import problems_of
from protocol import card_number
from protocol.errors import CardNumberError

OWN_VERSION: Final = 0x31
BATCH_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _number(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write the card number between quotes, with its check digit")
    try:
        return card_number.parse(value)
    except CardNumberError as error:
        raise ValueError(str(error)) from None


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("write the name of a file between quotes")
    return Path(value)


def _fits_the_card(value: object) -> str:
    if not (isinstance(value, str) and value.isprintable() and 1 <= len(value.encode()) <= ISSUER_SIZE_MAX):
        raise ValueError(f"write a name of 1..{ISSUER_SIZE_MAX} printable bytes between quotes")
    return value


class BatchOrder(BaseModel):
    """What is to be made. `first` None: the numbers after the highest one in use. Addresses, not printed numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    batch: Annotated[str, Field(pattern=BATCH_NAME)]
    operator: Annotated[str, Field(min_length=1, max_length=32)]
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)]
    transport_keys: Annotated[Path, BeforeValidator(_path)]
    issuer: Annotated[str, BeforeValidator(_fits_the_card)] = Field(default_factory=lambda data: data.get("operator"))
    first: Annotated[int, BeforeValidator(_number)] | None = None
    own_version: Annotated[int, Field(ge=1, le=VERSION_MAX)] = OWN_VERSION
    mode: Literal["S8", "S16"] = "S16"

    @property
    def channel_mode(self) -> Mode:
        """The mode of the secure channel."""
        return Mode[self.mode]


def read(path: Path) -> BatchOrder:
    """Read a batch file; `transport_keys` is looked for beside it. Raises BatchFileError with everything wrong."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        order = BatchOrder.model_validate(found)
    except OSError as error:
        raise BatchFileError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BatchFileError(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise BatchFileError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        raise BatchFileError(f"{path}: " + "; ".join(map(str, problems_of(error, BatchOrder)))) from None
    return order.model_copy(update={"transport_keys": path.parent / order.transport_keys})
