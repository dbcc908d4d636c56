"""A headend behind the control socket that answers as a test has set it."""

from collections.abc import AsyncIterator
from typing import Any

from cad.errors import NotFoundError
from cad.ledger.errors import AuditBroken
from protocol import card_number

CHANNEL: dict[str, Any] = {
    "name": "Sport 1",
    "products": ["sport"],
    "visible": False,
    "code": "suspended",
    "sentence": "The card is suspended (unpaid); its subscriptions are kept.",
    "advice": "ask the till",
    "needs": [
        {"code": "reopen", "text": "The card must be reopened.", "names": [], "at": None},
        {"code": "multiplex", "text": "Multiplex mux-1 must be connected.", "names": ["mux-1"], "at": None},
    ],
}


class ScriptedHeadend:
    """Implements `cad.http.facade.Headend`. Card 999 is unknown."""

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.crash = False

    def break_audit(self) -> None:
        self.broken = AuditBroken(7, "hash differs")

    def status(self) -> dict[str, Any]:
        if self.crash:
            raise RuntimeError("a defect")
        return {"node": "headend-1"}

    async def explain(self, card: str, channel: str | None, operator: str | None = None) -> dict[str, Any]:
        if card_number.parse(card) == 999 or operator not in (None, "kaisa"):
            raise NotFoundError("no such card")
        return {"card": card} | ({} if channel is None else {"channel": CHANNEL | {"service": channel}})

    def messages(self) -> dict[str, Any]:
        one = {"network": "net", "operator": "kaisa", "message": "works-17", "number": 4, "to": "all cards", "emms": 1}
        one |= {"starts_at": "2026-11-22T10:00:00Z", "ends_at": "2026-11-23T10:00:00Z", "repeat_s": 300, "on_air": True}
        one["sent_to_all_at"] = "2026-11-22T10:00:02Z"
        sent = {"multiplex": "mux-1", "emms_sent": 12, "last_sent_at": None}
        return {"now": "2026-11-22T10:00:00Z", "messages": [one | {"multiplexes": [sent]}]}

    def carousel(self) -> dict[str, Any]:
        return {"multiplexes": [{"id": "south-1", "rings": []}]}

    async def audit_verify(self) -> dict[str, Any]:
        if self.broken:
            raise self.broken
        return {"records": 3}

    def audit_export(self, operator: str | None = None) -> AsyncIterator[bytes]:
        if operator not in (None, "kaisa"):
            raise NotFoundError("no such operator")
        return self._records(1 if operator else 0)

    async def _records(self, first: int) -> AsyncIterator[bytes]:
        for number in range(first, 3):
            yield b'{"seq": %d}\n' % number

    async def check(self) -> dict[str, Any]:
        return {"checks": [{"name": "ledger file", "ok": True, "text": "whole"}]}

    async def believe_clock(self) -> dict[str, Any]:
        return {"now": "2027-01-15T08:00:00Z"}
