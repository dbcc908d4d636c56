"""What the HTTP side wants from the daemon. `cad.app` implements it."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

Document = dict[str, Any]


class Headend(Protocol):
    """Answers are documents that JSON can spell. Errors are those of `cad.errors`, of the ledger and of `protocol`."""

    def status(self) -> Document:
        """Return how the daemon is: node, version, broker, ledger, multiplexes, counts. The caller adds the health."""
        ...

    async def explain(self, card: str, channel: str | None, operator: str | None = None) -> Document:
        """Return why the card (its printed number) can see the channel or not; without a channel, all of the card.

        Raises CardNumberError, or NotFoundError for an unknown card or channel; for an `operator` also for a card of
        another, in the same words.
        """
        ...

    def carousel(self) -> Document:
        """Return what each multiplex sends: rate, rings with cards and cycle, oldest unsent change, shortfalls."""
        ...

    def messages(self) -> Document:
        """Return the messages and fingerprints on the air or to come, and how often each was sent where."""
        ...

    async def audit_verify(self) -> Document:
        """Verify the whole audit chain. Raises the ledger's AuditBroken."""
        ...

    def audit_export(self, operator: str | None = None) -> AsyncIterator[bytes]:
        """Yield the audit records of one operator, or all, one JSON line each, in order.

        Raises NotFoundError for an unknown operator, when it is called.
        """
        ...

    async def check(self) -> Document:
        """Check the ledger's integrity as only its owner can: {"checks": [{"name", "ok", "text", "advice"}]}."""
        ...

    async def believe_clock(self) -> Document:
        """Take the machine's clock as it is, on the operator's word, and return what the time is now."""
        ...
