"""Whose data somebody asks for over the control socket: what is read and what is refused is in the log (I10)."""

from typing import Final

import structlog
from starlette.requests import Request

from cad.http.peer import who

log = structlog.get_logger("cad.http")

OPERATOR: Final = "cad.operator"


def name_operator(request: Request, operator: str) -> None:
    """Note the operator that the body of a request names."""
    request.scope[OPERATOR] = operator


def operator_of(request: Request) -> str | None:
    """Return the operator that a request keeps to, None for one that is about all of them."""
    found = request.scope.get(OPERATOR, request.query_params.get("operator"))
    return None if found is None else str(found)


def log_read(request: Request) -> None:
    """Log that an answer of many cards goes out: to whom, and whose cards."""
    log.info("data read", path=request.url.path, operator=operator_of(request), who=who(request))


def log_refusal(request: Request, error: Exception) -> None:
    """Log that a request for one operator was refused; one that names none crosses no border."""
    if (operator := operator_of(request)) is not None:
        log.warning("request refused", path=request.url.path, operator=operator, who=who(request), error=str(error))
