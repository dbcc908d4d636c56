"""The part of the control socket that hands out the ledger as a file."""

from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

Take = Callable[[], AsyncGenerator[bytes, None]]
"""Yields the pieces of a backup. Raises LedgerUnavailable or BackupError, also when it is not to be used after all."""


def backup_routes(take: Take) -> list[Route]:
    """Return the route, to be served where only operators get in."""

    async def on_backup(_request: Request) -> Response:
        pieces = take()
        # Whatever is wrong from the start is answered as such; later the answer just breaks off.
        first = await anext(pieces)
        return StreamingResponse(_all(first, pieces), media_type="application/vnd.sqlite3")

    return [Route("/v1/backup", on_backup)]


async def _all(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()
