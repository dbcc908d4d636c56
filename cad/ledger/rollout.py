"""A changed offer reaches the cards that have it: a few at once, very many in slices, so that orders go on in between.

The offer's row changes in one transaction with its answer. A card that has not followed yet says what stood before
(I3) until its slice comes; before any command about it is looked at, it follows.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from sqlalchemy import Connection

from cad.ledger import facts
from cad.ledger.batch import Batch
from cad.ledger.decide.events import follow_window
from cad.ledger.model import HEADEND, CardChange, RolledOut
from cad.ledger.records import OfferRow, Rollout
from cad.ledger.tables import rollouts, rows
from cad.ledger.working import pending_for

log = structlog.get_logger(__name__)


def of_command(batch: Batch, was: OfferRow, new: OfferRow, command_id: str) -> Rollout:
    """Return the rollout of an offer that a command changes."""
    granted = batch.grants.products(was.operator)
    changed = None if was.event else sorted((set(was.slugs()) ^ set(new.slugs())) & granted.keys())
    return _rollout(batch, was, was.listed(granted), changed, command_id)


def of_grants(batch: Batch, offer: OfferRow, before: Mapping[str, int]) -> Rollout:
    """Return the rollout of an offer of whose products the settings grant others than `before`."""
    granted = batch.grants.products(offer.operator)
    changed = sorted(slug for slug in offer.slugs() if before.get(slug) != granted.get(slug))
    return _rollout(batch, offer, offer.listed(before), changed, HEADEND)


def begin(batch: Batch, connection: Connection, new: Sequence[Rollout]) -> tuple[list[CardChange], int]:
    """Let the first slice of cards follow; return their changes, and how many cards are left for later."""
    batch.flush(connection)
    batch.counters.rollouts = (*batch.counters.rollouts, *new)
    changes: list[CardChange] = []
    for one in new:
        changes += _advance(batch, connection, one)
    left = 0
    for one in new:
        if one_now := _standing(batch, one):
            counted = replace(one_now, cards_left=rollouts.count(connection, one_now, batch.now))
            _put(batch, counted)
            left += counted.cards_left
    return changes, left


def promise(batch: Batch, command_id: str, on_air_by: int | None, visible_by: int | None) -> None:
    """Note what the answer to a command promised for the cards that follow later."""
    batch.counters.rollouts = tuple(
        replace(one, on_air_by=on_air_by, visible_by=visible_by) if one.command_id == command_id else one
        for one in batch.counters.rollouts
    )


def run(batch: Batch, connection: Connection) -> RolledOut:
    """Let the next slice of cards follow; offers take turns."""
    if not batch.counters.rollouts:
        return RolledOut()
    one, *others = batch.counters.rollouts
    changes = _advance(batch, connection, one)
    if (advanced := _standing(batch, one)) is not None:
        batch.counters.rollouts = (*others, advanced)
    batch.note(
        "rolled-out",
        {
            "operator": one.operator,
            "command": one.command_id,
            "offer": batch.state.offers_by_id[one.offer_id].offer,
            "versions": [[change.address, change.revision, change.change_seq] for change in changes],
            "left": 0 if advanced is None else advanced.cards_left,
        },
    )
    batch.flush(connection)
    return RolledOut(tuple(changes), one.on_air_by, one.visible_by)


def catch_up(batch: Batch) -> list[CardChange]:
    """Let the cards of the working set follow what their offers became; return those that did."""
    if not batch.counters.rollouts:
        return []
    behind: dict[int, Rollout] = {}
    for one in sorted(batch.counters.rollouts, key=lambda each: each.since_seq):
        behind |= dict.fromkeys(_behind(batch, one), one)
    changes = (_follow(batch, address, one) for address, one in behind.items())
    return [change for change in changes if change is not None]


def _rollout(
    batch: Batch, was: OfferRow, listed: Mapping[str, int], changed: Sequence[str] | None, command_id: str
) -> Rollout:
    counters = batch.counters
    if any((one.offer_id, one.since_seq) == (was.id, counters.change_seq) for one in counters.rollouts):
        counters.change_seq += 1
    return Rollout(
        offer_id=was.id,
        since_seq=counters.change_seq,
        operator=was.operator,
        command_id=command_id,
        at=batch.now,
        listed=json.dumps(dict(listed)),
        slugs=None if changed is None else json.dumps(changed),
        starts_at=was.starts_at,
        ends_at=was.ends_at,
        after=0,
        cards_left=0,
    )


def _advance(batch: Batch, connection: Connection, one: Rollout) -> list[CardChange]:
    """Let the next cards of one rollout follow, and what else they have to follow with it."""
    addresses, after = rollouts.following(connection, one, batch.now, batch.roll_at_once)
    rows.load_cards(connection, batch.state, addresses, batch.now)
    if one.offer_id not in batch.state.offers_by_id:
        batch.state.add_offer(rows.offers_by_id(connection, [one.offer_id])[0])
    changes = catch_up(batch)
    if after is None:
        batch.counters.rollouts = tuple(each for each in batch.counters.rollouts if not _same(each, one))
    else:
        _put(batch, replace(one, after=after, cards_left=max(0, one.cards_left - len(addresses))))
    return changes


def _behind(batch: Batch, one: Rollout) -> list[int]:
    """Return the cards of the working set whose EMM says a subscription as it was before this change."""
    state = batch.state
    return [
        address
        for address, card in state.cards.items()
        if card.change_seq < one.since_seq
        and any(one.concerns(row) and state.is_said(row, batch.now) for row in state.by_card[address].values())
    ]


def _follow(batch: Batch, address: int, newest: Rollout) -> CardChange | None:
    """Give one card what its offers are now, and a new version."""
    card = batch.state.cards[address]
    for pending in pending_for(batch.counters.rollouts, card.change_seq).values():
        offer = batch.state.offers_by_id.get(pending.offer_id)
        if offer is not None and offer.event:
            _follow_window(batch, address, pending, offer)
    try:
        return batch.change(address, newest.command_id)
    except OverflowError:
        # It must not keep the others from following (I7).
        log.exception("card cannot be told what an offer became", address=address, offer=newest.offer_id)
        return None


def _follow_window(batch: Batch, address: int, pending: Rollout, offer: OfferRow) -> None:
    """Give the orders of an event on one card its new window; who ended his earlier keeps his end."""
    for row in list(batch.state.by_card[address].values()):
        if row.offer_id != offer.id or not row.live(pending.at):
            continue
        moved = follow_window(row, pending.ends_at, offer)
        after, told = facts.follow(row, moved, pending.at, event=True)
        batch.put_subscription(after, told, pending.command_id)


def _standing(batch: Batch, one: Rollout) -> Rollout | None:
    return next((each for each in batch.counters.rollouts if _same(each, one)), None)


def _put(batch: Batch, one: Rollout) -> None:
    batch.counters.rollouts = tuple(one if _same(each, one) else each for each in batch.counters.rollouts)


def _same(one: Rollout, other: Rollout) -> bool:
    return (one.offer_id, one.since_seq) == (other.offer_id, other.since_seq)
