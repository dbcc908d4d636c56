"""The laptop's side of the headend's port for technicians. One thread at a time."""

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from cad.errors import CadError, DaemonUnreachableError, NotFoundError
from cad.frame.tls import TlsFilesError, files_reason
from cad.technicians import documents as docs
from cad.technicians.app import READER_HEADER
from cad.technicians.errors import BadRequestError, ExtractError, NotAllowedError
from config.technician_file import TechnicianFile
from protocol.errors import CardNumberError

CONNECT_S: Final = 2.0
ANSWER_S: Final = 2.5
LONG_ANSWER_S: Final = 300.0
ERRORS: Final[dict[str, Callable[[str], Exception]]] = {
    "NotAllowedError": NotAllowedError,
    "NotFoundError": NotFoundError,
    "BadRequestError": BadRequestError,
    "ExtractError": ExtractError,
    "CardNumberError": CardNumberError,
    "LedgerUnavailable": DaemonUnreachableError,
}

Answer = TypeVar("Answer", bound=BaseModel)


class HeadendApi:
    """Asks the headend. Raises DaemonUnreachableError where it cannot be reached in time, or the error it answered."""

    def __init__(self, settings: TechnicianFile) -> None:
        """Raises TlsFilesError."""
        self.url = settings.headend
        self._client = httpx.Client(
            base_url=settings.headend,
            verify=client_context(settings),
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,
        )

    def me(self) -> docs.Me:
        """Who the headend takes us for."""
        return self._ask("GET", "/v1/me", docs.Me)

    def card(self, number: str, reader: str) -> docs.CardAnswer:
        """What the ledger says of a card."""
        return self._ask("GET", f"/v1/cards/{number}", docs.CardAnswer, reader=reader)

    def challenge(self, number: str, reader: str) -> bytes:
        """A challenge for the card."""
        found = self._ask("POST", f"/v1/cards/{number}/challenge", docs.ChallengeAnswer, reader=reader)
        return bytes.fromhex(found.challenge)

    def prove(self, number: str, challenge: bytes, answer: bytes, reader: str) -> bool:
        """Whether this is the right answer."""
        body = docs.Proof(challenge=challenge.hex(), proof=answer.hex())
        return self._ask("POST", f"/v1/cards/{number}/proof", docs.ProofAnswer, body, reader).genuine

    def emm(self, number: str, reader: str) -> docs.EmmAnswer:
        """The card's current EMM."""
        return self._ask("POST", f"/v1/cards/{number}/emm", docs.EmmAnswer, reader=reader)

    def extract(self, numbers: Sequence[str] | None) -> docs.SignedExtract:
        """A signed extract of all cards, or of the ones named."""
        body = docs.ExtractRequest(cards=None if numbers is None else tuple(numbers))
        return self._ask("POST", "/v1/extract", docs.SignedExtract, body, timeout_s=LONG_ANSWER_S)

    def visits(self, sent: docs.Visits) -> docs.VisitsAnswer:
        """Hand in what was done."""
        return self._ask("POST", "/v1/visits", docs.VisitsAnswer, sent)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        model: type[Answer],
        body: BaseModel | None = None,
        reader: str = "",
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        headers = {READER_HEADER: reader.encode("ascii", "replace").decode()} if reader else {}
        content = None if body is None else body.model_dump_json().encode()
        try:
            answer = self._client.request(
                method,
                path,
                content=content,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            )
        except httpx.TimeoutException:
            raise DaemonUnreachableError(f"the headend at {self.url} does not answer in time") from None
        except httpx.TransportError as error:
            raise DaemonUnreachableError(f"the headend at {self.url} cannot be reached: {error}") from None
        if answer.is_error:
            raise _error(answer)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            raise CadError(
                f"the headend's answer to {path} is not understood: do headend and laptop have one version of cad?"
            ) from None


def client_context(settings: TechnicianFile) -> ssl.SSLContext:
    """TLS that checks the headend's certificate and shows the technician's. Raises TlsFilesError, naming the file."""
    try:
        context = ssl.create_default_context(cafile=str(settings.ca_file))
    except OSError as error:
        raise TlsFilesError(f"ca_file {settings.ca_file} cannot be used: {files_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except OSError as error:
        raise TlsFilesError(
            f"cert_file {settings.cert_file} with key_file {settings.key_file} cannot be used: {files_reason(error)}"
        ) from None
    return context


def _error(answer: httpx.Response) -> Exception:
    try:
        error: Any = answer.json()["error"]
        kind, text = str(error["type"]), str(error["text"])
    except (ValueError, LookupError, TypeError):
        return DaemonUnreachableError(f"the headend failed with HTTP status {answer.status_code}; try again soon")
    return ERRORS.get(kind, CadError)(text)
