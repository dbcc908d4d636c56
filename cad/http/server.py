"""Serve the HTTP applications inside the daemon's own loop, without touching its signals."""

import contextlib
import os
import socket
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette

from cad.errors import ListenError
from cad.frame.supervisor import Supervisor
from cad.http.peer import PeerProtocol
from config.fields import listen_address

log = structlog.get_logger("cad.http")

SOCKET_MODE: Final = 0o660
BACKLOG: Final = 64
GRACE_S: Final = 2


class HttpServer:
    """One application on one listening socket. `start()` listens before it returns."""

    def __init__(self, name: str, app: Starlette, listener: socket.socket, supervisor: Supervisor) -> None:
        self._name = name
        self._listener = listener
        self._supervisor = supervisor
        self._server = _Server(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=5,
                limit_concurrency=64,
                backlog=BACKLOG,
            )
        )

    def start(self) -> None:
        """Serve as a supervised task."""
        self._listener.listen(BACKLOG)
        self._supervisor.start(self._name, self._serve, vital=False, restart=False)
        log.info("listening", server=self._name, address=str(self._listener.getsockname()))

    async def stop(self) -> None:
        """Finish the requests that run, then close."""
        self._server.should_exit = True
        await self._supervisor.stop(self._name, GRACE_S + 3.0, cancel=False)

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._listener])


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to `cad.frame.lifecycle`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind_unix(path: Path) -> socket.socket:
    """Return a socket bound to the path, open to owner and group only. Raises ListenError.

    A socket that nobody serves any more is replaced; one that is served is not.
    """
    _clear_away(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ListenError(
            f"cannot listen on {path} (node.socket): {error.strerror}. The directory must exist and be writable"
        ) from None
    finally:
        os.umask(before)
    return listener


def bind_tcp(address: str, setting: str = "node.http_listen") -> socket.socket:
    """Return a socket bound to host:port; `setting` says where it stands. Raises ListenError."""
    host, port = listen_address(address) or ("", 0)
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(resolved)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ListenError(f"cannot listen on {address} ({setting}): {error.strerror}") from None
    return listener


def _clear_away(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ListenError(f"{path} (node.socket) exists and is not a socket; move it away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except OSError as error:
        raise ListenError(f"{path} (node.socket) cannot be used: {error.strerror or error}") from None
    raise ListenError(f"another process listens on {path}; stop it first, or choose another node.socket")
