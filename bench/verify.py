"""How long a technician waits for a verdict: real pcscd, virtual reader, the headend's port over TLS.

The card answers as slowly as a real one: T=1 at 9,600 bit/s, the slowest that ISO/IEC 7816-3 readers and cards agree on
(12 elementary time units a byte, 4 bytes of prologue and epilogue each way).
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from cad.field.api import HeadendApi
from cad.field.laptop import Laptop
from cad.field.work import FieldWork
from cards.application import DEFAULT_AID
from cards.readers.state import CardPresence
from cards.software_card import SoftwareCard
from cards.vpcd import VirtualSlot
from config.technician_file import TechnicianFile
from tests.support.laptop import make_card
from tests.support.pcscd import running_pcscd
from tests.support.technician import KAISA, FieldHeadend, field_headend
from tests.support.waiting import wait_until

AIMS: Final = {"verify_s_p99": (10.0, "max"), "refresh_s_p99": (10.0, "max")}

BYTE_S: Final = 12 / 9600
FRAME_BYTES: Final = 8
VERIFICATIONS: Final = 100
PRODUCTS: Final = ("sport", "film")


class SlowCard:
    """A software card behind a slow contact. Counts what goes over it."""

    def __init__(self, card: SoftwareCard) -> None:
        self._card = card
        self.commands = 0

    @property
    def atr(self) -> bytes:
        """The answer to reset."""
        return self._card.atr

    def reset(self) -> None:
        """Power on, off or reset."""
        self._card.reset()

    def process(self, command: bytes) -> bytes:
        """Answer after the time that the bytes take on the wire."""
        answer = self._card.process(command)
        self.commands += 1
        time.sleep((len(command) + len(answer) + FRAME_BYTES) * BYTE_S)
        return answer


def run() -> dict[str, float]:
    """Measure verification and refresh, each from the card found in the reader to the verdict."""
    with tempfile.TemporaryDirectory(prefix="cad-bench-") as folder, running_pcscd() as pcscd:
        return asyncio.run(_measure(Path(folder), pcscd.ports[0]))


async def _measure(folder: Path, port: int) -> dict[str, float]:
    async with field_headend(folder) as headend:
        for product in PRODUCTS:
            await headend.order("offer", "put", offer=product, kind="channel", names={"fi": "x"}, products=[product])
        headend.clock.set(time.time())
        await headend.set_up(KAISA)
        return await asyncio.to_thread(_work, headend, folder, port)


def _work(headend: FieldHeadend, folder: Path, port: int) -> dict[str, float]:
    from cards import pcsc

    pki = headend.authority.folder
    headend.authority.context("anna")
    file = TechnicianFile(
        headend=headend.url,
        ca_file=pki / "ca.pem",
        cert_file=pki / "anna.pem",
        key_file=pki / "anna.key",
        state_dir=folder / "laptop",
    )
    with make_card(folder, KAISA) as soft:
        card = SlowCard(soft)
        slot = VirtualSlot(card, port=port)
        slot.insert()
        wait_until(lambda: pcsc.list_readers()[0].presence is CardPresence.PRESENT, what="the card to be seen")
        reader = pcsc.list_readers()[0].name
        took: dict[str, list[float]] = {"refresh": [], "verify": []}
        for number in range(VERIFICATIONS + 5):
            kind = "refresh" if number % 21 == 0 else "verify"
            began = time.perf_counter()
            # A card after another is another connection, as with --watch; TLS is set up anew as by a single command.
            api = HeadendApi(file)
            work = FieldWork(api, Laptop(folder / "laptop"), headend.clock, DEFAULT_AID)  # type: ignore[arg-type]
            with pcsc.connect(reader) as connection:
                report = work.refresh(connection) if kind == "refresh" else work.verify(connection)
            took[kind].append(time.perf_counter() - began)
            api.close()
            if not report.passed:
                raise RuntimeError(f"the card should pass, not {report.verdict}")
        commands = card.commands
        slot.remove()
    return {
        "verify_s_p50": statistics.median(took["verify"]),
        "verify_s_p99": statistics.quantiles(took["verify"], n=100)[-1],
        "refresh_s_p99": max(took["refresh"]),
        "commands_per_verdict": commands / (VERIFICATIONS + 5),
    }
