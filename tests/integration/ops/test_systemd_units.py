"""systemd's own tools agree with the unit, sysusers and tmpfiles files; the daemon is well locked in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

UNIT = Path("systemd/cad.service")
EXPOSURE_MAX = 1.5


def unit_for_here(tmp_path: Path) -> Path:
    """Return the unit with commands and files that exist on this machine, else unchanged."""
    text = UNIT.read_text()
    changed = text.replace("/opt/cad/bin/cad", str(Path(sys.executable).with_name("cad")))
    assert changed != text
    path = tmp_path / "cad.service"
    path.write_text(changed)
    return path


def test_systemd_knows_every_key_of_the_unit(tmp_path: Path) -> None:
    # The exit code is 0 on unknown keys as well: what counts is that nothing at all is said.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit_for_here(tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_systemd_says_so_when_a_key_is_unknown(tmp_path: Path) -> None:
    unit = unit_for_here(tmp_path)
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "ProtectHouse" in done.stderr


def test_the_exposure_is_low() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r"Overall exposure level for cad\.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= EXPOSURE_MAX


def test_keys_reach_neither_core_dump_nor_swap() -> None:
    lines = UNIT.read_text().splitlines()
    assert "LimitCORE=0" in lines
    assert "MemorySwapMax=0" in lines
    assert "Type=notify" in lines
    assert any(line.startswith("WatchdogSec=") for line in lines)


def test_the_user_can_be_made(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-sysusers", "--dry-run", f"--root={tmp_path}", "-"],
        input=Path("systemd/cad.sysusers").read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cad" in done.stdout + done.stderr


def test_the_directories_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    user, group = os.getuid(), os.getgid()
    (tmp_path / "etc/passwd").write_text(f"root:x:{user}:{group}::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text(f"root:x:{group}:\ncad:x:{group}:\n")
    rules = tmp_path / "cad.conf"
    rules.write_text(Path("systemd/cad.tmpfiles").read_text())
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(rules)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    modes = {name: (tmp_path / "etc/cad" / name).stat().st_mode & 0o777 for name in (".", "credentials", "tls")}
    assert modes == {".": 0o750, "credentials": 0o700, "tls": 0o750}


def test_the_brokers_unit_takes_the_drop_in(tmp_path: Path) -> None:
    """Debian's own unit with the shipped drop-in: one command, nothing that systemd does not understand."""
    unit = tmp_path / "mosquitto.service"
    unit.write_text(Path("/lib/systemd/system/mosquitto.service").read_text())
    dropin = tmp_path / "mosquitto.service.d" / "cad.conf"
    dropin.parent.mkdir()
    dropin.write_text(Path("config/mosquitto/mosquitto.service.conf").read_text())
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    dropin.write_text(dropin.read_text().replace("/bin/bash", "/bin/bush"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "/bin/bush" in done.stderr, "the drop-in is read"
