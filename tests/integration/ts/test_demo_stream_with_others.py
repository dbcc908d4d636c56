"""The demo multiplexer's transport stream, judged by programs of others: tshark and tsdecrypt.

Every EMM comes in over SimulCrypt (TCP) and leaves in the stream; the judges read the file that the multiplexer wrote.
"""

import json
import random
import subprocess
from pathlib import Path

import pytest

from cad.demo.outputs import FileOutput
from cad.demo.stream import PlannedService, StreamPlan
from protocol.mpegts.packet import Packing
from protocol.mpegts.section import ShortSection, build_section
from tests.support.camd import CamdServer, Handed, hand_over
from tests.support.demo_multiplexer import CA, EMM_PID, multiplexer_running

pytestmark = pytest.mark.integration

TABLE_IDS = (0x82, 0x84, 0x88)
PMT_PID, ECM_PID = 0x100, 0x101


def emms(sizes: list[int], seed: int = 7) -> list[bytes]:
    source = random.Random(seed)
    return [build_section(ShortSection(source.choice(TABLE_IDS), source.randbytes(size - 3))) for size in sizes]


def ecm(at: float) -> bytes:
    return build_section(ShortSection(0x80 | int(at) & 1, int(at).to_bytes(4, "big") * 20))


async def record(path: Path, sections: list[bytes], packing: Packing) -> None:
    """Send the EMMs through a running multiplexer that writes its stream to `path`."""
    service = PlannedService(101, PMT_PID, ECM_PID, 0x102, ecm)
    plan = StreamPlan(CA, EMM_PID, rate_bps=4_000_000, services=(service,), packing=packing, queue_s=60)
    async with multiplexer_running(plan, bandwidth_kbps=2000) as running:
        file = FileOutput(path)
        running.multiplexer.add_output(file)
        client = await running.emmg(bandwidth_kbps=2000)
        await client.send(sections)
        await running.receive(len(sections))
        running.multiplexer.remove_output(file)


def tshark(path: Path, *arguments: str) -> str:
    finished = subprocess.run(
        ["tshark", "-r", path, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return finished.stdout


def tshark_sections(path: Path, pid: int) -> list[bytes]:
    """The sections of this PID as tshark has put them together."""
    shown = tshark(
        path, "-Y", f"mp2t.pid=={pid} && mpeg_sect", "-T", "jsonraw", "--no-duplicate-keys", "-j", "mpeg_sect"
    )
    found: list[bytes] = []
    for frame in json.loads(shown):
        raw = frame["_source"]["layers"]["mpeg_sect_raw"]
        found += [bytes.fromhex(one[0]) for one in ([raw] if isinstance(raw[0], str) else raw)]
    return found


def tsdecrypt(path: Path, enough: int) -> tuple[list[Handed], str]:
    """The EMMs that tsdecrypt hands over out of this file, and what it says meanwhile."""
    with CamdServer() as camd:
        said = hand_over(path.read_bytes(), camd, CA, enough, input_service=101)
    assert camd.errors == []
    return camd.handed(), said


@pytest.mark.parametrize("packing", Packing)
async def test_tshark_finds_tables_and_every_emm_byte_for_byte(tmp_path: Path, packing: Packing) -> None:
    sent = emms(list(range(17, 257)))
    await record(tmp_path / "x.ts", sent, packing)
    verify = ("-o", "mpeg_sect.verify_crc:TRUE")
    fields = ("-T", "fields", "-e", "mpeg_descr.ca.sys_id", "-e", "mpeg_descr.ca.pid", "-e", "mpeg_sect.crc.status")
    cats = set(tshark(tmp_path / "x.ts", *verify, "-Y", "mpeg_ca", *fields).splitlines())
    assert cats == {f"{CA:#06x}\t{EMM_PID:#06x}\t1"}
    pmts = set(tshark(tmp_path / "x.ts", *verify, "-Y", "mpeg_pmt", *fields).splitlines())
    assert pmts == {f"{CA:#06x}\t{ECM_PID:#06x}\t1"}
    assert tshark(tmp_path / "x.ts", *verify, "-Y", "_ws.malformed or _ws.expert") == ""
    assert tshark_sections(tmp_path / "x.ts", EMM_PID) == sent
    assert {section[0] for section in tshark_sections(tmp_path / "x.ts", ECM_PID)} <= {0x80, 0x81}


async def test_tsdecrypt_finds_the_cat_and_hands_over_every_emm_byte_for_byte(tmp_path: Path) -> None:
    sent = emms([*range(17, 256)] * 3)
    # A receiver must see an EMM however often it is repeated; tsdecrypt does not filter repeats.
    sent += sent[:20]
    random.Random(3).shuffle(sent)
    await record(tmp_path / "x.ts", sent, Packing.PER_SECTION)
    handed, said = tsdecrypt(tmp_path / "x.ts", len(sent))
    assert f"EMM CAID: {CA:#06x}" in said
    assert f"EMM pid : {EMM_PID:#06x}" in said
    assert "discontinuity" not in said
    assert handed == [Handed(CA, section) for section in sent]


async def test_tsdecrypt_takes_several_whole_emms_out_of_one_packet(tmp_path: Path) -> None:
    # Three of 61 bytes fill a packet with its pointer_field.
    sent = emms([61] * 300)
    await record(tmp_path / "x.ts", sent, Packing.PACKED)
    handed, _ = tsdecrypt(tmp_path / "x.ts", len(sent))
    assert handed == [Handed(CA, section) for section in sent]


async def test_what_tsdecrypt_cannot_hand_over(tmp_path: Path) -> None:
    """Its limits, not those of the stream (docs/transport-stream.md): one byte for a length, one section at a time."""
    await record(tmp_path / "x.ts", emms([255, 256]), Packing.PER_SECTION)
    handed, _ = tsdecrypt(tmp_path / "x.ts", 2)
    assert [len(one.section) for one in handed] == [255, 0]
    sent = emms([150] * 60)
    await record(tmp_path / "y.ts", sent, Packing.PACKED)
    handed, _ = tsdecrypt(tmp_path / "y.ts", len(sent))
    assert 0 < len(handed) < len(sent)
    assert tshark_sections(tmp_path / "y.ts", EMM_PID) == sent
