"""The HTTP application for technicians. Served over mutual TLS only (`cad.technicians.server`)."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cad.errors import CadError, NotFoundError
from cad.ledger.errors import LedgerError
from cad.technicians.desk import Desk
from cad.technicians.documents import ExtractRequest, Proof, Visits
from cad.technicians.errors import BadRequestError, ExtractError, NotAllowedError
from cad.technicians.people import People, Person
from emm.errors import EmmError
from protocol.errors import CardNumberError

log = structlog.get_logger("cad.technicians")

BODY_MAX: Final = 512 * 1024
READER_HEADER: Final = "x-cad-reader"
READER_MAX: Final = 120
PEER: Final = "cad.common_name"

STATUS_OF_ERROR: Final[tuple[tuple[type[Exception], int], ...]] = (
    (NotAllowedError, 403),
    (BadRequestError, 400),
    (CardNumberError, 400),
    (ExtractError, 409),
    (NotFoundError, 404),
    (LedgerError, 503),
    (CadError, 500),
    (EmmError, 500),
)

Model = TypeVar("Model", bound=BaseModel)
Act = Callable[[Person, Request], Awaitable[BaseModel | dict[str, Any]]]


def technicians_app(desk: Desk, people: People, count: Callable[[str], None] = lambda outcome: None) -> Starlette:
    """All that technicians can ask. `count` is told of each request: `answered`, `not_allowed` or `failed`."""

    async def me(person: Person, _request: Request) -> BaseModel:
        return desk.me(person)

    async def card(person: Person, request: Request) -> BaseModel:
        return await desk.card(person, request.path_params["number"], _reader(request))

    async def challenge(person: Person, request: Request) -> BaseModel:
        return await desk.challenge(person, request.path_params["number"], _reader(request))

    async def proof(person: Person, request: Request) -> BaseModel:
        body = await _body(request, Proof)
        return await desk.prove(person, request.path_params["number"], body, _reader(request))

    async def emm(person: Person, request: Request) -> BaseModel:
        return await desk.emm(person, request.path_params["number"], _reader(request))

    async def extract(person: Person, request: Request) -> BaseModel:
        return await desk.extract(person, await _body(request, ExtractRequest))

    async def visits(person: Person, request: Request) -> BaseModel:
        return await desk.visits(person, await _body(request, Visits))

    async def acts(person: Person, _request: Request) -> dict[str, Any]:
        return await desk.acts(person)

    def endpoint(act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            name = request.scope.get(PEER)
            try:
                found = await act(people.find(name), request)
            except NotAllowedError as error:
                log.warning("technician refused", who=name, path=request.url.path, reason=str(error))
                count("not_allowed")
                await desk.refused(name, act.__name__, str(error))
                raise
            except Exception:
                count("failed")
                raise
            count("answered")
            return JSONResponse(found.model_dump(mode="json") if isinstance(found, BaseModel) else found)

        return answer

    return Starlette(
        routes=[
            Route("/v1/me", endpoint(me)),
            Route("/v1/cards/{number}", endpoint(card)),
            Route("/v1/cards/{number}/challenge", endpoint(challenge), methods=["POST"]),
            Route("/v1/cards/{number}/proof", endpoint(proof), methods=["POST"]),
            Route("/v1/cards/{number}/emm", endpoint(emm), methods=["POST"]),
            Route("/v1/extract", endpoint(extract), methods=["POST"]),
            Route("/v1/visits", endpoint(visits), methods=["POST"]),
            Route("/v1/acts", endpoint(acts)),
        ],
        exception_handlers={kind: _refuse for kind, _ in STATUS_OF_ERROR},
    )


def _reader(request: Request) -> str:
    """The reader that the laptop names, cut to what an audit record can bear."""
    told = request.headers.get(READER_HEADER, "")
    return "".join(letter for letter in told if letter.isprintable())[:READER_MAX]


async def _body(request: Request, model: type[Model]) -> Model:
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > BODY_MAX:
            raise BadRequestError(f"more than {BODY_MAX} bytes in one request; send less at a time")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise BadRequestError(f"{where or 'the body'}: {first['msg']}") from None


async def _refuse(_request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS_OF_ERROR if isinstance(error, kind))
    return JSONResponse({"error": {"type": type(error).__name__, "text": str(error)}}, status)
