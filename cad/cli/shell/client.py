"""Talk to the running daemon over its control socket."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from cad.cli.shell.options import DEFAULT_CONFIG, DEFAULT_SOCKET
from cad.errors import (
    BackupError,
    CadError,
    CatalogueChangedError,
    CatalogueFileError,
    CheckFailedError,
    DaemonUnreachableError,
    NotFoundError,
    NumbersUsedUpError,
    QuestionError,
    StockRefusedError,
)
from cad.ledger.errors import LedgerError
from config.load import load
from protocol.errors import CardNumberError

ANSWER_TIMEOUT_S: Final = 60.0
ERRORS: Final[dict[str, type[Exception]]] = {
    "CardNumberError": CardNumberError,
    "NotFoundError": NotFoundError,
    "QuestionError": QuestionError,
    "AuditBroken": CheckFailedError,
    "BackupError": BackupError,
    "CatalogueChangedError": CatalogueChangedError,
    "CatalogueError": CatalogueFileError,
    "LedgerUnavailable": LedgerError,
    "NumbersUsedUpError": NumbersUsedUpError,
    "StockRefusedError": StockRefusedError,
}


class DaemonClient:
    """Asks the daemon. Raises DaemonUnreachableError when there is no talking to it, or the error it answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://cad", timeout=ANSWER_TIMEOUT_S
        )

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Return the document that the daemon answers."""
        return self._ask("GET", path, parameters)

    def post(
        self, path: str, body: dict[str, Any] | None = None, timeout_s: float = ANSWER_TIMEOUT_S
    ) -> dict[str, Any]:
        """Have the daemon do something, and return its answer."""
        return self._ask("POST", path, {}, body, timeout_s)

    def lines(self, path: str, **parameters: str) -> Iterator[str]:
        """Yield the lines of a long answer as they come."""
        with self._reached(), self._client.stream("GET", path, params=parameters, timeout=None) as answer:
            if answer.is_error:
                answer.read()
            _raise_if_refused(answer)
            yield from answer.iter_lines()

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a long answer of bytes as it comes. Raises DaemonUnreachableError when it breaks off."""
        with self._reached(), self._client.stream("GET", path, timeout=ANSWER_TIMEOUT_S) as answer:
            if answer.is_error:
                answer.read()
            _raise_if_refused(answer)
            yield from answer.iter_raw()

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        parameters: dict[str, str],
        body: dict[str, Any] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> dict[str, Any]:
        with self._reached():
            answer = self._client.request(method, path, params=parameters, json=body, timeout=timeout_s)
        _raise_if_refused(answer)
        found = answer.json()
        if not isinstance(found, dict):
            raise CadError(f"the daemon's answer to {path} is not a document; do daemon and command have one version?")
        return found

    @contextmanager
    def _reached(self) -> Iterator[None]:
        _knock(self.path)
        try:
            yield
        except httpx.TimeoutException:
            raise DaemonUnreachableError(
                f"the daemon at {self.path} took the question, but does not answer; look at: systemctl status cad"
            ) from None
        except httpx.TransportError as error:
            raise DaemonUnreachableError(f"the daemon at {self.path} hung up: {error}") from None


@contextmanager
def daemon(config: Path, socket_path: Path | None) -> Iterator[DaemonClient]:
    """Find the socket (named, else in the settings, else the usual one) and talk to the daemon behind it."""
    if socket_path is None and (config != DEFAULT_CONFIG or _is_readable(config)):
        socket_path = load(config).node.socket
    client = DaemonClient(socket_path or DEFAULT_SOCKET)
    try:
        yield client
    finally:
        client.close()


def _is_readable(path: Path) -> bool:
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def _raise_if_refused(answer: httpx.Response) -> None:
    if not answer.is_error:
        return
    try:
        error = answer.json()["error"]
        kind, text = str(error["type"]), str(error["text"])
    except (ValueError, LookupError, TypeError):
        raise CadError(f"the daemon failed with HTTP status {answer.status_code}; look at its log") from None
    raise ERRORS.get(kind, CadError)(text)


def _knock(path: Path) -> None:
    """Raise DaemonUnreachableError, in plain words, where a connection cannot even be made."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(ANSWER_TIMEOUT_S)
        try:
            knocking.connect(str(path))
            return
        except FileNotFoundError:
            text = f"no daemon runs: there is no socket {path}. Start it (systemctl start cad), or name --socket"
        except ConnectionRefusedError:
            text = f"no daemon runs: nobody listens on {path} any more. Start it: systemctl start cad"
        except PermissionError:
            text = f"you may not use {path}: become a member of its group (usermod -aG cad USER), or use sudo"
        except OSError as error:
            text = f"{path} cannot be used: {error.strerror or error}"
    raise DaemonUnreachableError(text)
