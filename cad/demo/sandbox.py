"""`cad demo --portal`: a headend to develop a portal against, with a clock that can be sped up.

Daemon and broker are real; the multiplexer hands every EMM to a few cards, whose channels are looked at all the time.
Portals reach it over MQTT as they would the real one. What only a sandbox has lies below `cad/sandbox/`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiomqtt

from cad.demo import place as places
from cad.demo.broker import find_mosquitto, free_port, running_broker
from cad.demo.multiplexer import DemoMultiplexer
from cad.demo.place import DemoPlace
from cad.demo.sandbox_cards import SandboxCard
from cad.demo.sandbox_clock import SandboxClock, SandboxClockError
from cad.demo.sandbox_place import CARDS, OPERATORS, first_card, template
from cad.demo.scenario import MUX_KBPS, DemoFailedError, Tell
from cad.demo.stream import StreamPlan
from cad.frame import clock as clocks
from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from protocol.portal import topics

CLOCK_TOPIC: Final = "cad/sandbox/clock"
SET_TOPIC: Final = "cad/sandbox/clock/set"
CARD_TOPIC: Final = "cad/sandbox/card"
LOOK_EVERY_S: Final = 0.25
READY_WITHIN_S: Final = 30.0


@dataclass(slots=True)
class Sandbox:
    """A running sandbox. `client` is its own connection to the broker."""

    place: DemoPlace
    broker: str
    clock: SandboxClock
    cards: tuple[SandboxCard, ...]
    daemon: subprocess.Popen[bytes]
    client: aiomqtt.Client
    log_path: Path
    tell: Tell
    mailboxes: dict[str, list[str]] = field(default_factory=dict)

    async def until_ready(self) -> None:
        """Wait until the daemon takes orders. Raises DemoFailedError."""
        deadline = self.clock.monotonic() + READY_WITHIN_S
        while not (self.log_path.exists() and b'"ready"' in self.log_path.read_bytes()):
            self.check()
            if self.clock.monotonic() > deadline:
                raise DemoFailedError(f"the daemon is not ready after {READY_WITHIN_S:.0f} s:\n{self.log_tail()}")
            await self.clock.sleep(0.05)

    def check(self) -> None:
        """Raise DemoFailedError when the daemon has ended."""
        if self.daemon.poll() is not None:
            raise DemoFailedError(f"the daemon ended by itself; its log ends:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of the daemon's log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])

    async def watch_cards(self) -> None:
        """Look what the cards open, and tell what changes."""
        while True:
            for card in self.cards:
                await self._show_screen(card)
                if card.look():
                    channels = ", ".join(card.opens) or "nothing"
                    where = "" if card.paired_with is None else f": it is paired with receiver {card.paired_with}"
                    now = clocks.spell(self.clock.now())
                    self.tell("card", f"{now}  {card.number} in receiver {card.receiver} opens {channels}{where}")
                    said = {
                        "card": card.number,
                        "receiver": card.receiver,
                        "opens": card.opens,
                        "paired_with": card.paired_with,
                        "at": now,
                    }
                    await self._say(f"{CARD_TOPIC}/{card.number}", said)
            await self.clock.sleep(LOOK_EVERY_S)

    async def _show_screen(self, card: SandboxCard) -> None:
        """Tell what a card has shown, and what has come into its mailbox."""
        now = clocks.spell(self.clock.now())
        shown, mailbox = card.screen(), card.mailbox()
        for text in shown:
            self.tell("card", f"{now}  {card.number} shows on the screen: {text}")
        if not shown and mailbox == self.mailboxes.get(card.number, []):
            return
        self.mailboxes[card.number] = mailbox
        await self._say(f"{CARD_TOPIC}/{card.number}/screen", {"shows": shown, "mailbox": mailbox, "at": now})

    async def listen(self) -> None:
        """Tell what passes over the broker, and set the clock when somebody says so."""
        async for message in self.client.messages:
            topic, payload = str(message.topic), bytes(message.payload)
            if topic == SET_TOPIC:
                await self._set_clock(payload)
            else:
                said = payload.decode("utf-8", "replace")
                who = "portal" if "/cmd/" in topic else "headend"
                self.tell(who, f"{clocks.spell(self.clock.now())}  {topic.removeprefix(f'{topics.ROOT}/')}  {said}")

    async def show_clock(self) -> None:
        """Publish what time it is in the sandbox, every second."""
        while True:
            await self._say(CLOCK_TOPIC, {"now": clocks.spell(self.clock.now()), "rate": self.clock.rate})
            await self.clock.sleep(1.0)

    async def _set_clock(self, payload: bytes) -> None:
        try:
            wanted = json.loads(payload)
            self.clock.set(rate=_number(wanted, "rate"), advance_s=_number(wanted, "advance_s") or 0.0)
        except (ValueError, SandboxClockError) as error:
            self.tell("headend", f"the clock stays as it is: {error}")
            await self._say(CLOCK_TOPIC, {"now": clocks.spell(self.clock.now()), "error": str(error)})
        else:
            now = clocks.spell(self.clock.now())
            self.tell("headend", f"{now}  the clock runs {self.clock.rate:g} times as fast")
            await self._say(CLOCK_TOPIC, {"now": now, "rate": self.clock.rate})

    async def _say(self, topic: str, said: dict[str, Any]) -> None:
        await self.client.publish(topic, json.dumps(said).encode(), qos=1, retain=True)


@asynccontextmanager
async def opened(tell: Tell, rate: float, port: int | None) -> AsyncIterator[Sandbox]:
    """Build a sandbox up, and take it down again in the opposite order. Raises DemoFailedError, SandboxClockError."""
    real = SystemClock()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cad-sandbox-")))
        clock_file = directory / "clock.json"
        clock = SandboxClock.start(clock_file, rate)
        broker_port, http_port = port or free_port(), free_port()
        supervisor = Supervisor(real, jitter=lambda: 0.5)
        broker = stack.enter_context(running_broker(directory, broker_port, find_mosquitto()))
        cards: list[SandboxCard] = []
        mux = DemoMultiplexer(
            StreamPlan(places.CA_SYSTEM_ID, places.EMM_PID),
            real,
            MUX_KBPS,
            on_datagrams=lambda sections: _hear(cards, sections),
        )
        mux_port = await mux.start()
        stack.push_async_callback(mux.stop)
        place = places.prepare(directory, broker_port, mux_port, http_port, template())
        cards += [
            stack.enter_context(SandboxCard(place, first_card(operator) + number, clock))
            for operator in OPERATORS
            for number in range(CARDS // len(OPERATORS))
        ]
        log_path = directory / "cad.log"
        daemon = stack.enter_context(_daemon(place, clock_file, log_path))
        client = await stack.enter_async_context(
            aiomqtt.Client("127.0.0.1", broker_port, identifier="sandbox", protocol=aiomqtt.ProtocolVersion.V5)
        )
        stack.push_async_callback(supervisor.stop_all)
        sandbox = Sandbox(place, broker, clock, tuple(cards), daemon, client, log_path, tell)
        supervisor.start("demo multiplexer", mux.run)
        await sandbox.until_ready()
        for heard in (f"{topics.ROOT}/#", SET_TOPIC):
            await client.subscribe(heard, qos=1)
        supervisor.start("cards", sandbox.watch_cards)
        supervisor.start("listener", sandbox.listen)
        supervisor.start("clock", sandbox.show_clock)
        yield sandbox


async def run(sandbox: Sandbox) -> None:
    """Stay until the daemon ends, which it should not. Raises DemoFailedError."""
    while True:
        sandbox.check()
        await asyncio.sleep(0.2)


def _hear(cards: Iterable[SandboxCard], sections: tuple[bytes, ...]) -> None:
    for card in cards:
        card.hear(sections)


@contextmanager
def _daemon(place: DemoPlace, clock_file: Path, log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
            [sys.executable, "-m", "cad.demo.sandbox_daemon", str(place.config), str(clock_file)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _number(said: object, name: str) -> float | None:
    if not isinstance(said, dict) or said.keys() - {"rate", "advance_s"}:
        raise SandboxClockError('say {"rate": 43200} or {"advance_s": 3600}, or both')
    value = said.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise SandboxClockError(f"{name} is a number")
    return value
