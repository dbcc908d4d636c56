"""The port for technicians: mutual TLS in the daemon's own loop; the application learns the certificate's name."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from cad.frame.supervisor import Supervisor
from cad.frame.tls import TlsFilesError, files_reason
from cad.http.server import HttpServer, bind_tcp
from cad.technicians.app import PEER, technicians_app
from cad.technicians.desk import Desk
from cad.technicians.people import People
from config.technicians import TechniciansSettings


class TechnicianServer(HttpServer):
    """Serves the application to clients with a certificate of the right authority. Raises TlsFilesError."""

    def __init__(
        self, settings: TechniciansSettings, app: Starlette, listener: socket.socket, supervisor: Supervisor
    ) -> None:
        super().__init__("technicians", app, listener, supervisor)
        config = self._server.config
        config.http = _PeerProtocol
        config.load()
        config.ssl = server_context(settings)


class _PeerProtocol(H11Protocol):
    """HTTP/1.1 that tells the application the common name of the client's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = cast(Any, _with_peer(cast(ASGIApp, self.app), common_name(transport.get_extra_info("peercert"))))


def _with_peer(app: ASGIApp, name: str | None) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, PEER: name}, receive, send)

    return answer


def common_name(certificate: Any) -> str | None:
    """The common name in a certificate as `ssl` tells it; None where there is none, or more than one."""
    names = [value for rdn in (certificate or {}).get("subject", ()) for key, value in rdn if key == "commonName"]
    return names[0] if len(names) == 1 else None


def open_port(
    settings: TechniciansSettings,
    people: People,
    desk: Desk,
    supervisor: Supervisor,
    count: Callable[[str], None] = lambda outcome: None,
) -> TechnicianServer:
    """The port of the settings, bound but not yet served. Raises ListenError, TlsFilesError."""
    listener = bind_tcp(settings.listen, "technicians.listen")
    try:
        return TechnicianServer(settings, technicians_app(desk, people, count), listener, supervisor)
    except TlsFilesError:
        listener.close()
        raise


def what_needs_restart(settings: TechniciansSettings | None) -> TechniciansSettings | None:
    """The table without what a reload follows: the people."""
    return None if settings is None else settings.model_copy(update={"people": ()})


def server_context(settings: TechniciansSettings) -> ssl.SSLContext:
    """TLS 1.3 with a client certificate of `ca_file` demanded. Raises TlsFilesError, which names the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=str(settings.ca_file))
    except OSError as error:
        raise TlsFilesError(f"technicians.ca_file {settings.ca_file} cannot be used: {files_reason(error)}") from None
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except OSError as error:
        raise TlsFilesError(
            f"technicians.cert_file {settings.cert_file} with key_file {settings.key_file} cannot be used:"
            f" {files_reason(error)}"
        ) from None
    return context
