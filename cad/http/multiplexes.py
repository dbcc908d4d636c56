"""The part of the control socket that moves a stream between main and standby multiplexer."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cad.air.mux_pair import SIDES
from cad.errors import NotFoundError

Switch = Callable[[str, str], Awaitable[None]]
"""Has a side carry a multiplex. Raises NotFoundError, SwitchRefusedError."""


def switch_routes(switch: Switch) -> list[Route]:
    """Return the routes, to be served where only operators get in."""

    async def on_switch(request: Request) -> Response:
        multiplex, to = request.path_params["multiplex"], request.path_params["to"]
        if to not in SIDES:
            raise NotFoundError(f"a multiplex has no side {to!r}; it has: {', '.join(SIDES)}")
        await switch(multiplex, to)
        return JSONResponse({"multiplex": multiplex, "carried_by": to})

    return [Route("/v1/multiplexes/{multiplex}/switch/{to}", on_switch, methods=["POST"])]
