"""The part of the control socket that gives reports and snapshots."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cad.errors import NotFoundError, QuestionError
from cad.http.scope import log_read

LINES: str = "application/x-ndjson"


class Reports(Protocol):
    """`cad.reports.desk.ReportDesk`."""

    async def active(self, day: str, operator: str | None = None) -> dict[str, Any]: ...
    async def check(self, first: str, last: str, operator: str | None = None) -> Any: ...
    def changes(self, first: str, last: str, operator: str | None = None) -> AsyncIterator[dict[str, Any]]: ...


Export = Callable[[str], AsyncIterator[bytes]]
"""Yields all items of an operator, as lines."""


def report_routes(reports: Reports, export: Export, operators: Callable[[], frozenset[str]]) -> list[Route]:
    """Return the routes, to be served where only operators of the headend get in."""

    async def active(request: Request) -> Response:
        found = await reports.active(_asked(request, "day"), request.query_params.get("operator"))
        log_read(request)
        return JSONResponse(found)

    async def changes(request: Request) -> Response:
        question = _asked(request, "from"), _asked(request, "to"), request.query_params.get("operator")
        await reports.check(*question)  # what cannot be answered is refused before the answer has begun
        log_read(request)

        async def lines() -> AsyncIterator[bytes]:
            async for one in reports.changes(*question):
                yield json.dumps(one, ensure_ascii=False).encode() + b"\n"

        return StreamingResponse(lines(), media_type=LINES)

    async def snapshot(request: Request) -> Response:
        operator = _asked(request, "operator")
        if operator not in operators():
            raise NotFoundError(f"there is no operator {operator!r} in the settings")
        log_read(request)
        return StreamingResponse(export(operator), media_type=LINES)

    return [
        Route("/v1/reports/active", active),
        Route("/v1/reports/changes", changes),
        Route("/v1/snapshot", snapshot),
    ]


def _asked(request: Request, name: str) -> str:
    found = request.query_params.get(name)
    if found is None:
        raise QuestionError(f"say {name}")
    return found
