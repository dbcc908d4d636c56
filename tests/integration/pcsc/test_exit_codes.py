"""Every exit code of docs/technician.md comes from a command of a technician; the table holds no other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cad.cli.shell.exit_codes import ExitCode
from tests.support.laptop import TechnicianLaptop, make_card
from tests.support.technician import KAISA

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("pcscd")]

AWAY = "https://127.0.0.1:1"
PAGE = Path(__file__).resolve().parents[3] / "docs" / "technician.md"
SETTINGS = """
[mqtt]
host = "localhost"
[keys]
file = "/nonexistent/master.key"
passphrase_file = "/nonexistent/passphrase"
[ca]
ca_system_id = 0x4ADE
[[networks]]
id = "town"
"""
BROKEN = """
from cad.field.laptop import Laptop
Laptop.waiting = lambda self: 1 // 0
from cad.cli.main import main
main()
"""


async def done(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    return ["card", "explain", "9205"]


async def misspelt(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    return ["card", "verify", "--count", "2"]


async def no_settings(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    return ["card", "verify", "--technician", str(tmp_path / "absent.toml")]


async def blank_card(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    insert(make_card(tmp_path, KAISA))
    return ["card", "verify"]


async def no_network(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    laptop.at(AWAY)
    return ["field", "fetch"]


async def no_key(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    (tmp_path / "cad.toml").write_text(SETTINGS)
    return ["card", "soft", str(tmp_path / "new"), "--create", "100000000008", "--config", str(tmp_path / "cad.toml")]


async def taken_port(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    port = re.search(r":(\d+)", laptop.file.read_text())
    assert port is not None
    return ["card", "gui", "--port", port[1]]


async def unknown_card(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    insert(make_card(tmp_path, KAISA + 1))
    return ["card", "refresh"]


async def no_place_to_write(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    (tmp_path / "laptop").write_text("a file where the folder should be")
    return ["field", "show"]


async def no_card(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    return ["card", "verify"]


async def no_number(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    return ["field", "fetch", "--card", "1"]


async def no_right(laptop: TechnicianLaptop, insert, tmp_path: Path) -> list[str]:
    laptop.belongs_to("ros")
    insert(make_card(tmp_path, KAISA))
    return ["card", "refresh"]


CASES = {
    ExitCode.OK: done,
    ExitCode.USAGE: misspelt,
    ExitCode.SETTINGS: no_settings,
    ExitCode.CHECK_FAILED: blank_card,
    ExitCode.UNREACHABLE: no_network,
    ExitCode.KEYS: no_key,
    ExitCode.BUSY: taken_port,
    ExitCode.NOT_FOUND: unknown_card,
    ExitCode.STATE: no_place_to_write,
    ExitCode.CARD: no_card,
    ExitCode.INPUT: no_number,
    ExitCode.FAILED: no_right,
}
ELSEWHERE = {ExitCode.DEFECT, ExitCode.ABORTED}
"""A defect is shown below, Ctrl-C in test_batch_over_pcsc."""


@pytest.mark.parametrize("code", CASES, ids=lambda code: code.name.lower())
async def test_the_code_comes_with_words_and_without_a_traceback(laptop, insert, tmp_path, code: ExitCode) -> None:
    arguments = await CASES[code](laptop, insert, tmp_path)
    found = await laptop.run(*arguments)
    assert found.returncode == code, found.stdout + found.stderr
    assert found.stdout + found.stderr
    assert "Traceback" not in found.stderr


async def test_a_defect_says_that_it_is_one(laptop) -> None:
    command = [sys.executable, "-c", BROKEN, "field", "show"]
    found = subprocess.run(command, capture_output=True, text=True, env=laptop.environment, timeout=100)
    assert found.returncode == ExitCode.DEFECT
    assert "ZeroDivisionError" in found.stderr


def test_the_page_has_just_these() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Exit codes")[1].split("## JSON")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {*CASES, *ELSEWHERE}
