"""The headend by hand with its air: real carousels and channels towards links that a test takes down and up."""

import asyncio
import contextlib
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from cad.air.mass import Promised
from cad.air.muxes import Allocation, LinkDownError, LinkEvent, LinkLost, LinkUp
from cad.air.network import FIRST_HOUR_S, NetworkOnAir
from cad.air.notices import NoticeBoard
from cad.air.outgoing import FirstAir
from cad.air.promises import Promise
from cad.air.roster import Roster
from cad.frame.metrics import Metrics
from cad.ledger.acts import upkeep
from cad.ledger.batch import Batch
from cad.ledger.look import reading
from cad.ledger.model import CardChange, Grants, OpenChange, OutboxMessage, Outcome
from cad.ledger.store import Store
from cad.ledger.tables import messages
from cad.ledger.tables.messages import OnAirMessage
from config.settings import CarouselSettings, Settings
from emm.calendar import Calendar
from emm.keys import KeyLadder, LocalMasterKey
from emm.notices.seal import NoticeSealer
from emm.seal import EmmSealer
from tests.support.emm_reading import UNIQUE, EmmName, read_header
from tests.support.hand_clock import HandClock
from tests.support.ledgers import open_store

NOBODY = Promised()
MASTER = bytes(range(32))
BPS = 100_000
CYCLE_MAX_S = 120.0
"""Within so long every card and notice is sent on every link that is up: there are few of them and much room."""


class HandLink:
    """A link to a multiplexer that exists only as the list of what reached its transport stream."""

    def __init__(self) -> None:
        self.ready = False
        self.allocated_bps = 0
        self.last_error: str | None = None
        self.since: float | None = None
        self.on_the_stream: list[bytes] = []
        self._up = asyncio.Event()
        self._callbacks: list[Callable[[LinkEvent], None]] = []

    def subscribe(self, callback: Callable[[LinkEvent], None]) -> None:
        self._callbacks.append(callback)

    async def wait_ready(self) -> None:
        await self._up.wait()

    async def send(self, datagrams: Sequence[bytes]) -> None:
        if not self.ready:
            raise LinkDownError("down")
        self.on_the_stream += datagrams

    async def run(self) -> None:
        """Nothing has to run."""

    async def close(self) -> None:
        """Nothing has to be closed."""

    def up(self) -> None:
        self.ready, self.allocated_bps = True, BPS
        self._tell(LinkUp(reconnected=bool(self.on_the_stream)))
        self._tell(Allocation(BPS))
        self._up.set()

    def down(self) -> None:
        self.ready, self.allocated_bps = False, 0
        self._up.clear()
        self._tell(LinkLost("down", None))

    def _tell(self, event: LinkEvent) -> None:
        for callback in self._callbacks:
            callback(event)


class HandLedger:
    """What the board of notices asks the ledger, answered at once."""

    def __init__(self, air: "HandAir") -> None:
        self._air = air

    async def messages(self, operators: Sequence[str]) -> list[OnAirMessage]:
        now = self._air.clock.now()
        return self._air.store.read(lambda held: messages.active(held, operators, now))

    async def message_cards(self, message: OnAirMessage) -> list[tuple[int, int]]:
        if message.cards is not None:
            return self._air.store.read(lambda held: messages.named(held, message))
        now = self._air.clock.now()
        block = self._air.store.read(lambda held: messages.next_cards(held, message, now, -1, 10_000))
        return messages.cards_of([block])

    async def perform(self, act: Callable[[Batch, Connection], object]) -> None:
        self._air.store.perform(act, self._air.clock.now())


class HandAir:
    """Ledger on disk, network on the air, one clock; `crash` and `stop` end the daemon, `start` begins another.

    `published` gathers what portals were sent, once for each event id; `heard` what came on each stream, and when.
    """

    def __init__(self, folder: Path, settings: Settings, clock: HandClock) -> None:
        self.folder, self.settings, self.clock = folder, settings, clock
        self.grants = Grants.from_settings(settings)
        self.calendar = Calendar()
        self.ladder = KeyLadder(LocalMasterKey(MASTER))
        self.sealer = EmmSealer(self.ladder)
        self.loop = asyncio.new_event_loop()
        self.published: dict[str, OutboxMessage] = {}
        self.up = {outlet.id: True for outlet in settings.networks[0].outlets}
        self.links: dict[str, HandLink] = {}
        self.heard: dict[str, deque[tuple[int, bytes]]] = {name: deque() for name in self.up}
        self._lives = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._aired: list[FirstAir] = []
        self.start()

    # The daemon's life, in the order in which the real one does it.

    @property
    def place(self) -> Path:
        """The folder of the ledger."""
        return self.folder / f"life-{self._lives}"

    def start(self) -> None:
        """Open the ledger, derive the air from it, connect."""
        self.clock.boot()
        # So small slices that a few cards do not follow a changed offer at once.
        self.store: Store = open_store(self.place, grants=self.grants, now=self.clock.now(), roll_at_once=1)
        self.clock.remember(self.store.highest_time)
        self.guard()
        self._aired = []
        self.links = {name: HandLink() for name in self.up}
        self.network = NetworkOnAir(
            self.settings.networks[0],
            CarouselSettings(),
            self.links,
            self.calendar,
            self.sealer,
            self.clock,
            Metrics(),
            self._aired.extend,
            dict.fromkeys(self.grants.operators, 1.0),
        )
        self.network.load(*self.store.read(self._read))
        networks = {self.network.id: self.network}
        self.board = NoticeBoard(
            lambda: networks,
            lambda: self.settings,
            HandLedger(self),  # type: ignore[arg-type]
            NoticeSealer(self.ladder),
            self.clock,
            Metrics(),
        )
        running = [*(channel.run() for channel in self.network.channels), self.board.tell()]
        self._tasks = [self.loop.create_task(one) for one in running]
        for name, up in self.up.items():
            if up:
                self.links[name].up()
        self.store.outgoing.extend(self.store.read(lambda held: reading.pending(held, 0, 100_000)))
        self.do_due()
        self.show()

    def stop(self) -> None:
        """End in an orderly way."""
        self._end_tasks()
        self.note_air()
        self.publish()
        self.store.close()

    def crash(self) -> None:
        """End as by kill -9, with the disk as it is at this moment."""
        self._end_tasks()
        before = self.place
        self._lives += 1
        shutil.copytree(before, self.place)
        self.store.database.close()

    def put_back(self, image: Path) -> None:
        """End, and put an older copy of the ledger in place of it. What was noted of the audit chain outside stays."""
        self.stop()
        before = self.place
        self._lives += 1
        shutil.copytree(image, self.place)
        for anchor in before.glob("*.audit-head"):
            shutil.copy(anchor, self.place)
        self.published.clear()

    def copy_to(self, image: Path) -> None:
        """Copy the ledger, as a snapshot of the file system does."""
        shutil.copytree(self.place, image)

    def close(self) -> None:
        self._end_tasks()
        self.store.close()
        self.loop.close()

    # What it does.

    def take(self, orders: Sequence[Any]) -> list[Outcome]:
        """Commit orders in one batch, and send what has changed."""
        now = self.clock.now()
        promises = {one.operator: self._promise(one.operator, now) for one in orders}
        outcomes = self.store.commit(orders, now, promises)
        for outcome in outcomes:
            self._follow(outcome.closed)
            reply = outcome.reply
            promised = NOBODY if reply is None else Promised(reply.on_air_by, reply.visible_by)
            self._follow(outcome.card_changes, promised)
            if outcome.showing is not None:
                self.board.expect(outcome.showing)
        if any(outcome.messages for outcome in outcomes):
            self.show()
        return outcomes

    def do_due(self) -> None:
        """Do what has come by the clock alone."""
        more = True
        while more:
            closed, more = self.store.due(self.clock.now())
            self._follow(closed)

    def finish(self) -> None:
        """Do what is under way: what has come by the clock, and let all cards follow changed offers."""
        self.do_due()
        while self.store.rollouts:
            rolled = self.store.roll_out(self.clock.now())
            self._follow(rolled.changes, Promised(rolled.on_air_by, rolled.visible_by))
        self.show()

    def show(self) -> None:
        """Bring the notices on the air up to date, as the daemon does after a commit and when a moment has come.

        The loop does not turn meanwhile: nothing is sent that has just ended.
        """
        refreshing = self.board.refresh()
        with contextlib.suppress(StopIteration):
            while True:
                refreshing.send(None)

    def guard(self) -> None:
        """What the daemon does twice a minute."""
        period = self.calendar.period(self.clock.now())
        self.store.read(lambda held: upkeep.guard_period(held, period, {"period_days": self.calendar.period_days}))
        self.store.witness_time(self.clock.now())
        self.store.write_anchor()

    def note_air(self) -> None:
        """Store what was sent for the first time."""
        items, self._aired[:] = list(self._aired), []
        if items:
            self.store.first_air(items, self.clock.now())

    def publish(self) -> None:
        """Let the broker take what waits."""
        sent = []
        while self.store.outgoing:
            message = self.store.outgoing.popleft()
            before = self.published.setdefault(message.event_id, message)
            assert (before.topic, before.payload) == (message.topic, message.payload), "one event id, two events"
            sent.append(message.seq)
        self.store.mark_published(sent)

    def cut(self, name: str) -> None:
        """A multiplexer goes away, and with it what it had not put on its stream: the last seconds (facts of peers)."""
        self.up[name] = False
        self.links[name].down()

    def mend(self, name: str) -> None:
        self.up[name] = True
        self.links[name].up()

    def cycle(self, notices: Iterable[EmmName] = ()) -> None:
        """Let time pass until all cards and these notices were sent where a link is up. Fails after CYCLE_MAX_S."""
        emms = {(UNIQUE, self.roster.address(slot), 0) for slot in range(len(self.roster))} | {*notices}
        wanted = {(name, *emm) for name in self.up for emm in emms if self.up[name]}
        passed = 0.0
        while True:
            self.show()
            self.loop.run_until_complete(self.clock.advance(1.0))
            passed += 1.0
            wanted -= self._gather()
            if not wanted and passed >= 3.0:
                break
            assert passed < CYCLE_MAX_S, f"not sent within {CYCLE_MAX_S} s (I5): {sorted(wanted)}"
        self.do_due()
        self.note_air()
        self.publish()
        self.guard()

    @property
    def roster(self) -> Roster:
        return self.network.roster

    def sections(self, address: int) -> tuple[bytes, ...] | None:
        """The EMM that is sent for a card now; None when none is."""
        slot = self.roster.slot_of(address)
        if slot is None:
            return None
        return self.roster.seal(slot, self.calendar.period(self.clock.now()), self.calendar, self.sealer)

    # inside

    def _gather(self) -> set[tuple[str, int, int, int]]:
        """Take what came on the streams; return which EMMs have come to their last part."""
        now, ended = int(self.clock.now()), set()
        for name, link in self.links.items():
            sent, link.on_the_stream = link.on_the_stream, []
            self.heard[name].extend((now, section) for section in sent)
            headers = [read_header(section) for section in sent]
            ended |= {(name, *one.emm) for one in headers if one.part == one.last}
        return ended

    def _promise(self, operator: str, now: float) -> Any:
        promise = self.network.promise(operator, now)
        if isinstance(promise, Promise):
            promise.messages = self.board.promise(operator, self.network, now)
        return promise

    def _follow(self, changes: Sequence[CardChange], promised: Promised = NOBODY) -> None:
        for change in changes:
            self.network.apply(change, promised)

    def _read(self, held: Any) -> tuple[Any, Any, list[OpenChange]]:
        now, operators = self.clock.now(), sorted(self.grants.operators)
        products = reading.Products(held, self.grants)
        return (
            reading.card_block(held, operators, -1),
            reading.right_block(held, operators, -1, 10**11, products, now),
            reading.open_changes(held, now - FIRST_HOUR_S, 0, 100_000)[0],
        )

    def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(task)
        self._tasks = []
