"""What technicians did without network: recorded once, compared with the ledger, never overwriting it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from cad.ledger.acts import upkeep
from cad.ledger.batch import Batch
from cad.ledger.look.views import CardView
from cad.ledger.model import OPEN_STATES
from cad.technicians.documents import Visit, Visits

META_PREFIX: Final = "visits:"


def recorder(kind: str, who: Mapping[str, Any], sent: Visits) -> Callable[[Batch, Connection], int]:
    """An act on the ledger: note in the audit chain what was not sent before, and up to where that is now.

    It returns the highest `seq` of this person and laptop that was known before.
    """

    def record(batch: Batch, connection: Connection) -> int:
        key = f"{META_PREFIX}{who['who']}:{sent.laptop}"
        known = int(upkeep.get_meta(connection, key) or 0)
        new = sorted((visit for visit in sent.visits if visit.seq > known), key=lambda one: one.seq)
        for visit in new:
            facts = {**who, "act": visit.act, "laptop": sent.laptop, "visit": visit.seq, "done_at": visit.at}
            batch.note(kind, facts | visit.model_dump(exclude={"act", "at", "seq"}))
        if new:
            batch.flush(connection)
            upkeep.put_meta(connection, key, str(new[-1].seq))
        return known

    return record


def conflict(visit: Visit, view: CardView | None, period: int) -> str | None:
    """What the ledger says now against what was done, in words; None when they agree. `view`: None for no such card."""
    if view is None:
        return "the card does not belong to a customer of this operator (any more)"
    if visit.act == "refresh" and visit.put is not None:
        if visit.put[1] < view.revision:
            return (
                f"revision {visit.put[1]} was written into the card, but the ledger is at {view.revision}:"
                " the card learns the newer one from the air, or by another refresh"
            )
        if visit.put[0] < period:
            return f"what was written is of period {visit.put[0]}; the card still needs its renewal of period {period}"
    if visit.held is not None and visit.held[1] > view.revision:
        return f"the card held revision {visit.held[1]}, which the ledger (at {view.revision}) has never given"
    if visit.passed and view.state not in OPEN_STATES:
        return f"the verdict was PASS, but the card is {view.state} now"
    if visit.passed and visit.extract is not None and view.changed_at > visit.at:
        return "the verdict was PASS, but the card's orders have been changed since"
    return None
