"""X7, I1, I2, I3, I5, I6: random orders, crashes, clocks and faults against a model written from the pages.

Each life drives the real ledger, carousels, channels, notices and ECMG under one clock and compares, after each step,
what the ledger holds, what every card's EMM says, and what software cards show that have heard what was on the air.
`CAD_LIVES` and `CAD_STEPS` look longer: CAD_LIVES=2000 CAD_STEPS=100 pytest tests/cad/test_whole_headend.py
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cad.ledger.look import reading
from tests.support.hand_air import HandAir
from tests.support.hand_clock import HandClock
from tests.support.headend_model.content import EPOCH, PERIOD
from tests.support.headend_model.headend import Answer, HeadendModel
from tests.support.headend_model.state import DAY
from tests.support.whole_headend import network, orders
from tests.support.whole_headend.judge import Judge
from tests.support.whole_headend.network import CHOOSE, HELSINKI, MUXES, OFFERS, PRODUCTS, RECEIVERS
from tests.support.whole_headend.orders import Command, Orders
from tests.support.whole_headend.receiver import Receiver
from tests.support.whole_headend.scrambler import Blackout, Scrambler

LIVES = int(os.environ.get("CAD_LIVES", "16"))
STEPS = int(os.environ.get("CAD_STEPS", "40"))
RANDOM = st.randoms(use_true_random=True)
MEMORY = Path("/dev/shm")
BEGINNINGS = [
    datetime.fromisoformat(text).replace(tzinfo=HELSINKI).timestamp()
    for text in ("2026-03-28 20:00", "2026-10-24 22:30", "2027-12-31 12:00", "2028-01-31 09:00", "2028-02-28 23:59:58")
]


class WholeHeadend(RuleBasedStateMachine):
    """Random lives."""

    @initialize(beginning=st.sampled_from(BEGINNINGS))
    def begin(self, beginning: float) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="cad-whole-", dir=MEMORY if MEMORY.is_dir() else None)
        self.folder = Path(self.temporary.name)
        self.clock = HandClock(beginning)
        (self.folder / "life-0").mkdir()
        self.air = HandAir(self.folder, network.settings(), self.clock)
        self.model = network.model()
        self.orders_made = Orders()
        self.sent: list[Command] = []
        self.now = self.clock.now()
        self.image: tuple[Path, HeadendModel] | None = None
        self.image_at, self.was_put_back = 0.0, False
        self.receivers = {a: Receiver(self.air, a, MUXES[n % 2], n + 1) for n, a in enumerate(RECEIVERS)}
        self.scrambler = Scrambler(self.air)
        self.judge = Judge(self.air, self.scrambler, self.receivers)
        self.sell()

    def sell(self) -> None:
        """What there is before anything is drawn."""
        batch = []
        for operator, cards in (("karjaa", (1, 2, 3)), ("kaspnet", (1000,))):
            for slug, terms in OFFERS.items():
                if operator == "karjaa" or slug in ("basic", "loose"):
                    body = {"offer": slug, "rev": 1, "terms": terms, "names": {"fi": slug}, "choose": CHOOSE.get(slug)}
                    kind, products = ("mix", list(PRODUCTS)) if slug in CHOOSE else ("channel", [slug])
                    products = ["sport"] if operator == "kaspnet" or slug in ("season", "loose") else products
                    batch.append(self.made(operator, "offer put", kind=kind, products=products, **body))
            for card in cards:
                batch.append(self.made(operator, "card assign", card=card, rev=1, subscriber=f"home-{card % 2}"))
        self.give([*batch, self.put("a", 1, "basic")])

    def teardown(self) -> None:
        if not hasattr(self, "judge"):
            return
        try:
            check = self.air.store.begin_check(None)
            check.take(self.air.store.read(lambda held: reading.audit_rows(held, 0, 10**6)))
            check.finish(accept_rollbacks=True)
            self.air.publish()
            self.judge.compare_published(self.model, self.was_put_back)
        finally:
            self.air.close()
            self.temporary.cleanup()

    def compare(self) -> None:
        before, self.now = self.now, self.clock.now()
        assert self.now >= before
        self.air.finish()
        self.model.pass_time(self.now)
        self.judge.compare(self.model)

    # Orders

    def made(self, operator: str, name: str, **body: object) -> Command:
        return self.orders_made.made(operator, name, **body)

    def give(self, batch: list[Command], *, crash: bool = False) -> None:
        """Send orders in one batch; the answers must be the model's, and what they change is noted.

        `crash`: the daemon dies before all cards have followed an offer that has changed.
        """
        note("\n".join(map(str, batch)))
        outcomes = self.air.take([one.spell() for one in batch])
        self.model.pass_time(self.clock.now())
        for one, outcome in zip(batch, outcomes, strict=True):
            reply = outcome.reply
            assert reply is not None
            expected = self.model.take(*one, self.clock.now())
            window = None if reply.starts_at is None else (reply.starts_at, reply.ends_at)
            said = Answer(str(reply.status), str(reply.code), window, reply.next_change_at)
            assert said == expected, f"{one} was answered {said}, not {expected}: {reply.detail}"
            assert not (expected.status != "committed" and outcome.card_changes), "I2"
        self.sent += batch
        if crash:
            self.judge.compare_versions()
            self.restart_after_crash()
            self.judge.compare_versions()
        self.compare()

    def draw_orders(self, random: Random, size: int, names: Sequence[str], *, crash: bool = False) -> None:
        batch = [self.orders_made.draw(random, names, self.model, int(self.now)) for _ in range(size)]
        self.give(batch, crash=crash)

    @rule(random=RANDOM, size=st.integers(1, 6))
    def order_anything(self, random: Random, size: int) -> None:
        self.draw_orders(random, size, orders.LIFE + orders.HOME + orders.SALE + orders.ORDER + orders.SCREEN)

    @rule(random=RANDOM, size=st.integers(1, 6), names=st.sampled_from([orders.LIFE, orders.HOME]))
    def order_for_cards(self, random: Random, size: int, names: Sequence[str]) -> None:
        self.draw_orders(random, size, names)
        self.cycle()

    @rule(random=RANDOM, size=st.integers(1, 6), crash=st.booleans())
    def order_services(self, random: Random, size: int, crash: bool) -> None:
        self.draw_orders(random, size, orders.SALE + orders.ORDER, crash=crash)

    # Lives should not be all refusals, and what is ordered should be heard.

    @rule(data=st.data(), rest=st.booleans())
    def order_and_end(self, data: st.DataObject, rest: bool) -> None:
        """Orders for the card that is most in use."""
        ends = int(self.now) + data.draw(st.sampled_from([1, 60, DAY, 6 * DAY, 31 * DAY])) if rest else None
        offer = data.draw(st.sampled_from(["basic", "loose"]))
        self.give([self.put("a", 1, offer, ends_at=ends)])

    @rule(data=st.data(), card=st.sampled_from([1, 2, 3]), offer=st.sampled_from(["pick-1", "pick-2", "pick-2"]))
    def choose(self, data: st.DataObject, card: int, offer: str) -> None:
        """A customer chooses out of a mix, perhaps again and again."""
        mix = self.model.offers["karjaa", offer]
        choices = data.draw(st.lists(st.permutations(mix.products), min_size=1, max_size=3))
        self.give([self.put(f"mix-{card}", card, offer, choice=sorted(one[: mix.choose])) for one in choices])
        self.cycle()

    @rule(
        card=st.sampled_from([1, 2, 3]),
        begins=st.sampled_from([-60, 60, 3600, 3 * DAY, 9 * DAY]),
        lasts=st.sampled_from([3600, DAY]),
    )
    def buy_an_event(self, card: int, begins: int, lasts: int) -> None:
        """An event is made, bought, and heard of."""
        name, start = f"film-{self.orders_made.ids}", int(self.now) + begins
        window = {"starts_at": start, "ends_at": start + lasts}
        body = {"offer": name, "rev": 1, "kind": "event", "service": "cinema", "names": {"fi": name}}
        self.give([self.made("karjaa", "offer put", **body, **window), self.put(f"event-{card}", card, name)])
        self.cycle()

    @rule(random=RANDOM, size=st.integers(1, 3))
    def write(self, random: Random, size: int) -> None:
        """Messages, and who is switched on hears them."""
        self.draw_orders(random, size, orders.SCREEN)
        self.cycle()

    @rule(card=st.sampled_from([2, 3, 4]), home=st.sampled_from(["home-0", "home-1"]))
    def hand_on(self, card: int, home: str) -> None:
        """A card changes hands while a message to it lasts."""
        rev = self.orders_made.next_rev
        batch = [
            self.made("karjaa", "card message", card=card, message="hand", rev=rev, text={"fi": home}, repeat_s=30)
        ]
        batch += [
            self.made("karjaa", "card return", card=card, rev=rev + 1),
            self.made("karjaa", "card release", card=card, rev=rev + 2),
            self.made("karjaa", "card assign", card=card, rev=rev + 3, subscriber=home),
        ]
        self.give(batch)
        self.cycle()

    def put(self, name: str, card: int, offer: str, **body: object) -> Command:
        body |= {"subscription": name, "rev": self.orders_made.next_rev, "card": card, "offer": offer}
        return self.made("karjaa", "subscription put", **body)

    @rule(data=st.data(), altered=st.booleans())
    def resend(self, data: st.DataObject, altered: bool) -> None:
        """A portal that did not hear the answer sends again; one that is mistaken uses an id twice."""
        one = data.draw(st.sampled_from(self.sent))
        if altered and "rev" in one.body:
            one = one._replace(body={**one.body, "rev": one.body["rev"] + 1})
        self.give([one])
        self.sent.pop()

    # Time

    @rule(seconds=st.sampled_from([1, 59, 3600, 6 * 3600, DAY, 3 * DAY, 5 * DAY, 17 * DAY, 31 * DAY, 71 * DAY]))
    def leap(self, seconds: int) -> None:
        """Time passes; the daemon is there, but nobody listens."""
        self.clock.leap(seconds)
        self.wake()

    @rule(data=st.data(), off=st.sampled_from([-2, 0, 1]))
    def leap_to_an_edge(self, data: st.DataObject, off: int) -> None:
        """To the moment at which something begins or ends, by the calendar, by an order, or by the wall clock."""
        now = self.clock.now()
        moments: set[int] = {int(now // size + number) * size for size in (PERIOD, EPOCH) for number in (1, 2)}
        moments |= {edge for one in self.model.services.values() for edge in (one.start, one.end or 0)}
        moments |= {card.open_until or 0 for card in self.model.cards.values()}
        events = [one.event for one in self.model.offers.values() if one.event is not None]
        moments |= {edge for one in events for edge in (one.start, one.end)}
        moments |= {edge for one in self.model.messages.values() for edge in (one.notice.start, one.notice.end)}
        blackout = self.scrambler.blackout
        moments |= {blackout.start, blackout.end} if blackout is not None else set()
        ahead = sorted(moment for moment in moments if now - off < moment <= now + 80 * DAY)
        self.clock.leap(max(0.0, data.draw(st.sampled_from(ahead)) + off - now))
        self.wake()

    def wake(self) -> None:
        self.air.finish()
        self.air.guard()
        self.compare()

    @rule(seconds=st.sampled_from([-400 * DAY, -DAY, -3700, -500, -1, 1, 500, 3700, DAY, 400 * DAY]))
    def jump(self, seconds: int) -> None:
        """The machine's wall clock is set: a little is followed, much is not believed, and nothing goes back."""
        was_right = abs(self.clock.wall - self.clock.now()) < 1
        before = self.clock.now()
        self.clock.jump(seconds)
        if was_right:
            expected = max(before, before + seconds) if abs(seconds) <= 600 else before
            assert abs(self.clock.now() - expected) < 1
        self.wake()

    @rule()
    def believe(self) -> None:
        """The operator says that the machine's clock is right."""
        if self.clock.wall < self.clock.now() + 100 * DAY:
            self.clock.believe()
            self.wake()

    # The daemon, the multiplexers

    @rule()
    def crash(self) -> None:
        self.restart_after_crash()
        self.compare()

    def restart_after_crash(self) -> None:
        head = self.air.store.head
        self.air.crash()
        self.air.start()
        assert (self.air.store.head.seq, self.air.store.warnings) == (head.seq, []), "I1"

    @rule(down_s=st.sampled_from([0, 1, 3600, DAY, 20 * DAY, 59 * DAY, 90 * DAY]))
    def restart(self, down_s: int) -> None:
        self.air.stop()
        self.clock.leap(down_s)
        self.air.start()
        assert self.air.store.warnings == []
        self.compare()

    @rule(name=st.sampled_from(MUXES))
    def cut_or_mend(self, name: str) -> None:
        if self.air.up[name]:
            self.air.cut(name)
        else:
            self.air.mend(name)

    @rule(data=st.data(), begins=st.sampled_from([0, 3600]), lasts=st.sampled_from([60, DAY]))
    def black_out(self, data: st.DataObject, begins: int, lasts: int) -> None:
        """Other settings, and a reload: a service is not to be seen somewhere for some time."""
        service, without = data.draw(st.sampled_from(["basic-1", "sport-1", "cinema"])), data.draw(st.booleans())
        regions = data.draw(st.sampled_from([("coast",), ("inland",), ("coast", "inland")]))
        start = int(self.now) + begins
        self.scrambler.black_out(Blackout(service, regions, without, start, start + lasts))
        self.compare()

    @precondition(lambda self: self.image is None)
    @rule()
    def back_up(self) -> None:
        self.image, self.image_at = (self.folder / "image", deepcopy(self.model)), self.now
        self.air.publish()
        shutil.rmtree(self.image[0], ignore_errors=True)
        self.air.copy_to(self.image[0])

    # Who puts a backup back looks at the machine's clock first: the copy knows nothing of the time since.
    @precondition(
        lambda self: self.image is not None and self.now > self.image_at + 60 and abs(self.clock.wall - self.now) < 1
    )
    @rule()
    def put_back(self) -> None:
        """An older copy takes the ledger's place: orders since are lost, but versions and numbers go on (I3)."""
        assert self.image is not None
        path, model = self.image
        self.air.put_back(path)
        model.numbers = self.model.numbers
        self.image, self.model, self.was_put_back = None, model, True
        self.judge.contents.clear()
        self.air.start()
        if self.clock.suspect:
            # So old a copy makes the machine's clock look wrong: the daemon says so, and the operator knows better.
            self.clock.believe()
        self.wake()

    # What people at home do

    @rule()
    def cycle(self) -> None:
        """Everybody who is switched on hears his EMM and the notices once."""
        self.air.cycle(self.judge.wanted(self.model))
        self.judge.hear(self.model)
        self.compare()

    @rule(address=st.sampled_from(RECEIVERS))
    def switch_receiver(self, address: int) -> None:
        self.receivers[address].on = not self.receivers[address].on

    @rule(address=st.sampled_from(RECEIVERS), serial=st.sampled_from([1, 2, 3]))
    def carry_to_another_receiver(self, address: int, serial: int) -> None:
        self.receivers[address].put_into(serial)
        self.compare()

    @rule(address=st.sampled_from(RECEIVERS), known=st.booleans(), new=st.sampled_from(["1234", "4711"]))
    def choose_a_pin(self, address: int, known: bool, new: str) -> None:
        """A PIN that was chosen stays until it is reset; one that is forgotten is guessed."""
        receiver = self.receivers[address]
        digits = receiver.heard.pin if known else "9999"
        expected = receiver.heard.give_pin(digits, new)
        assert receiver.give_pin(digits, new) == expected

    @rule(address=st.sampled_from(RECEIVERS))
    def look_at_the_mail(self, address: int) -> None:
        receiver = self.receivers[address]
        for letter in list(receiver.heard.letters):
            receiver.look_at(self.judge.numbers[letter.notice.number])
            receiver.heard.look_at(letter)
        self.compare()


TestWholeHeadend = WholeHeadend.TestCase
TestWholeHeadend.settings = settings(
    max_examples=LIVES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A life is short enough to be read as it is; making it shorter would take minutes.
    phases=[Phase.reuse, Phase.generate],
)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
