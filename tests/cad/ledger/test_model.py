"""The ledger against a model that is too simple to be wrong, over random orders, batches, repeats and restarts."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cad.air.rights import NO_END
from cad.ledger.look import reading
from cad.ledger.model import Order
from cad.ledger.store import Store
from emm.plan import Right
from protocol.portal.fields import spell_moment
from tests.support.ledgers import GRANTS, NOW, assign, end, offer, open_store, refresh, reopen, subscribe, suspend, take

CARDS = (1, 2, 1001)
NAMES = ("a", "b")
OPERATORS = ("karjaa", "kaspnet")
PRODUCTS = {"karjaa": {"sport": 1, "film": 2, "news": 3}, "kaspnet": {"sport": 1}}
RANGES = {"karjaa": range(1000), "kaspnet": range(1000, 2000)}


@dataclass
class Model:
    """What should be true, kept in dictionaries, one command at a time, without any thought of speed."""

    now: int = int(NOW)
    cards: dict[int, dict[str, Any]] = field(default_factory=dict)
    offers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    ids: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)

    def rights(self, address: int) -> set[tuple[int, int, int | None]]:
        found = set()
        for (operator, _), one in self.subscriptions.items():
            if one["card"] == address and (one["end"] is None or one["end"] > max(self.now, one["start"])):
                for slug in self.offers[operator, one["offer"]]["products"]:
                    found.add((PRODUCTS[operator][slug], one["start"], one["end"]))
        return found

    def live(self, address: int) -> bool:
        return any(
            one["card"] == address and (one["end"] is None or one["end"] > max(self.now, one["start"]))
            for one in self.subscriptions.values()
        )

    def take(self, order: Order) -> str:
        key = (order.operator, order.command.id)
        if key in self.ids:
            digest, code = self.ids[key]
            if digest != order.digest:
                return "id_reused"
            if not code.startswith("unknown"):
                return f"again {code}"
        code = self._do(order.operator, f"{order.command.resource} {order.command.verb}", order.command)
        self.ids[key] = (order.digest, code)
        return code

    def _do(self, operator: str, name: str, command: Any) -> str:
        if name.startswith("card "):
            return self._card(operator, name, command)
        if name == "offer put":
            known = self.offers.get((operator, command.offer))
            if known and command.rev <= known["rev"]:
                return "stale_rev"
            if not set(command.products) <= set(PRODUCTS[operator]):
                return "not_granted"
            self.offers[operator, command.offer] = {"rev": command.rev, "products": set(command.products)}
            return "ok"
        known = self.subscriptions.get((operator, command.subscription))
        if name == "subscription end":
            if known is None:
                return "unknown_subscription"
            if command.rev <= known["rev"]:
                return "stale_rev"
            at = min(command.at or self.now, known["end"] or 2**32)
            known |= {"rev": command.rev, "end": max(at, known["start"])}
            return "ok"
        if known and command.rev <= known["rev"]:
            return "stale_rev"
        if self.cards.get(command.card, {}).get("operator") != operator:
            return "unknown_card"
        if (operator, command.offer) not in self.offers:
            return "unknown_offer"
        start = command.starts_at
        if start is None:
            runs = known and known["start"] <= self.now and (known["end"] is None or known["end"] > self.now)
            start = known["start"] if known and runs else self.now
        if command.ends_at is not None and command.ends_at <= start:
            return "invalid"
        new = {"rev": command.rev, "card": command.card, "offer": command.offer, "start": start, "end": command.ends_at}
        self.subscriptions[operator, command.subscription] = new
        opens = command.ends_at is None or command.ends_at > self.now
        if self.cards[command.card]["state"] == "assigned" and opens:
            self.cards[command.card]["state"] = "active"
        return "ok"

    def _card(self, operator: str, name: str, command: Any) -> str:
        known = self.cards.get(command.card)
        if name == "card assign" and known is None and command.card in RANGES[operator]:
            new = {"operator": operator, "rev": command.rev, "subscriber": command.subscriber, "state": "assigned"}
            self.cards[command.card] = new
            return "ok"
        if known is None or known["operator"] != operator:
            return "unknown_card"
        if name == "card refresh":
            return "ok"
        if command.rev <= known["rev"]:
            return "stale_rev"
        if name == "card assign" and known["subscriber"] != command.subscriber:
            return "card_in_use"
        if name != "card assign":
            if name == "card suspend":
                known["state"] = "suspended"
            elif known["state"] == "suspended":
                known["state"] = "active" if self.live(command.card) else "assigned"
        known["rev"] = command.rev
        return "ok"


def rights_of_all(store: Store, now: float) -> dict[int, set[Right]]:
    """The rights of all cards as they are put on the air at a start."""
    block = store.read(lambda held: reading.right_block(held, OPERATORS, 0, 10**9, reading.Products(held, GRANTS), now))
    found: dict[int, set[Right]] = {}
    rows = zip(*(getattr(block, name).tolist() for name in ("addresses", "product_ids", "starts", "ends")), strict=True)
    for address, product_id, start, end_at in rows:
        if end_at <= start:  # no EMM says an empty window
            continue
        found.setdefault(address, set()).add(Right(product_id, start, None if end_at == NO_END else end_at))
    return found


ids = st.one_of(st.integers(0, 9), st.integers(10, 10**9)).map("id-{}".format)
revs = st.integers(0, 30)
operators = st.sampled_from(OPERATORS)
cards = st.sampled_from(CARDS)
moments = st.one_of(st.none(), st.integers(-3, 6).map(lambda days: spell_moment(int(NOW) + days * 86_400)))
products = st.lists(st.sampled_from(["sport", "film", "news"]), min_size=1, max_size=3, unique=True)
orders = st.one_of(
    st.builds(assign, ids, operators, card=cards, rev=revs, subscriber=st.sampled_from(["anna", "bert"])),
    st.builds(suspend, ids, operators, card=cards, rev=revs),
    st.builds(reopen, ids, operators, card=cards, rev=revs),
    st.builds(refresh, ids, operators, card=cards),
    st.builds(offer, ids, operators, offer=st.sampled_from(NAMES), rev=revs, products=products),
    st.builds(
        lambda command_id, operator, window, **body: subscribe(command_id, operator, **window, **body),
        ids,
        operators,
        st.tuples(moments, moments)
        .filter(lambda pair: None in pair or pair[0] < pair[1])
        .map(lambda pair: {"starts_at": pair[0], "ends_at": pair[1]}),
        subscription=st.sampled_from(NAMES),
        card=cards,
        offer=st.sampled_from(NAMES),
        rev=revs,
    ),
    st.builds(end, ids, operators, subscription=st.sampled_from(NAMES), rev=revs, at=moments),
)


class LedgerMachine(RuleBasedStateMachine):
    """Random lives of a ledger."""

    store: Store

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.store = open_store(Path(self.folder.name), roll_at_once=1)
        self.model = Model()
        self.revisions: dict[int, tuple[int, object]] = {}
        for operator in OPERATORS:
            first = [assign(f"first-{card}", operator, card=card, rev=0) for card in CARDS if card in RANGES[operator]]
            self.order([*first, *(offer(f"first-{name}", operator, offer=name, rev=0) for name in NAMES)])
            names = zip(NAMES, first, strict=False)
            for name, one in names:
                card: Any = one.command
                self.order(
                    [subscribe(f"first-s-{name}", operator, subscription=name, card=card.card, offer=name, rev=0)]
                )

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            while self.store.rollouts:
                self.store.roll_out(self.model.now)
            self.same()
            self.store.close()
            self.folder.cleanup()

    @rule(batch=st.lists(orders, min_size=1, max_size=6))
    def order(self, batch: list[Order]) -> None:
        outcomes = take(self.store, *batch, now=self.model.now)
        for order, outcome in zip(batch, outcomes, strict=True):
            assert outcome.reply is not None
            expected = self.model.take(order)
            again = "again " if outcome.reply.status == "duplicate" else ""
            assert f"{again}{outcome.code}" == expected
            assert not (again and outcome.card_changes), "I2"
        for change in {one.address: one for outcome in outcomes for one in outcome.card_changes}.values():
            rights = {(right.product_id, right.start, right.end) for right in change.rights}
            assert rights == self.model.rights(change.address), "what is told to the carousel"
            assert change.suspended == (self.model.cards[change.address]["state"] == "suspended")

    @rule(days=st.integers(1, 2))
    def wait(self, days: int) -> None:
        self.model.now += days * 86_400

    @rule()
    def roll_out(self) -> None:
        self.store.roll_out(self.model.now)

    @rule(politely=st.booleans())
    def restart(self, politely: bool) -> None:
        head = self.store.head
        if politely:
            self.store.close()
        else:
            self.store.database.close()
        self.store = open_store(Path(self.folder.name), now=self.model.now, roll_at_once=1)
        assert self.store.head == head, "I1"
        assert self.store.warnings == []

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "model"):
            return
        derived = rights_of_all(self.store, self.model.now)
        for address in CARDS:
            view = self.store.read(lambda held, a=address: reading.card_view(held, a, GRANTS, self.model.now))
            known = self.model.cards.get(address)
            if known is None:
                assert view is None
                continue
            assert view is not None
            assert (view.operator, view.state, view.rev) == (known["operator"], known["state"], known["rev"])
            # What ended after the card's last change is there too: its EMM says it still.
            rights = {
                (right.product_id, right.start, right.end)
                for right in view.rights
                if right.end is None or right.end > max(self.model.now, right.start)
            }
            assert (rights == self.model.rights(address)) or (view.behind and self.store.rollouts)
            said = {right for right in view.rights if right.end is None or right.end > right.start}
            assert said == derived.get(address, set()), "I5: what a restart would put on the air"
            self.check_version(address, view.revision, (view.state, rights))

    def check_version(self, address: int, revision: int, content: object) -> None:
        """A version never falls, and rises whenever the content changes by a command (I3)."""
        said = (content, self.model.now)
        before = self.revisions.get(address)
        if before is not None:
            assert revision >= before[0]
            same_time = before[1][1] == said[1]  # type: ignore[index]
            if same_time and before[1] != said:
                assert revision > before[0]
        self.revisions[address] = (revision, said)


TestLedger = pytest.mark.slow(LedgerMachine.TestCase)
# A life is short enough to be read as it is; making it shorter would take minutes.
TestLedger.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, phases=[Phase.reuse, Phase.generate]
)
