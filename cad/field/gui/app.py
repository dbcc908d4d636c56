"""The page's HTTP application: for this machine's browser only, and only for the page that it served itself."""

import hmac
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cad.field.gui.bench import Bench

PAGE: Final = Path(__file__).with_name("page.html")
TOKEN_HEADER: Final = "x-cad-token"  # noqa: S105 - a name, not a secret
LOOPBACK: Final = ("127.0.0.1", "localhost")
POLICY: Final = "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; connect-src 'self'"


def gui_app(bench: Bench, token: str) -> Starlette:
    """The page, its state, and its two buttons. `token`: unpredictable; whoever has not read the page has it not."""

    async def page(_request: Request) -> Response:
        text = PAGE.read_text(encoding="utf-8").replace("{{token}}", token)
        headers = {
            "Content-Security-Policy": POLICY.format(token),
            "Cache-Control": "no-store",
            "X-Frame-Options": "DENY",
        }
        return HTMLResponse(text, headers=headers)

    async def state(request: Request) -> Response:
        return _unless_ours(request, token) or JSONResponse(bench.state(), headers={"Cache-Control": "no-store"})

    def act(refresh: bool) -> Route:
        async def run(request: Request) -> Response:
            if refused := _unless_ours(request, token):
                return refused
            done = await run_in_threadpool(bench.again, refresh)
            return JSONResponse(bench.state(), 200 if done else 409)

        return Route("/refresh" if refresh else "/verify", run, methods=["POST"])

    return Starlette(
        routes=[Route("/", page), Route("/state", state), act(refresh=False), act(refresh=True)],
        # Another site's name that is made to point here must not reach the page (DNS rebinding).
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)],
    )


def _unless_ours(request: Request, token: str) -> Response | None:
    """A refusal for who has not read the page."""
    if hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
        return None
    return JSONResponse({"error": "open the page first"}, 403)
