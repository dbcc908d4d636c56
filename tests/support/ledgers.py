"""What ledger tests share: grants of two operators, orders from plain words, a store on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cad.ledger.model import Grants, LedgerOptions, OperatorGrant, Order, Outcome
from cad.ledger.promise import NoPromise, Promise
from cad.ledger.store import FILE_NAME, Store
from protocol.card_number import spell
from protocol.portal.commands import parsing

KEY = bytes(range(32))
NOW = 1_800_000_000.0
PRODUCTS = {"sport": 1, "film": 2, "news": 3}
GRANTS = Grants(
    {
        "karjaa": OperatorGrant("south", PRODUCTS, ((0, 999),), ("mux-1", "mux-2")),
        "kaspnet": OperatorGrant("south", {"sport": 1}, ((1000, 1999),), ("mux-1", "mux-2")),
    }
)
PROMISES: Mapping[str, Promise] = {
    name: NoPromise(on_air_by=int(NOW) + 10, visible_by=int(NOW) + 70) for name in ("karjaa", "kaspnet")
}


@dataclass(frozen=True)
class Air:
    """A first transmission."""

    change_seq: int
    multiplex: str
    at: float


def order(operator: str, resource: str, verb: str, command_id: str, reply: str | None = "web", **body: Any) -> Order:
    """Return a command as the intake hands it to the ledger. `card` is an address."""
    if "card" in body:
        body["card"] = spell(body["card"])
    command = parsing.parse(resource, verb, json.dumps(body).encode(), command_id)
    said = command.body()
    topic = None if reply is None else f"cad/v1/{operator}/rep/{reply}"
    return Order(operator, command, said, parsing.digest(command, said), topic, b"correlation")


def offer(command_id: str = "offer-1", operator: str = "karjaa", **changed: Any) -> Order:
    body = {"offer": "basic", "rev": 1, "kind": "package", "names": {"fi": "Perus"}, "products": ["sport"]}
    return order(operator, "offer", "put", command_id, **(body | changed))


def assign(command_id: str = "assign-1", operator: str = "karjaa", **changed: Any) -> Order:
    return order(operator, "card", "assign", command_id, **({"card": 7, "rev": 1, "subscriber": "anna"} | changed))


def subscribe(command_id: str = "subscribe-1", operator: str = "karjaa", **changed: Any) -> Order:
    body = {"subscription": "s-1", "rev": 1, "card": 7, "offer": "basic"}
    return order(operator, "subscription", "put", command_id, **(body | changed))


def end(command_id: str = "end-1", operator: str = "karjaa", **changed: Any) -> Order:
    return order(operator, "subscription", "end", command_id, **({"subscription": "s-1", "rev": 2} | changed))


def suspend(command_id: str = "suspend-1", operator: str = "karjaa", **changed: Any) -> Order:
    return order(operator, "card", "suspend", command_id, **({"card": 7, "rev": 2} | changed))


def reopen(command_id: str = "reopen-1", operator: str = "karjaa", **changed: Any) -> Order:
    return order(operator, "card", "reopen", command_id, **({"card": 7, "rev": 3} | changed))


def refresh(command_id: str = "refresh-1", operator: str = "karjaa", **changed: Any) -> Order:
    return order(operator, "card", "refresh", command_id, **({"card": 7} | changed))


def open_store(folder: Path, *, key: bytes = KEY, grants: Grants = GRANTS, now: float = NOW, **options: Any) -> Store:
    """Open, or begin, a ledger in a folder."""
    folder.mkdir(exist_ok=True)
    store = Store(folder / FILE_NAME, key, LedgerOptions(**options))
    store.open(grants, now)
    return store


def take(store: Store, *orders: Any, now: float = NOW) -> list[Outcome]:
    """Commit orders in one batch."""
    return store.commit(orders, now, PROMISES)


def codes(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.code) for outcome in outcomes]


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.reply.status) if outcome.reply else "-" for outcome in outcomes]
