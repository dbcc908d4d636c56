"""How fast one core makes a transport stream of ours, and how fast the probe reads one."""

import itertools
from time import process_time
from typing import Final

from cad.probe.analysis import StreamProbe
from cad.ts_out.composer import OutputComposer, OutputPlan
from emm.message import EmmHeader, EmmKind, Version, build_head
from protocol.mpegts.packet import Packing

AIMS: Final[dict[str, tuple[float, str]]] = {}

TICK_S: Final = 0.005
CA: Final = 0x4ADC
EMM_PID: Final = 0x1F0
EMM_BPS: Final = 50_000_000
STREAM_BPS: Final = 52_600_000
CARDS: Final = 20_000
STREAM_S: Final = 3


def run() -> dict[str, float]:
    """Measure for some seconds.

    `ts_out_mbit_s_max`: bits of a stream at the largest rate that settings allow, EMMs of 127 bytes on it wherever they
    may be, divided by the time that composing it takes. `probe_mbit_s_max`: the same stream, read and reported on.
    """
    emms = itertools.cycle([_emm(address) for address in range(CARDS)])
    figures: dict[str, float] = {}
    datagrams: list[bytes] = []
    for packing in Packing:
        datagrams, spent = _compose(packing, emms)
        figures[f"ts_out_{packing.name.lower()}_mbit_s_max"] = _mbit(datagrams) / spent
    figures["ts_out_mbit_s_max"] = figures["ts_out_packed_mbit_s_max"]
    probe = StreamProbe(CA)
    began = process_time()
    for number, datagram in enumerate(datagrams):
        probe.feed(datagram, number * 1e-3)
    probe.settle()
    figures["probe_mbit_s_max"] = _mbit(datagrams) / (process_time() - began)
    return figures


def _compose(packing: Packing, emms: "itertools.cycle[bytes]") -> tuple[list[bytes], float]:
    """Datagrams of STREAM_S seconds of stream, and the time it took to make them."""
    composer = OutputComposer(OutputPlan(CA, EMM_PID, EMM_BPS, STREAM_BPS, packing=packing), 0.0)
    datagrams: list[bytes] = []
    began = process_time()
    for tick in range(1, round(STREAM_S / TICK_S) + 1):
        while composer.queued_bytes < EMM_BPS / 8 * 2 * TICK_S:
            composer.put(itertools.islice(emms, 50))
        datagrams += composer.compose(tick * TICK_S)
    return datagrams, process_time() - began


def _mbit(datagrams: list[bytes]) -> float:
    return sum(map(len, datagrams)) * 8 / 1e6


def _emm(address: int) -> bytes:
    header = EmmHeader(EmmKind.UNIQUE, 10_000_000_000 + address, 1, Version(4000, 1))
    return build_head(header, 94) + bytes(16 + 94)
