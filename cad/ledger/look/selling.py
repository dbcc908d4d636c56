"""What an operator sells."""

from collections.abc import Collection

from sqlalchemy import Connection

from cad.ledger.model import Grants
from cad.ledger.tables import rows


def offers_with(
    connection: Connection, grants: Grants, operator: str, products: Collection[str], service: str, now: float
) -> tuple[str, ...]:
    """Return the offers of an operator that can be ordered and open one of these products, or are events on `service`.

    Withdrawn offers, events that are over, and what is not granted any more (I10) are left out.
    """
    granted = grants.products(operator)
    grant = grants.operators.get(operator)
    on_service = grant is not None and grant.events is not None and service in grant.events.services
    return tuple(
        offer.offer
        for offer in rows.offers_of(connection, operator)
        if offer.withdrawn_at is None
        and (
            on_service and offer.service == service and (offer.ends_at or 0) > now
            if offer.event
            else not offer.listed(granted).keys().isdisjoint(products)
        )
    )
