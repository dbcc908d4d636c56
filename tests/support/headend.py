"""A whole headend: the daemon as its own process, a real broker with TLS and access list, strict multiplexers."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx

from cad import keystore
from cad.demo.receiver import card_filters
from cad.demo.sandbox_clock import SandboxClock
from cards.errors import CardRefusedError, PairedError
from cards.memory.contents import CardKeys
from cards.session import CardSession
from cards.software_card import SoftwareCard
from config import load
from emm.calendar import Calendar
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.keys import KeyLadder
from emm.pairing import ReceiverIdentity
from protocol import card_number, receiver_number
from tests.support.broker import DAEMON, HOST, Mosquitto, free_port, running
from tests.support.multiplexer import StrictMultiplexer

CA_SYSTEM_ID = 0x4AD1
SERVICES = {"sport-1": 101, "film-1": 102}
PRODUCTS = {"sport": 7, "film": 8}
FIRST = {"kaisa": 10_000_000_000, "other": 20_000_000_000}

SETTINGS = """
[node]
name = "test"
state_dir = "{folder}/state"
socket = "{folder}/s"
http_listen = "127.0.0.1:{http_port}"
[mqtt]
host = "{host}"
port = {broker_port}
client_id = "cad-test"
[mqtt.tls]
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/{daemon}.pem"
key_file = "{pki}/{daemon}.key"
[keys]
file = "{folder}/master.key"
passphrase_file = "{folder}/passphrase"
[ca]
ca_system_id = {ca_system_id}
[[networks]]
id = "net"
{multiplexes}
[[networks.services]]
id = "sport-1"
name = "Sport 1"
original_network_id = 1
transport_stream_id = 1
service_id = 101
[[networks.services]]
id = "film-1"
name = "Film 1"
original_network_id = 1
transport_stream_id = 1
service_id = 102
[[networks.products]]
id = "sport"
product_id = 7
services = ["sport-1"]
[[networks.products]]
id = "film"
product_id = 8
services = ["film-1"]
[[operators]]
id = "kaisa"
network = "net"
products = ["sport", "film"]
card_ranges = [{{ first = "{kaisa_first}", last = "{kaisa_last}" }}]
[[operators]]
id = "other"
network = "net"
products = ["film"]
card_ranges = [{{ first = "{other_first}", last = "{other_last}" }}]
"""

MULTIPLEX = """
[[networks.multiplexes]]
id = "{name}"
host = "127.0.0.1"
port = {port}
bandwidth_kbps = {kbps}
"""


class Headend:
    """The daemon and its neighbours. `start`, `kill` and `stop` act on the daemon alone.

    `begins_at`: the daemon's time when this is made (Unix seconds), which the test then moves by `clock` or `go_to`;
    None: it has the machine's. Intervals are real under either.
    """

    def __init__(
        self, folder: Path, broker: Mosquitto, multiplexers: list[StrictMultiplexer], begins_at: float | None = None
    ) -> None:
        self.clock = None if begins_at is None else SandboxClock.start(folder / "clock.json", 1.0, begins_at)
        self.folder = folder
        self.broker = broker
        self.multiplexers = multiplexers
        self.config = folder / "cad.toml"
        self.log = folder / "cad.log"
        self.http_port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        broker.authority.issue(DAEMON)
        passphrase = folder / "passphrase"
        passphrase.touch(mode=0o600)
        passphrase.write_text("a passphrase for tests only")
        self.write_settings()
        self.ladder = KeyLadder(keystore.create(load.load(self.config).keys))
        self.calendar = Calendar()

    def write_settings(self, change: Callable[[str], str] = lambda text: text) -> None:
        """Write the settings, as `change` wants them."""
        text = SETTINGS.format(
            folder=self.folder,
            http_port=self.http_port,
            host=HOST,
            broker_port=self.broker.port,
            pki=self.broker.authority.folder,
            daemon=DAEMON,
            ca_system_id=CA_SYSTEM_ID,
            multiplexes="".join(
                MULTIPLEX.format(name=f"mux-{number}", port=mux.port, kbps=mux.bandwidth_kbps)
                for number, mux in enumerate(self.multiplexers)
            ),
            kaisa_first=card_number.spell(FIRST["kaisa"]),
            kaisa_last=card_number.spell(FIRST["kaisa"] + 9999),
            other_first=card_number.spell(FIRST["other"]),
            other_last=card_number.spell(FIRST["other"] + 9999),
        )
        self.config.write_text(change(text))

    def spawn(self, *prefix: str) -> None:
        """Start the daemon and do not wait for it."""
        assert self.process is None
        daemon = ["cad", "serve", "--config", str(self.config)]
        if self.clock is not None:
            daemon = ["cad.demo.sandbox_daemon", str(self.config), str(self.folder / "clock.json")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *daemon],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    async def start(self, *prefix: str) -> None:
        """Start the daemon, and wait until it takes orders and every multiplexer is streamed to."""
        self.spawn(*prefix)
        await self.until(self.is_ready, "the daemon to be ready", 120)
        for mux in self.multiplexers:
            await mux.until(lambda mux=mux: mux.streaming, 60)

    def now(self) -> float:
        """The daemon's time."""
        return time.time() if self.clock is None else self.clock.now()

    def go_to(self, moment: float) -> None:
        """Move the daemon's clock ahead to a moment, in one jump."""
        assert self.clock is not None, "begins_at was not given"
        self.clock.set(advance_s=moment - self.clock.now())

    async def until(self, look: Any, what: str, timeout_s: float = 60) -> Any:
        """Wait until `look()` gives something true; awaits it where it has to."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            assert self.process is None or self.process.poll() is None, f"the daemon ended:\n{self.log_tail()}"
            assert loop.time() < deadline, f"waited in vain for {what}:\n{self.log_tail()}"
            await asyncio.sleep(0.02)

    def log_tail(self) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def events(self) -> list[dict[str, Any]]:
        """The daemon's log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    async def is_ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            return (await self.ask("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def ask(self, path: str, **query: str) -> httpx.Response:
        """Ask the control socket."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.folder / "s"))
        async with httpx.AsyncClient(transport=transport, base_url="http://cad", timeout=30) as client:
            return await client.get(path, params=query)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and the orderly end's exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, 90)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            process.send_signal(number)
            process.wait(timeout=20)

    # Cards and what they can open.

    def card(self, address: int) -> "Viewer":
        """A card that this headend's keys were put into, in a receiver on the first multiplex."""
        return Viewer(self, address)


class Viewer:
    """A software card in a receiver, which gives it what it would filter for it out of a multiplexer's EMMs."""

    def __init__(self, headend: Headend, address: int, receiver: int = 1) -> None:
        self.headend = headend
        self.address = address
        self.number = card_number.spell(address)
        path = headend.folder / f"card-{address}-{os.urandom(4).hex()}"
        self.card = SoftwareCard.create(path, address, CardKeys.derive(headend.ladder, address))
        self.put_into(receiver)
        self.blocked = False  # whether somebody keeps all EMMs from it
        self._seen = [0] * len(headend.multiplexers)

    def put_into(self, receiver: int) -> None:
        """Put the card into the receiver with that serial."""
        number = receiver_number.of_serial(receiver)
        identity = ReceiverIdentity(number, self.headend.ladder.pairing_key(number))
        self.receiver = receiver_number.spell(number)
        self.session = CardSession(self.card.process, receiver=identity)

    def forget(self) -> None:
        """Hear nothing of what was sent up to now."""
        self._seen = [len(one.whole_sections) for one in self.headend.multiplexers]

    def listen(self, multiplexer: int = 0) -> None:
        """Hear what was sent on a multiplexer since the last time."""
        if self.blocked:
            return
        filters = card_filters(self.address)
        sections = self.headend.multiplexers[multiplexer].whole_sections
        for section in sections[self._seen[multiplexer] :]:
            if any(one.passes(section) for one in filters):
                self.session.process_emm(section)
        self._seen[multiplexer] = len(sections)

    def skip(self, sections: int, multiplexer: int = 0) -> None:
        """Come in only after so many sections were sent."""
        self._seen[multiplexer] = sections

    def opens(self, service: str, at: float | None = None, multiplexer: int = 0) -> bool:
        """Whether the card opens the service at that time (Unix seconds; None: now), after what it has heard."""
        at = self.headend.now() if at is None else at
        self.listen(multiplexer)
        product = PRODUCTS[service.partition("-")[0]]
        header = EcmHeader(Parity.EVEN, int(at), SERVICES[service], self.headend.calendar.epoch(at))
        words = [os.urandom(8), os.urandom(8)]
        ecm = EcmSealer(self.headend.ladder).seal(header, [product], words, os.urandom(16))
        try:
            return list(self.session.process_ecm(ecm).words) == words
        except (CardRefusedError, PairedError):
            return False


@contextlib.asynccontextmanager
async def headend(
    folder: Path, multiplexers: int = 2, kbps: int = 200, begins_at: float | None = None
) -> AsyncIterator[Headend]:
    """A headend whose daemon has not been started. `begins_at`: see `Headend`."""
    async with contextlib.AsyncExitStack() as stack:
        broker = stack.enter_context(running(folder))
        muxes = [await stack.enter_async_context(StrictMultiplexer(bandwidth_kbps=kbps)) for _ in range(multiplexers)]
        one = Headend(folder, broker, muxes, begins_at)
        try:
            yield one
        finally:
            one.kill()
