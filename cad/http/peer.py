"""Who is at the other end of the control socket: the kernel knows, and nobody can tell it otherwise."""

import asyncio
import pwd
import socket
import struct
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

UID: Final = "cad.uid"
_CREDENTIALS: Final = struct.Struct("3i")


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that tells the application the user of a client on a Unix socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = cast(Any, _with_uid(cast(ASGIApp, self.app), _uid(transport.get_extra_info("socket"))))


def who(request: Request) -> str:
    """Return the user that asks, as the audit names him: name and number, or only what is known."""
    uid = request.scope.get(UID)
    if uid is None:
        return "unknown"
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _uid(connection: Any) -> int | None:
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(found)
    return int(uid)


def _with_uid(app: ASGIApp, uid: int | None) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, UID: uid}, receive, send)

    return answer
