"""The main job, shown: an order over MQTT opens a channel on one card, and leaves another closed.

Everything is real but the size: the daemon is its own process, the broker a real broker, the multiplexer speaks
SimulCrypt and makes a transport stream, the receivers filter it, the cards answer APDUs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from cad.demo import place as places
from cad.demo.broker import find_mosquitto, free_port, running_broker
from cad.demo.living_room import LivingRoom
from cad.demo.multiplexer import DemoMultiplexer
from cad.demo.place import OPERATOR, SPORT, SPORT_PRODUCT_ID, SPORT_SERVICE_ID, DemoPlace
from cad.demo.portal import DemoPortal, connected
from cad.demo.stream import PlannedService, StreamPlan
from cad.errors import CadError
from cad.frame.clock import SystemClock
from cad.frame.supervisor import Supervisor
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity

STEP_TIMEOUT_S: Final = 20.0
STILL_CLOSED_S: Final = 2.0
CRYPTO_PERIOD_S: Final = 1.0
MUX_KBPS: Final = 100

Value = TypeVar("Value")
Tell = Callable[[str, str], None]
"""Takes who does something (portal, headend, card …) and what, in words."""


class DemoFailedError(CadError):
    """A step of the demo did not happen, and which."""


@dataclass(slots=True)
class DemoResult:
    """What the demo has shown. Seconds from the publication of the order."""

    channel: str
    card: str
    other_card: str
    broker: str
    replied_after_s: float
    on_air_after_s: float
    visible_after_s: float
    reply: dict[str, Any] = field(repr=False)


@dataclass(slots=True)
class Stage:
    """The parts of the running demo."""

    place: DemoPlace
    broker: str
    mux: DemoMultiplexer
    portal: DemoPortal
    rooms: tuple[LivingRoom, LivingRoom]
    daemon: subprocess.Popen[bytes]
    log_path: Path

    async def until(self, what: str, look: Callable[[], Value | None], timeout_s: float = STEP_TIMEOUT_S) -> Value:
        """Wait until `look` gives something. Raises DemoFailedError, with the end of the daemon's log."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while (value := look()) is None:
            if self.daemon.poll() is not None:
                raise DemoFailedError(
                    f"the daemon ended with exit code {self.daemon.returncode}; its log ends:\n{self.log_tail()}"
                )
            if loop.time() > deadline:
                raise DemoFailedError(
                    f"waited {timeout_s:.0f} s in vain for: {what}; the daemon's log ends:\n{self.log_tail()}"
                )
            await asyncio.sleep(0.005)
        return value

    def log_tail(self) -> str:
        """The last lines of the daemon's log."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-8:])


@asynccontextmanager
async def staged(tell: Tell) -> AsyncIterator[Stage]:
    """Build everything up, and take it down again in the opposite order."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cad-demo-")))
        broker_port, http_port = free_port(), free_port()
        supervisor = Supervisor(clock, jitter=lambda: 0.5)
        stack.push_async_callback(supervisor.stop_all)
        broker = stack.enter_context(running_broker(directory, broker_port, find_mosquitto()))
        tell("broker", f"{broker} listens on port {broker_port} of loopback")
        plan_ecm = _Ecms()
        mux = DemoMultiplexer(_stream_plan(plan_ecm), clock, MUX_KBPS)
        mux_port = await mux.start()
        stack.push_async_callback(mux.stop)
        place = places.prepare(directory, broker_port, mux_port, http_port)
        plan_ecm.sealer, plan_ecm.calendar = EcmSealer(place.ladder), _calendar(place)
        supervisor.start("demo multiplexer", mux.run)
        tell("multiplexer", f"waits for an EMMG on port {mux_port}, and sends a transport stream with CAT and Sport 1")
        log_path = directory / "cad.log"
        daemon = stack.enter_context(_daemon(place, log_path))
        portal = await stack.enter_async_context(connected(broker_port, OPERATOR, supervisor))
        rooms = tuple(
            stack.enter_context(LivingRoom(place, places.FIRST_CARD + number, mux.subscribe(), clock))
            for number in range(2)
        )
        for number, room in enumerate(rooms):
            supervisor.start(f"receiver {number}", room.watch, restart=False)
        yield Stage(place, broker, mux, portal, (rooms[0], rooms[1]), daemon, log_path)


async def play(stage: Stage, tell: Tell) -> DemoResult:
    """Run the main job. Raises DemoFailedError when a step does not happen."""
    portal, (mine, other) = stage.portal, stage.rooms
    channel = stage.place.settings.networks[0].services[0].name
    await _until_ready(stage)
    tell("headend", "cad serve is ready: broker connected, EMM stream open on the multiplexer")
    await stage.until("an ECM on both receivers", lambda: (mine.refused_at and other.refused_at) or None)
    for room in (mine, other):
        tell("card", f"{room.number}: {channel} stays closed ({room.refusal})")
    await _ask(
        stage,
        "offer",
        "put",
        {"offer": SPORT, "rev": 1, "kind": "channel", "names": {"en": channel}, "products": ["sport"]},
    )
    for number, room in enumerate((mine, other)):
        await _ask(stage, "card", "assign", {"card": room.number, "rev": 1, "subscriber": f"customer-{number + 1}"})
    tell("portal", f"offer “{channel}” put, both cards assigned to customers")
    await stage.until("both cards on the air", lambda: (mine.emms >= 1 and other.emms >= 1) or None)

    loop = asyncio.get_running_loop()
    clock = SystemClock()
    ordered_at, ordered = clock.now(), loop.time()
    order = {"subscription": "order-1", "rev": 1, "card": mine.number, "offer": SPORT}
    command_id = await portal.publish("subscription", "put", order)
    tell("portal", f"orders {channel} for card {mine.number}")
    reply = await stage.until("the reply to the order", lambda: portal.reply_to(command_id))
    replied = loop.time() - ordered
    if reply["status"] != "committed":
        raise DemoFailedError(f"the order was answered {reply['status']}: {reply['code']}, {reply['detail']}")
    tell(
        "headend",
        f"replies after {replied * 1000:.0f} ms: {reply['status']}, "
        f"on_air_by {reply['on_air_by']}, visible_by {reply['visible_by']}",
    )
    await stage.until("the card to open the channel", lambda: mine.opened_at)
    assert mine.opened_at is not None
    aired = await stage.until("the event on-air", lambda: portal.event_of("on-air", command_id))
    tell("headend", f"EMM left for multiplexer {aired['multiplex']}; the event on-air says {aired['at']}")
    heard = (mine.emm_at or mine.opened_at) - ordered_at
    tell("receiver", f"filtered the EMM for card {mine.number} out of the transport stream after {heard:.2f} s")
    visible = mine.opened_at - ordered_at
    tell("card", f"{mine.number}: takes the EMM, and opens the ECM that it refused before, after {visible:.2f} s")
    await asyncio.sleep(STILL_CLOSED_S)
    if other.opened_at is not None:
        raise DemoFailedError(f"card {other.number} opened {channel} without an order")
    tell("card", f"{other.number}: {channel} stays closed ({other.refusal}), as it should")
    return DemoResult(channel, mine.number, other.number, stage.broker, replied, heard, visible, reply)


class _Ecms:
    """The demo's ECM generator: a new control word every crypto-period, for the holders of the product."""

    def __init__(self) -> None:
        self.sealer: EcmSealer | None = None
        self.calendar = Calendar()
        self._number = -1
        self._section: bytes | None = None

    def __call__(self, at: float) -> bytes | None:
        number = int(at / CRYPTO_PERIOD_S)
        if self.sealer is not None and number != self._number:
            header = EcmHeader(
                Parity.ODD if number % 2 else Parity.EVEN, int(at), SPORT_SERVICE_ID, self.calendar.epoch(at)
            )
            words = [os.urandom(8), os.urandom(8)]
            self._section = self.sealer.seal(header, [SPORT_PRODUCT_ID], words, os.urandom(16))
            self._number = number
        return self._section


def _stream_plan(ecm: Callable[[float], bytes | None]) -> StreamPlan:
    service = PlannedService(SPORT_SERVICE_ID, pmt_pid=0x100, ecm_pid=0x101, component_pid=0x102, ecm=ecm)
    return StreamPlan(places.CA_SYSTEM_ID, places.EMM_PID, services=(service,))


def _calendar(place: DemoPlace) -> Calendar:
    settings = place.settings.calendar
    return Calendar(settings.period_days, settings.epoch_periods, settings.overlap_periods)


@contextmanager
def _daemon(place: DemoPlace, log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own arguments
            [sys.executable, "-m", "cad", "serve", "--config", str(place.config)],
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            # Ctrl-C in the terminal is the demo's business: it stops the daemon in its own order.
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


async def _until_ready(stage: Stage) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(stage.place.settings.node.socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://cad") as client:

        async def ready() -> bool | None:
            try:
                answer = await client.get("/readyz")
            except httpx.HTTPError:
                return None
            return True if answer.status_code == httpx.codes.OK and stage.mux.connections else None

        await _poll(stage, "cad serve to be ready", ready)


async def _poll(stage: Stage, what: str, ask: Callable[[], Awaitable[Value | None]]) -> Value:
    found: Value | None = None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + STEP_TIMEOUT_S
    while found is None and loop.time() < deadline and stage.daemon.poll() is None:
        found = await ask()
        await asyncio.sleep(0.02)
    return await stage.until(what, lambda: found, timeout_s=0)


async def _ask(stage: Stage, resource: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    command_id = await stage.portal.publish(resource, verb, body)
    reply = await stage.until(f"the reply to {resource} {verb}", lambda: stage.portal.reply_to(command_id))
    if reply["status"] != "committed":
        raise DemoFailedError(f"{resource} {verb} was answered {reply['status']}: {reply['code']}, {reply['detail']}")
    return reply
