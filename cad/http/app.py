"""The two HTTP applications: `public_app` for probes and Prometheus, `control_app` with everything else on top."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cad.errors import CadError, CatalogueChangedError, NotFoundError, QuestionError, StockRefusedError
from cad.frame.health import Condition, Health
from cad.frame.metrics import CONTENT_TYPE, Metrics
from cad.http.facade import Headend
from cad.http.scope import log_read, log_refusal
from cad.ledger.errors import AuditBroken, LedgerError
from emm.errors import EmmError
from protocol.errors import CardNumberError, ProtocolError
from protocol.portal.commands.catalogue import CatalogueError

Endpoint = Callable[[Request], Awaitable[Response]]

STATUS_OF_ERROR: tuple[tuple[type[Exception], int], ...] = (
    (CardNumberError, 400),
    (QuestionError, 400),
    (NotFoundError, 404),
    (StockRefusedError, 409),
    (CatalogueError, 400),
    (CatalogueChangedError, 409),
    (AuditBroken, 409),
    (LedgerError, 503),
    (CadError, 500),
    (EmmError, 500),
    (ProtocolError, 500),
)


def public_app(health: Health, metrics: Metrics) -> Starlette:
    """What anybody on the machine may read: /livez, /readyz, /metrics."""
    return Starlette(routes=_public_routes(health, metrics))


def control_app(headend: Headend, health: Health, metrics: Metrics, more: Sequence[Route] = ()) -> Starlette:
    """What the `cad` command uses. To be served where only operators get in. `more`: routes of other parts."""
    return Starlette(
        routes=[*_public_routes(health, metrics), *_control_routes(headend, health), *more],
        exception_handlers={kind: _refuse for kind, _ in STATUS_OF_ERROR},
    )


def _public_routes(health: Health, metrics: Metrics) -> list[Route]:
    async def livez(_request: Request) -> Response:
        return _verdict("alive", health.against_life())

    async def readyz(_request: Request) -> Response:
        return _verdict("ready", health.against_readiness())

    async def show_metrics(_request: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", show_metrics)]


def _control_routes(headend: Headend, health: Health) -> list[Route]:
    async def status(_request: Request) -> Response:
        conditions = [condition.as_dict() for condition in health.conditions()]
        found = {"alive": not health.against_life(), "ready": not health.against_readiness(), "conditions": conditions}
        return JSONResponse(headend.status() | {"health": found})

    async def explain(request: Request) -> Response:
        channel, operator = (request.query_params.get(name) for name in ("channel", "operator"))
        return JSONResponse(await headend.explain(request.path_params["card"], channel, operator))

    async def carousel(_request: Request) -> Response:
        return JSONResponse(headend.carousel())

    async def messages(_request: Request) -> Response:
        return JSONResponse(headend.messages())

    async def audit_verify(_request: Request) -> Response:
        return JSONResponse(await headend.audit_verify())

    async def audit_export(request: Request) -> Response:
        lines = headend.audit_export(request.query_params.get("operator"))
        log_read(request)
        return StreamingResponse(lines, media_type="application/x-ndjson")

    async def check(_request: Request) -> Response:
        return JSONResponse(await headend.check())

    async def believe_clock(_request: Request) -> Response:
        return JSONResponse(await headend.believe_clock())

    return [
        Route("/v1/status", status),
        Route("/v1/explain/{card}", explain),
        Route("/v1/carousel", carousel),
        Route("/v1/messages", messages),
        Route("/v1/audit/verify", audit_verify),
        Route("/v1/audit/export", audit_export),
        Route("/v1/check", check),
        Route("/v1/clock/believe", believe_clock, methods=["POST"]),
    ]


def _verdict(word: str, against: list[Condition]) -> Response:
    document: dict[str, Any] = {word: not against, "against": [condition.as_dict() for condition in against]}
    return JSONResponse(document, 503 if against else 200)


async def _refuse(request: Request, error: Exception) -> Response:
    log_refusal(request, error)
    status = next(status for kind, status in STATUS_OF_ERROR if isinstance(error, kind))
    kind = type(error).__name__
    return JSONResponse({"error": {"type": kind, "text": str(error)}}, status)
