"""Where a maker of cards gets its numbers: the daemon's control socket, asked with patience."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from cad.errors import DaemonUnreachableError
from cad.ledger.errors import LedgerError

PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
T = TypeVar("T")


class Numbers(Protocol):
    """Gives numbers. Raises StockRefusedError, DaemonUnreachableError or LedgerError; may be asked again."""

    def reserve(self, operator: str, batch: str, count: int, first: int | None) -> tuple[int, int]:
        """Return the first and last address of a batch."""
        ...

    def claim(self, operator: str, batch: str, serial: str, address: int | None, *, begun: bool) -> int:
        """Return the address of a chip."""
        ...

    def made(self, serial: str, address: int, key_version: int, check_values: dict[str, str]) -> None:
        """Put a finished card in stock."""
        ...


class Client(Protocol):
    """The part of `cad.cli.shell.client.DaemonClient` that is used."""

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]: ...


class DaemonNumbers:
    """Asks the daemon. Threads may share it, as they may share the client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def reserve(self, operator: str, batch: str, count: int, first: int | None) -> tuple[int, int]:
        """Return the first and last address of a batch."""
        asked = {"operator": operator, "batch": batch, "count": count, "first": first}
        found = self._client.post("/v1/stock/reserve", asked)
        return int(found["first"]), int(found["last"])

    def claim(self, operator: str, batch: str, serial: str, address: int | None, *, begun: bool) -> int:
        """Return the address of a chip."""
        asked = {"operator": operator, "batch": batch, "serial": serial, "address": address, "begun": begun}
        return int(self._client.post("/v1/stock/claim", asked)["address"])

    def made(self, serial: str, address: int, key_version: int, check_values: dict[str, str]) -> None:
        """Put a finished card in stock."""
        asked = {"serial": serial, "address": address, "key_version": key_version, "check_values": check_values}
        self._client.post("/v1/stock/made", asked)


class PatientNumbers:
    """Asks again, with growing pauses, while the daemon is away or its disk fails: a restart loses no card."""

    def __init__(self, numbers: Numbers, sleep: Callable[[float], None], pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._numbers = numbers
        self._sleep = sleep
        self._pauses_s = pauses_s

    def reserve(self, operator: str, batch: str, count: int, first: int | None) -> tuple[int, int]:
        """Return the first and last address of a batch."""
        return self._ask(lambda: self._numbers.reserve(operator, batch, count, first))

    def claim(self, operator: str, batch: str, serial: str, address: int | None, *, begun: bool) -> int:
        """Return the address of a chip."""
        return self._ask(lambda: self._numbers.claim(operator, batch, serial, address, begun=begun))

    def made(self, serial: str, address: int, key_version: int, check_values: dict[str, str]) -> None:
        """Put a finished card in stock."""
        self._ask(lambda: self._numbers.made(serial, address, key_version, check_values))

    def _ask(self, question: Callable[[], T]) -> T:
        for pause_s in self._pauses_s:
            try:
                return question()
            except (DaemonUnreachableError, LedgerError):
                self._sleep(pause_s)
        return question()
