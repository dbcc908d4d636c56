"""Orders as portals send them, drawn at random: most of them may be carried out, none breaks its schema."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, NamedTuple

from protocol import card_number, receiver_number
from protocol.portal.fields import spell_moment
from tests.support.headend_model.content import EPOCH, PERIOD
from tests.support.headend_model.headend import HeadendModel
from tests.support.headend_model.state import DAY
from tests.support.ledgers import order
from tests.support.whole_headend.network import ADDRESSES, CARDS, CHOOSE, OFFERS, PRODUCTS

AHEAD = [-40 * DAY, -DAY, -1, 0, 1, 60, 3600, DAY, 5 * DAY, 6 * DAY, 11 * DAY, 31 * DAY, 70 * DAY]
TEXTS = [{"fi": "Hei!"}, {"sv": "Hej!", "fi": "Hei taas!"}, {"ru": "Добрый вечер! " * 10, "en": "Good"}]
LIFE = (
    *("card assign", "card suspend", "card reopen", "card reopen", "card report", "card replace", "card return") * 2,
    *("card release", "card release", "card refresh", "card replace", "card blacklist"),
)
HOME = ("card pair", "card pair", "card unpair", "card region", "card region", "card pin-reset", "card parental")
SALE = ("offer put", "offer put", "offer withdraw", "event put", "event put", "event put")
ORDER = (*("subscription put",) * 6, "subscription end")
SCREEN = ("message put", "message put", "card message", "card fingerprint", "message withdraw")


class Command(NamedTuple):
    """What a portal sends; `body` has cards as addresses, receivers as numbers and times in seconds."""

    operator: str
    name: str
    id: str
    body: dict[str, Any]

    def spell(self) -> Any:
        """The order as the intake hands it over."""
        said = dict(self.body)
        for field in ("starts_at", "ends_at", "at", "until"):
            if said.get(field) is not None:
                said[field] = spell_moment(said[field])
        if "replacement" in said:
            said["replacement"] = card_number.spell(said["replacement"])
        if "receiver" in said:
            said["receiver"] = receiver_number.spell(said["receiver"])
        if "cards" in said.get("to", ()):
            said["to"] = {"cards": [card_number.spell(address) for address in said["to"]["cards"]]}
        return order(self.operator, *self.name.split(), self.id, **said)


class Orders:
    """Makes commands under ids of their own; `sent` are all that were sent, for portals that send again."""

    def __init__(self) -> None:
        self.ids = 0
        self.sent: list[Command] = []

    @property
    def next_rev(self) -> int:
        """A rev above all that were given."""
        return self.ids + 1

    def made(self, operator: str, name: str, **body: Any) -> Command:
        """A command with a new id."""
        self.ids += 1
        return Command(operator, name, f"id-{self.ids}", body)

    def draw(self, random: Random, names: Sequence[str], model: HeadendModel, now: int) -> Command:
        """Draw one of these commands that fits what the model holds, more or less."""
        # Hypothesis likes to give the same again; what comes of it should be another order.
        return _Drawing(Random(f"{random.random()} {self.ids} {now}"), model, now, self).command(names)


class _Drawing:
    """One command."""

    def __init__(self, random: Random, model: HeadendModel, now: int, orders: Orders) -> None:
        self.random, self.model, self.now, self.made, self.next_rev = random, model, now, orders.made, orders.next_rev
        self.operator: str = self.one_of("karjaa", "karjaa", "karjaa", "kaspnet")

    def one_of(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def seldom(self) -> bool:
        return self.random.random() < 0.1

    def some_of(self, listed: Sequence[str], at_least: int = 1) -> list[str]:
        return self.random.sample(listed, self.random.randint(at_least, len(listed)))

    def command(self, names: Sequence[str]) -> Command:
        name = self.one_of(*names)
        if name == "event put":
            return self.made(self.operator, "offer put", **self.event())
        bodies = {
            "offer put": self.offer,
            "offer withdraw": self.withdrawal,
            "subscription put": self.subscription,
            "subscription end": self.end,
            "message put": self.message,
            "card message": self.message_to_one,
            "card fingerprint": self.fingerprint,
            "message withdraw": lambda: self.named_message(self.one_of("m", "n")),
        }
        return self.made(self.operator, name, **bodies.get(name, lambda: self.card(name))())

    def rev(self, table: dict[Any, Any], key: Any) -> int:
        """One that no order has had, as a rule."""
        late = table[key].rev if key in table else 0
        return int(max(0, self.one_of(*[self.next_rev] * 8, late)))

    def address(self) -> int:
        """A card, of the operator's as a rule."""
        own = [address for address in ADDRESSES if address in CARDS[self.operator]]
        address: int = self.one_of(*ADDRESSES, *own * 8)
        return address

    def moment(self) -> int | None:
        now = self.now
        period_end, epoch_end = (now // PERIOD + 1) * PERIOD, (now // EPOCH + 1) * EPOCH
        near = (period_end, period_end + DAY, epoch_end, epoch_end - 1, epoch_end - 30)
        moment: int | None = self.one_of(None, *(now + ahead for ahead in AHEAD), *near)
        return moment

    def card(self, name: str) -> dict[str, Any]:
        """The body of a command about a card."""
        card = self.address()
        body: dict[str, Any] = {"card": card}
        if name != "card refresh":
            body["rev"] = self.rev(self.model.cards, card)
        fields: dict[str, dict[str, Callable[[], Any]]] = {
            "card assign": {
                "subscriber": lambda: self.one_of("home-0", "home-1"),
                "region": lambda: self.one_of(None, None, "coast", "moon"),
            },
            "card reopen": {"until": self.moment},
            "card report": {"condition": lambda: self.one_of("lost", "stolen", "defective")},
            "card replace": {"replacement": lambda: self.one_of(*(one for one in ADDRESSES if one != card))},
            "card pair": {"receiver": lambda: receiver_number.of_serial(self.one_of(1, 2, 3))},
            "card region": {"region": lambda: self.one_of(None, "coast", "inland", "inland", "moon")},
            "card parental": {"level": lambda: self.one_of(0, 4, 12, 18)},
        }
        return body | {field: drawn() for field, drawn in fields.get(name, {}).items()}

    # Offers

    def offer(self) -> dict[str, Any]:
        slug = self.one_of(*OFFERS)
        kind = "mix" if slug in CHOOSE else "channel"
        if self.seldom():
            kind = self.one_of("package", "mix", "channel")
        choose = self.one_of(1, 2, 3) if kind == "mix" else None
        products = self.some_of(list(PRODUCTS), choose or 1)
        body = {"offer": slug, "rev": self.rev(self.model.offers, (self.operator, slug)), "kind": kind}
        return body | {"products": products, "choose": choose, "terms": OFFERS[slug], "names": {"fi": slug}}

    def withdrawal(self) -> dict[str, Any]:
        slug = self.one_of(*OFFERS, *self.events())
        return {"offer": slug, "rev": self.rev(self.model.offers, (self.operator, slug))}

    def events(self) -> list[str]:
        """The operator's events, the last ones and those to come."""
        return [
            name
            for (operator, name), one in self.model.offers.items()
            if operator == self.operator and one.event is not None and one.event.end > self.now - DAY
        ]

    def event(self) -> dict[str, Any]:
        """An event that is new, or is moved."""
        name = self.one_of(f"event-{len(self.model.offers)}", *self.events())
        known = self.model.offers.get((self.operator, name))
        begins = [self.now + ahead for ahead in (-3600, -1, 0, 1, 60, 3600, DAY, 3 * DAY, 7 * DAY, 29 * DAY)]
        if known is not None and known.event is not None:
            begins += [known.event.start] * 5
        start = self.one_of(*begins)
        ends = [start + lasts for lasts in (60, 7200, DAY, 10 * DAY, 31 * DAY)]
        epoch_end = (start // EPOCH + 1) * EPOCH
        ends += [moment for moment in (epoch_end, epoch_end - 20) if start < moment <= start + 31 * DAY]
        terms = self.one_of({"price": "5"}, {"requires": ["basic"]}, {"ended_by": "customer-service"})
        body = {"offer": name, "rev": self.rev(self.model.offers, (self.operator, name)), "kind": "event"}
        body |= {"service": self.one_of("cinema", "cinema", "sport-1", "film-1"), "names": {"fi": name}, "terms": terms}
        return body | {"starts_at": start, "ends_at": self.one_of(*ends)}

    # Subscriptions

    def subscription(self) -> dict[str, Any]:
        name = self.one_of("a", "b", "c", "d")
        slug = self.one_of(*OFFERS, *("pick-2",) * 3, *self.events() * 2)
        body = {"subscription": name, "rev": self.rev(self.model.services, (self.operator, name)), "offer": slug}
        body |= {"card": self.address(), "authority": self.one_of("customer", "customer-service")}
        offer = self.model.offers.get((self.operator, slug))
        window = self.one_of(True, False) if offer is None or offer.event is None else self.seldom()
        if window:
            body["starts_at"], body["ends_at"] = self.moment(), self.moment()
            if None not in (body["starts_at"], body["ends_at"]) and body["ends_at"] <= body["starts_at"]:
                body["ends_at"] = None
        count = offer.choose if offer is not None else None
        if (count is None) == self.seldom():
            listed = offer.products if offer is not None and count is not None else tuple(PRODUCTS)
            listed = self.one_of(listed, listed, listed, tuple(PRODUCTS))
            count = min(count or 1, len(listed))
            body["choice"] = sorted(self.random.sample(listed, count))
        return body

    def end(self) -> dict[str, Any]:
        name = self.one_of("a", "b", "c", "d")
        body = {"subscription": name, "rev": self.rev(self.model.services, (self.operator, name))}
        return body | {"authority": self.one_of("customer", "customer-service"), "at": self.moment()}

    # Messages

    def named_message(self, name: str) -> dict[str, Any]:
        return {"message": name, "rev": self.rev(self.model.messages, (self.operator, name))}

    def window(self) -> dict[str, Any]:
        """When a message is sent; mostly left out. Often enough for a cycle to hear it."""
        body: dict[str, Any] = {"repeat_s": 30}
        if self.one_of(True, False, False):
            body["starts_at"] = self.one_of(None, *(self.now + ahead for ahead in (-60, 0, 3600, DAY, 93 * DAY)))
            body["ends_at"] = self.one_of(None, *(self.now + ahead for ahead in (0, 60, 7200, 20 * DAY, 93 * DAY)))
        return body

    def recipients(self) -> dict[str, Any]:
        chosen = self.one_of("all", "offer", "cards", "region")
        if chosen == "all":
            return {"all": True}
        if chosen == "region":
            return {"region": self.one_of("coast", "coast", "inland", "moon")}
        if chosen == "offer":
            return {"offer": self.one_of(*OFFERS, *self.events())}
        return {"cards": sorted({self.address() for _ in range(self.one_of(1, 2))})}

    def message(self) -> dict[str, Any]:
        body = {"to": self.recipients(), "text": self.one_of(*TEXTS), "mode": self.one_of("mailbox", "forced")}
        return self.named_message(self.one_of("m", "n")) | body | self.window()

    def message_to_one(self) -> dict[str, Any]:
        body = {"card": self.address(), "text": self.one_of(*TEXTS)}
        return self.named_message(self.one_of("m", "n")) | body | self.window()

    def fingerprint(self) -> dict[str, Any]:
        body = {"to": self.recipients(), "service": self.one_of(None, "sport-1", "cinema", "weather")}
        body |= {"position": self.one_of("random", "top-left"), "duration_s": self.one_of(10, 600)}
        return self.named_message(self.one_of("m", "n")) | body | self.window()
