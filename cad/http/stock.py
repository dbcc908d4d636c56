"""The part of the control socket that makers of cards use: reserve numbers, give one to a chip, put cards in stock."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cad.errors import StockRefusedError
from cad.frame.clock import spell
from cad.http.scope import name_operator
from cad.ledger.acts import stock
from cad.ledger.ledger import Ledger
from protocol import card_number

BODY_MAX = 64 * 1024
Batch = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Serial = Annotated[str, Field(pattern=r"^[0-9A-F]{20}$")]
Address = Annotated[int, Field(ge=0, le=card_number.ADDRESS_MAX)]
Operator = Annotated[str, Field(min_length=1, max_length=32)]
CheckValue = Annotated[str, Field(pattern=r"^[0-9A-F]{6}$")]
Document = dict[str, Any]
Body = TypeVar("Body", bound=BaseModel)


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Reservation(_Asked):
    """`count` numbers in a row for a batch; `first` None: the daemon chooses."""

    operator: Operator
    batch: Batch
    count: Annotated[int, Field(ge=1, le=stock.COUNT_MAX)]
    first: Address | None = None


class Claim(_Asked):
    """The number of one chip; `address` is what a journal has for it, `begun` that it carries our keys already."""

    operator: Operator
    batch: Batch
    serial: Serial
    address: Address | None = None
    begun: bool = False


class Made(_Asked):
    """A card that is finished. `check_values`: name of each key → three bytes in hexadecimal."""

    serial: Serial
    address: Address
    key_version: Annotated[int, Field(ge=0, le=255)]
    check_values: dict[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,20}$")], CheckValue]


class StockDesk(Protocol):
    """Hands out card numbers. Every call raises StockRefusedError, or what the ledger raises."""

    async def reserve(self, asked: Reservation) -> Document:
        """Return `first`, `last` (addresses) and `count`."""
        ...

    async def claim(self, asked: Claim) -> Document:
        """Return `address`."""
        ...

    async def made(self, asked: Made) -> Document:
        """Return `made_at`."""
        ...

    async def batches(self) -> Document:
        """Return all batches under `batches`, the newest first."""
        ...


class LedgerDesk:
    """The desk of a running daemon."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def reserve(self, asked: Reservation) -> Document:
        """Reserve numbers, or say again which ones the batch has."""
        found = await self._ledger.perform(
            lambda act, held: stock.reserve(act, held, asked.operator, asked.batch, asked.count, asked.first)
        )
        return {"first": found.first, "last": found.last, "count": found.count}

    async def claim(self, asked: Claim) -> Document:
        """Give a chip its number."""
        address = await self._ledger.perform(
            lambda act, held: stock.claim(
                act, held, asked.operator, asked.batch, asked.serial, address=asked.address, begun=asked.begun
            )
        )
        return {"address": address}

    async def made(self, asked: Made) -> Document:
        """Put a finished card in stock."""
        card = await self._ledger.perform(
            lambda act, held: stock.made(act, held, asked.serial, asked.address, asked.key_version, asked.check_values)
        )
        return {"made_at": spell(card.made_at or 0)}

    async def batches(self) -> Document:
        """All batches."""
        found = await self._ledger.perform(lambda _, held: stock.batches(held))
        return {"batches": [{**batch, "reserved_at": spell(batch["reserved_at"])} for batch in found]}


def stock_routes(desk: StockDesk) -> list[Route]:
    """The routes below /v1/stock."""

    async def batches(_request: Request) -> Response:
        return JSONResponse(await desk.batches())

    return [
        Route("/v1/stock", batches),
        Route("/v1/stock/reserve", _taking(Reservation, desk.reserve), methods=["POST"]),
        Route("/v1/stock/claim", _taking(Claim, desk.claim), methods=["POST"]),
        Route("/v1/stock/made", _taking(Made, desk.made), methods=["POST"]),
    ]


def _taking(kind: type[Body], act: Callable[[Body], Awaitable[Document]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await _read(request, kind)
        if (operator := getattr(body, "operator", None)) is not None:
            name_operator(request, operator)
        return JSONResponse(await act(body))

    return endpoint


async def _read(request: Request, kind: type[Body]) -> Body:
    """Read and check a body. Raises StockRefusedError."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > BODY_MAX:
            raise StockRefusedError("the question is too long")
    try:
        return kind.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise StockRefusedError(f"{place}: {first['msg']}") from None
    except (ValueError, RecursionError):
        raise StockRefusedError("the question is not JSON") from None
