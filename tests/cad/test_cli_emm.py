"""`cad emm decode`: EMMs out of streams, sections and hexadecimal text, shown to people and programs."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cad import keystore
from cad.cli import main as cli_main
from cad.cli.air.emm import DecodedDocument
from cad.cli.air.section_files import Form, open_sections
from config.load import load
from emm.keys import KeyLadder
from emm.message import Version
from emm.notices.content import Fingerprint, Message, Position, build_content
from emm.notices.seal import NoticeSealer
from emm.payload import CardState, EmmPayload, OpaqueBlock
from emm.plan import CardContent, Window
from emm.seal import EmmSealer
from emm.traits import Traits
from protocol.errors import ProtocolError
from protocol.mpegts.packet import CAT_PID, SectionPacketizer
from protocol.mpegts.psi import CaDescriptor, ConditionalAccess, build_cat
from tests.support.vectors import load_vectors

VECTORS = load_vectors("emm.json")
SECTIONS = [bytes.fromhex(section) for vector in VECTORS["unique"] for section in vector["sections"]]
SHARED = [bytes.fromhex(vector["section"]) for vector in VECTORS["shared"]]
ECM = bytes.fromhex(load_vectors("ecm.json")["ecms"][0]["section"])
EMM_PID = 0x0123


def packets(pid: int, sections: list[bytes]) -> bytes:
    packetizer = SectionPacketizer(pid)
    return b"".join([packet for each in sections for packet in packetizer.push(each)] + packetizer.flush())


CAT = packets(CAT_PID, [build_cat(ConditionalAccess((CaDescriptor(0x4A75, EMM_PID),)))])
STREAM = packets(EMM_PID, SECTIONS[:3]) + CAT + packets(0x200, [ECM]) + packets(EMM_PID, [*SECTIONS, ECM, SECTIONS[0]])


def decode(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli_main.run(["emm", "decode", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def decoded(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    code, out, err = decode(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    DecodedDocument.model_validate_json(out)
    found: dict[str, Any] = json.loads(out)
    return found


def test_sections_one_after_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "emms.bin"
    file.write_bytes(b"".join([*SECTIONS, *SHARED, SECTIONS[0]]))
    found = decoded(capsys, file)
    assert (found["form"], found["pids"], found["faults"], found["others"]) == ("sections", [], [], {})
    assert [emm["section"] for emm in found["emms"]] == [each.hex() for each in SECTIONS + SHARED]
    assert [emm["times"] for emm in found["emms"]] == [2] + [1] * (len(SECTIONS) + len(SHARED) - 1)
    first, group, to_all = found["emms"][0], found["emms"][-2], found["emms"][-1]
    assert {name: first[name] for name in ("kind", "table_id", "address", "card", "key_version", "period")} == {
        "kind": "unique",
        "table_id": 0x82,
        "address": 12_345_678_901,
        "card": "123456789015",
        "key_version": 1,
        "period": 4166,
    }
    assert (group["kind"], group["address"], group["card"]) == ("group", 48_225_308, None)
    assert (to_all["kind"], to_all["address"]) == ("global", 0)
    assert [(emm["part"], emm["last_part"]) for emm in found["emms"][6:9]] == [(0, 2), (1, 2), (2, 2)]


def test_notices_are_shown_and_opened(capsys: pytest.CaptureFixture[str], tmp_path: Path, config: Path) -> None:
    sealer = NoticeSealer(KeyLadder(keystore.load(load(config).keys)))
    long = Message(True, 0, 1_800_000_000, (("fi", "Hyvää huomenta! " * 20),))
    to_all = sealer.to_ranges([(0, 9)], 1, 5, build_content(long))[0]
    (to_few,) = sealer.to_members(0, [3, 4], 1, 6, build_content(Fingerprint(0, 60, 20, Position.TOP_LEFT, 101)))
    file = tmp_path / "notices.bin"
    file.write_bytes(b"".join([*to_all, to_few, *sealer.to_card(3, 1, 7, build_content(long))[:1]]))
    closed = decoded(capsys, file)["emms"]
    assert [(one["kind"], one["format"], one["revision"], one["notice"]) for one in closed] == [
        ("global", 2, 5, None),
        ("global", 2, 5, None),
        ("group", 2, 6, None),
        ("unique", 2, 7, None),
    ]
    opened = [one["notice"] for one in decoded(capsys, file, "--open", "--config", config)["emms"]]
    assert opened[0]["says"]["text"] == opened[1]["says"]["text"] == {"fi": "Hyvää huomenta! " * 20}
    assert (opened[0]["cards"], opened[0]["says"]["kind"]) == (["000000000000–000000000091"], "forced")
    assert (opened[2]["says"]["position"], len(opened[2]["cards"])) == ("top-left", 2)
    assert (opened[3]["cards"], opened[3]["says"]) == (None, None), "its other parts are not in the file"
    code, out, _ = decode(capsys, file, "--open", "--config", config)
    assert (code, "huomenta!" in out, "top-left" in out) == (0, True, True)


def test_hexadecimal_text_with_comments(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "emms.txt"
    file.write_text("# the first card\r\n" + SECTIONS[0].hex(" ").upper() + "\n\n" + SHARED[0].hex() + " # a group\n")
    found = decoded(capsys, file)
    assert found["form"] == "hexadecimal"
    assert [emm["section"] for emm in found["emms"]] == [SECTIONS[0].hex(), SHARED[0].hex()]


def test_a_transport_stream_whose_cat_names_the_pid(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mux.ts"
    file.write_bytes(STREAM)
    found = decoded(capsys, file)
    assert (found["form"], found["pids"]) == ("transport stream", [EMM_PID])
    assert [emm["section"] for emm in found["emms"]] == [each.hex() for each in SECTIONS]
    assert [emm["times"] for emm in found["emms"]] == [3, 2, 2] + [1] * (len(SECTIONS) - 3)
    assert found["others"] == {"0x80": 1}


def test_a_transport_stream_with_the_pid_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mux.ts"
    file.write_bytes(packets(EMM_PID, SECTIONS) + packets(0x124, SHARED))
    code, _, err = decode(capsys, file)
    assert code == 11
    assert "--pid" in err
    assert len(decoded(capsys, file, "--pid", "0x123")["emms"]) == len(SECTIONS)
    assert len(decoded(capsys, file, "--pid", "291", "--pid", "0x124")["emms"]) == len(SECTIONS + SHARED)


def test_what_a_damaged_stream_lost_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mux.ts"
    stream = packets(EMM_PID, SECTIONS)
    file.write_bytes(stream[:188] + stream[376:] + b"rubbish")
    found = decoded(capsys, file, "--pid", "0x123")
    assert 0 < len(found["emms"]) < len(SECTIONS)
    assert found["damage"] == {"continuity counter jumped": 1, "bytes between packets": 7}


def test_a_faulty_section_does_not_hide_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "emms.bin"
    future = SECTIONS[1][:8] + b"\x03" + SECTIONS[1][9:]
    file.write_bytes(SECTIONS[0] + future + SECTIONS[2])
    code, out, _ = decode(capsys, file, "--json")
    found = json.loads(out)
    assert code == 11
    assert [emm["section"] for emm in found["emms"]] == [SECTIONS[0].hex(), SECTIONS[2].hex()]
    assert found["faults"] == [
        {"section": future.hex(), "times": 1, "reason": "EMM format 3 is unknown; this version reads 1 and 2"}
    ]
    code, out, _ = decode(capsys, file)
    assert code == 11
    assert "EMM format 3 is unknown" in out
    assert "2 EMMs, 2 different; 1 faulty" in out


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "emms.bin"
    file.write_bytes(b"".join(SECTIONS + SHARED))
    code, out, _ = decode(capsys, file)
    assert code == 0
    count = len({*SECTIONS, *SHARED})
    for words in ("card 999999999991", "group 48225308", "all cards", "3 of 3", f": {count} EMMs, {count} different"):
        assert words in out


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SECTIONS[0])))
    assert decoded(capsys, "-")["emms"][0]["card"] == "123456789015"


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (b"", [], "empty"),
        (b"nothing of the kind", [], "neither a transport stream"),
        (SECTIONS[0][:-1], [], "cut short: 34 of 35 bytes"),
        (SECTIONS[0] + b"\x82", [], "cut short: 1 of 3 bytes"),
        (SECTIONS[0], ["--pid", "0x123"], "is for transport streams"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_a_reason(
    content: bytes, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    code, out, err = decode(capsys, file, *arguments)
    assert (code, out) == (11, "")
    assert words in err


@pytest.mark.parametrize("pid", ["0x2000", "8191", "-1", "many"])
def test_pids_that_do_not_exist_are_refused(pid: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(STREAM)
    code, _, err = decode(capsys, file, f"--pid={pid}")
    assert code == 2
    assert "is no PID" in err


@given(st.binary(max_size=400) | st.lists(st.binary(max_size=30), max_size=4).map(STREAM[:376].join))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    try:
        source = open_sections(io.BytesIO(data), ())
        sections = list(source.sections())
    except ProtocolError:
        return
    if source.form is Form.SECTIONS:
        assert b"".join(sections) == data


SETTINGS = """
[node]
state_dir = "{0}"
[mqtt]
host = "localhost"
[keys]
file = "{0}/master.key"
passphrase_file = "{0}/passphrase"
[ca]
ca_system_id = 0x4A75
[[networks]]
id = "south"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keystore, "SCRYPT_N", 16)
    path = tmp_path / "cad.toml"
    path.write_text(SETTINGS.format(tmp_path))
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    (tmp_path / "passphrase").chmod(0o600)
    keystore.create(load(path).keys)
    return path


def test_opened_with_the_key_of_the_settings(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ladder = KeyLadder(keystore.load(load(config).keys))
    sealer = EmmSealer(ladder)
    version = Version(4169, 7)
    windows = (Window(0, 1_804_032_000, 694, 2, (1, 2)), Window(1_801_443_600, 1_804_032_000, 695, 1, (7,)))
    emms = [
        *sealer.unique(42, 1, version, CardContent(suspended=False, windows=windows)),
        *sealer.unique(
            43, 1, version, CardContent(suspended=True, traits=Traits(0x01000000000001D8, parental=18, pin_reset=9))
        ),
        *sealer.group(0, 1, version, [EmmPayload(CardState.ACTIVE, (OpaqueBlock(0x81, b""),))]),
        *sealer.to_all(1, version, [EmmPayload(CardState.ACTIVE)]),
    ]
    file = tmp_path / "emms.bin"
    file.write_bytes(b"".join(emms))
    found = decoded(capsys, file, "--open", "--config", config)
    contents = [emm["content"] for emm in found["emms"]]
    end = "2027-03-03T00:00:00Z"
    assert contents[0] == {
        "state": "active",
        "rights": [
            {"product_id": 1, "start": None, "end": end, "epochs": [694, 695]},
            {"product_id": 2, "start": None, "end": end, "epochs": [694, 695]},
            {"product_id": 7, "start": "2027-02-01T01:00:00Z", "end": end, "epochs": [695]},
        ],
        "receiver": None,
        "parental_level": 0,
        "pin_reset": 0,
        "ignored_blocks": [],
    }
    assert contents[1] == {
        "state": "suspended",
        "rights": [],
        "receiver": "01000000000001D8",
        "parental_level": 18,
        "pin_reset": 9,
        "ignored_blocks": [],
    }
    assert contents[2] == {
        "state": "active",
        "rights": [],
        "receiver": None,
        "parental_level": 0,
        "pin_reset": 0,
        "ignored_blocks": [0x81],
    }
    code, out, _ = decode(capsys, file, "--open", "--config", config)
    assert code == 0
    assert "product 7 2027-02-01T01:00:00Z" in out
    shown = json.dumps(found) + out
    for key in (ladder.product_key(1, 694), ladder.product_key(7, 695), ladder.card_key(42, 1)):
        assert key.hex() not in shown.lower()


def test_emms_of_another_headend_do_not_open(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "emms.bin"
    file.write_bytes(SECTIONS[0])
    code, out, _ = decode(capsys, file, "--open", "--config", config, "--json")
    assert code == 11
    assert [fault["reason"] for fault in json.loads(out)["faults"]] == ["the tag of the EMM does not verify"]
