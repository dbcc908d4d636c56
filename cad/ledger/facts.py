"""Facts for the invoice (S10): what becomes of a subscription, told once when it happens or its moment comes. Pure.

phase: 0 nothing told, or all of an earlier run; 1 told that it runs; 2 over. `due_at` is the moment of the next fact.
"""

from dataclasses import replace
from typing import Final

from cad.ledger.records import Fact, SubscriptionRow
from protocol.portal.commands.invoice import InvoiceFact

WAITING: Final = 0
RUNNING: Final = 1
OVER: Final = 2


def follow(
    before: SubscriptionRow | None, after: SubscriptionRow, now: float, *, event: bool = False, with_card: bool = False
) -> tuple[SubscriptionRow, list[Fact]]:
    """Return the row to be put, and what is to be told when it takes the place of `before`.

    Everything that was due for `before` has been told. `event`: it is bought, and told so at once. `with_card`: it
    moves because its card is replaced, which is told by itself.
    """
    facts: list[Fact] = []
    runs = after.starts_at <= now and after.live(now)
    began_at = after.starts_at if before is None else max(after.starts_at, int(now))
    # What is over was told when it came, but for an event, whose end is no fact.
    running = before is not None and before.phase == RUNNING and before.live(now)
    if before is not None and running and _goes_on(before, after, now, runs=runs, event=event):
        if before.address != after.address and not with_card:
            facts.append(Fact(after.address, "service-moved", int(now), after, previous=before.address))
        return replace(after, phase=RUNNING, due_at=None if event else after.ends_at), facts
    if before is not None and running:
        ended_at = int(now) if after.live(now) or after.ends_at is None else min(after.ends_at, int(now))
        facts.append(Fact(before.address, "service-ended", ended_at, replace(before, ends_at=ended_at)))
    elif before is not None and before.phase == OVER and not after.live(now):
        return replace(after, phase=OVER, due_at=None), facts
    if not after.live(now):
        return replace(after, phase=OVER, due_at=None), facts
    if event:
        facts.append(Fact(after.address, "programme-bought", int(now), after))
        return replace(after, phase=RUNNING, due_at=None), facts
    if not runs:
        return replace(after, phase=WAITING, due_at=after.starts_at), facts
    facts.append(Fact(after.address, "service-started", began_at, after))
    return replace(after, phase=RUNNING, due_at=after.ends_at), facts


def come(row: SubscriptionRow) -> tuple[SubscriptionRow, Fact]:
    """Tell the fact that is due; return the row with the next one."""
    when = row.due_at
    if when is None:
        raise ValueError(f"nothing is due for subscription {row.subscription}")
    if row.phase == WAITING:
        return replace(row, phase=RUNNING, due_at=row.ends_at), Fact(row.address, "service-started", when, row)
    return replace(row, phase=OVER, due_at=None), Fact(row.address, "service-ended", when, row)


def spell(
    fact: Fact, number: int, *, offer: str | None, price: str | None, subscriber: str, command: str
) -> InvoiceFact:
    """Return a fact as it is published; `command` is empty where a moment came by itself."""
    service = fact.service
    return InvoiceFact(
        number=number,
        fact=fact.name,
        card=fact.address,
        at=fact.at,
        subscriber=subscriber or None,
        subscription=service.subscription if service is not None else None,
        offer=offer,
        price=price,
        ends_at=service.ends_at if service is not None else None,
        replacement=fact.replacement,
        previous=fact.previous,
        until=fact.until,
        reason=fact.reason,
        command=command or None,
    )


def _goes_on(before: SubscriptionRow, after: SubscriptionRow, now: float, *, runs: bool, event: bool) -> bool:
    """Return whether what runs goes on running without a fact of its own."""
    if before.offer_id != after.offer_id:
        return False
    return after.live(now) if event else runs
