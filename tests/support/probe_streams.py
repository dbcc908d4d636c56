"""Transport streams for the probe: real EMMs and ECMs through the demo multiplexer's composer, with faults on order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from cad.demo.stream import PlannedService, StreamComposer, StreamPlan
from cad.probe.analysis import StreamProbe
from cad.probe.report import Expected, ProbeDocument, document
from emm.ecm import EcmHeader, EcmSealer, Parity
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import EmmHeader, EmmKind, Version, build_head
from protocol.mpegts.packet import PACKET_SIZE, packet_pid, split_packets

CA, EMM_PID, ECM_PID, SERVICE_ID = 0x4ADC, 0x500, 0x101, 101
RATE_BPS = 1_000_000
START = 1_800_000_000.0
LADDER = KeyLadder(LocalMasterKey(bytes(32)))


def emm(
    address: int,
    revision: int = 1,
    *,
    kind: EmmKind = EmmKind.UNIQUE,
    part: int = 0,
    last_part: int = 0,
    size: int = 20,
    period: int = 4000,
) -> bytes:
    """An EMM whose header is right; nobody here opens it."""
    header = EmmHeader(kind, address, 1, Version(period, revision), part, last_part)
    return build_head(header, size) + bytes(16 + size)


@lru_cache
def ecm(number: int, service_id: int = SERVICE_ID, period_s: int = 10, off_s: int = 0) -> bytes:
    """The ECM of the crypto-period of this number."""
    header = EcmHeader(Parity(0x80 | number & 1), number * period_s + off_s, service_id, 3)
    words = [bytes([number & 0xFF] * 8), bytes([number + 1 & 0xFF] * 8)]
    return EcmSealer(LADDER).seal(header, [1, 2], words, bytes(16))


@dataclass
class Air:
    """A stream that a probe hears as time passes; `probe_every` seconds of it at a time."""

    ecm_period_s: int = 10
    services: int = 1
    drop_pids: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.now = START
        self.ecm_service_id = SERVICE_ID
        self.ecm_off_s = 0
        services = tuple(
            PlannedService(SERVICE_ID + n, 0x100 + 16 * n, ECM_PID + 16 * n, 0x102 + 16 * n, self._ecm)
            for n in range(self.services)
        )
        self.composer = StreamComposer(
            StreamPlan(CA, EMM_PID, rate_bps=RATE_BPS, services=services, queue_s=60), self.now
        )
        self.composer.emm_rate_bps = RATE_BPS // 2
        self.probe = StreamProbe(CA)
        self.probe.tick(self.now)

    def pass_time(self, seconds: float, emms: Iterable[bytes] = (), step: float = 0.05) -> None:
        """Let a stream with these EMMs, evenly spread, be heard."""
        queue = list(emms)
        steps = max(1, round(seconds / step))
        for number in range(steps):
            first, last = len(queue) * number // steps, len(queue) * (number + 1) // steps
            assert self.composer.put_sections(queue[first:last]) == 0
            self.now += step
            self.hear(self.composer.compose(self.now))

    def hear(self, data: bytes) -> None:
        if self.drop_pids:
            kept = [raw for raw in split_packets(data) if packet_pid(raw) not in self.drop_pids]
            data = b"".join(kept)
        self.probe.feed(data, self.now)

    def report(self, wall: float | None = None, expected: Expected | None = None) -> ProbeDocument:
        return document(self.probe, "test", wall=wall, expected=expected)

    def _ecm(self, at: float) -> bytes:
        return ecm(int(at) // self.ecm_period_s, self.ecm_service_id, self.ecm_period_s, self.ecm_off_s)


def recording(seconds: float, emms: Iterable[bytes] = ()) -> bytes:
    """A whole stream at RATE_BPS."""
    composer = Air().composer
    queue = list(emms)
    data = b""
    steps = round(seconds / 0.05)
    for number in range(steps):
        composer.put_sections(queue[len(queue) * number // steps : len(queue) * (number + 1) // steps])
        data += composer.compose(START + (number + 1) * 0.05)
    assert len(data) % PACKET_SIZE == 0
    return data
