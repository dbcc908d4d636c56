"""Facts for the invoice, published again on request."""

from cad.ledger.records import Decision
from cad.ledger.working import WorkingSet
from protocol.portal.commands.invoice import InvoiceReplay


def replay(command: InvoiceReplay, operator: str, state: WorkingSet) -> Decision:
    """Publish facts again, and say where to go on when there are more."""
    found = state.replays.get((operator, command.id), ())
    told = found[: command.limit]
    more = len(found) > len(told)
    return Decision(
        detail=f"{len(told)} facts are published again" + ("; there are more" if more else ""),
        replayed=told,
        resume_after=told[-1].number if more else None,
    )
