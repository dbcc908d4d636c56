"""Streams without a multiplexer, from the carousel to the wire, judged by programs of others: tshark and tsdecrypt.

A channel sends what its carousel says over a stream link by UDP and RTP, multicast on the loopback; what a socket has
received is given to the judges.
"""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from cad.air.broadcast import Channel
from cad.air.outgoing import FirstAir, WaitingChange
from cad.air.roster import Roster, SectionCache
from cad.frame.clock import SystemClock
from cad.frame.metrics import Metrics
from cad.frame.supervisor import Supervisor
from cad.ledger.model import CardChange
from cad.ts_out.link import StreamLink
from config.outlets import StreamSettings
from emm.calendar import Calendar
from emm.carousel import Carousel, CarouselPolicy
from emm.keys import KeyLadder, LocalMasterKey
from emm.message import parse_emm
from emm.plan import Right
from emm.seal import EmmSealer
from protocol import rtp
from protocol.mpegts.packet import CAT_PID, PAT_PID
from tests.support.camd import CamdServer, hand_over
from tests.support.pcap import write_udp
from tests.support.ts_listening import Heard, UdpListener

pytestmark = pytest.mark.integration

CA, EMM_PID = 0x4ADC, 0x1F0


class OneStream:
    """A network of one stream with its own cards, from the roster to the socket."""

    def __init__(self, number: int, listener: UdpListener | None = None, **changes: object) -> None:
        group = f"239.255.78.{number}"
        self.listener = listener or UdpListener(group)
        fields = {"id": f"s-{number}", "host": group, "port": self.listener.port, "interface": "lo", "multicast_ttl": 0}
        self.settings = StreamSettings.model_validate(fields | changes)
        self.clock = SystemClock()
        self.aired: list[FirstAir] = []
        self.roster = Roster()
        self.link = StreamLink(self.settings, CA, self.clock)
        sealer = EmmSealer(KeyLadder(LocalMasterKey(bytes([number] * 32))))
        self.channel = Channel(
            self.settings,
            self.link,
            Carousel(CarouselPolicy()),
            SectionCache(self.roster, Calendar(), sealer),
            self.clock,
            Metrics(),
            self.aired.extend,
        )

    def order(self, address: int, rights: int) -> None:
        products = tuple(Right(product, 0) for product in range(1, rights + 1))
        now = self.clock.now()
        change = CardChange(address, "op", False, 1, 1, products, address + 1, now, "id")
        slot, _ = self.roster.apply(change)
        self.channel.change(slot, (200,), WaitingChange(address + 1, now, None))

    def received(self) -> list[tuple[float, bytes]]:
        """All that has come; nothing more is listened to."""
        with contextlib.closing(self.listener):
            return self.listener.take()


@asynccontextmanager
async def on_air(*streams: OneStream) -> AsyncIterator[None]:
    supervisor = Supervisor(SystemClock(), lambda: 0.5)
    for one in streams:
        supervisor.start(f"channel {one.settings.id}", one.channel.run)
        supervisor.start(f"link {one.settings.id}", one.link.run)
    try:
        yield
    finally:
        for one in streams:
            await supervisor.stop(f"channel {one.settings.id}")
            await one.link.close()
        stuck = supervisor.stuck()
        await supervisor.stop_all()
    assert [one for one in stuck if not one.endswith("ended")] == []


def tshark(*arguments: object) -> str:
    command = ["tshark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def tshark_sections(path: Path, *options: str) -> list[bytes]:
    wanted = ("-T", "jsonraw", "--no-duplicate-keys", "-j", "mpeg_sect")
    shown = tshark("-r", path, *options, "-Y", f"mp2t.pid=={EMM_PID} && mpeg_sect", *wanted)
    found: list[bytes] = []
    for frame in json.loads(shown):
        raw = frame["_source"]["layers"].get("mpeg_sect_raw", [])
        found += [bytes.fromhex(one[0]) for one in ([raw] if raw and isinstance(raw[0], str) else raw)]
    return found


async def test_udp_and_rtp_at_once_as_tshark_reads_them(tmp_path: Path) -> None:
    over_udp = OneStream(1, bandwidth_kbps=200)
    over_rtp = OneStream(2, bandwidth_kbps=150, protocol="rtp", packing="per-section", null_packets=False, pat=False)
    async with on_air(over_udp, over_rtp):
        for address in range(400):
            over_udp.order(address, 1 + address % 9)
            over_rtp.order(10_000 + address, 1 + address % 9)
        await asyncio.sleep(4.5)
    plain, wrapped = over_udp.received(), over_rtp.received()
    unwrapped = [(at, rtp.parse(datagram)[1]) for at, datagram in wrapped]
    (tmp_path / "udp.ts").write_bytes(Heard(plain).stream)
    write_udp(tmp_path / "rtp.pcap", wrapped, over_rtp.listener.port)
    as_rtp = ("-d", f"udp.port=={over_rtp.listener.port},rtp")
    verify = ("-o", "mpeg_sect.verify_crc:TRUE")
    fields = ("-T", "fields", "-e", "mpeg_descr.ca.sys_id", "-e", "mpeg_descr.ca.pid", "-e", "mpeg_sect.crc.status")
    for stream, received, path, options in (
        (over_udp, plain, tmp_path / "udp.ts", ()),
        (over_rtp, unwrapped, tmp_path / "rtp.pcap", as_rtp),
    ):
        heard = Heard(received)
        sections = heard.sections(EMM_PID)
        assert tshark_sections(path, *options) == sections
        assert set(tshark("-r", path, *options, *verify, "-Y", "mpeg_ca", *fields).splitlines()) == {
            f"{CA:#06x}\t{EMM_PID:#06x}\t1"
        }
        assert tshark("-r", path, *options, *verify, "-Y", "_ws.malformed or mp2t.cc.drop") == ""
        # Everything that was noted as on the air was received, and nothing of another network.
        addresses = {parse_emm(section).header.address for section in sections}
        assert len(addresses) >= 100
        assert {air.change_seq - 1 for air in stream.aired} <= addresses
        assert heard.busiest_second(EMM_PID) <= 1000 * stream.settings.bandwidth_kbps
        assert heard.busiest_second() <= 1000 * stream.settings.stream_kbps
        assert heard.jumps(EMM_PID) == heard.jumps(CAT_PID) == 0
        assert max(b - a for a, b in pairwise(heard.times(CAT_PID))) < 0.5
        assert (PAT_PID in heard.packets) is stream.settings.pat
    first, second = ({parse_emm(s).header.address for s in Heard(r).sections(EMM_PID)} for r in (plain, unwrapped))
    assert not first & second
    numbers = [rtp.parse(datagram)[0].sequence_number for _, datagram in wrapped]
    assert all((after - before) & 0xFFFF == 1 for before, after in pairwise(numbers))


async def test_tsdecrypt_takes_every_emm_out_of_what_was_received_also_across_a_restart(tmp_path: Path) -> None:
    before = OneStream(3, bandwidth_kbps=300, packing="per-section")
    async with on_air(before):
        for address in range(60):
            before.order(address, 1 + address % 5)
        await asyncio.sleep(1.2)
    after = OneStream(3, bandwidth_kbps=300, packing="per-section", listener=before.listener)
    async with on_air(after):
        for address in range(100, 160):
            after.order(address, 1 + address % 5)
        await asyncio.sleep(1.2)
    received = before.received()
    heard = Heard(received)
    sections = heard.sections(EMM_PID)
    marked = [packet for _, packet in heard.packets[EMM_PID] if packet.discontinuity]
    assert len(marked) == 2, "each start announces that its counter begins anew"
    assert {parse_emm(section).header.address for section in sections} == {*range(60), *range(100, 160)}
    with CamdServer() as camd:
        said = hand_over(heard.stream, camd, CA, len(sections))
    assert camd.errors == []
    assert f"EMM CAID: {CA:#06x}" in said
    assert f"EMM pid : {EMM_PID:#06x}" in said
    handed = [one.section for one in camd.emms if one.section[:1] == b"\x82"]
    assert set(handed) == set(sections)
    assert all(one.ca_system_id == CA for one in camd.emms if one.section[:1] == b"\x82")
