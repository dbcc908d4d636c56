"""The part of the control socket that lists and loads offers."""

import json
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cad.http.peer import who
from cad.http.scope import name_operator
from cad.orders.catalogue import CatalogueDesk
from protocol.portal.commands import catalogue
from protocol.portal.commands.catalogue import CatalogueError
from protocol.portal.errors import FieldError

BODY_MAX: Final = 4 * 1024 * 1024


def catalogue_routes(desk: CatalogueDesk) -> list[Route]:
    """Return the routes, to be served where only operators get in."""

    async def offers(request: Request) -> Response:
        return JSONResponse(await desk.offers(request.query_params.get("operator")))

    async def compare(request: Request) -> Response:
        wanted = catalogue.read((await _read(request)).get("catalogue"))
        name_operator(request, wanted.operator)
        return JSONResponse(await desk.compare(wanted, who(request)))

    async def load(request: Request) -> Response:
        body = await _read(request)
        wanted = catalogue.read(body.get("catalogue"))
        name_operator(request, wanted.operator)
        return JSONResponse(await desk.load(wanted, str(body.get("seen")), who(request)))

    return [
        Route("/v1/offers", offers),
        Route("/v1/offers/compare", compare, methods=["POST"]),
        Route("/v1/offers/load", load, methods=["POST"]),
    ]


async def _read(request: Request) -> dict[str, Any]:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > BODY_MAX:
            raise CatalogueError((FieldError("", f"should have {BODY_MAX} bytes at most"),))
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise CatalogueError((FieldError("", "should be JSON"),)) from None
    return found if isinstance(found, dict) else {}
