"""The wheel holds every module and every file that ships, and works where nothing of the checkout is."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
PACKAGES = ("cad", "protocol", "cards", "emm", "config")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # setuptools writes beside the sources: it gets a copy of what git knows.
    source = folder / "source"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, (name.decode() for name in names)):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(pip, cwd=source, check=True, capture_output=True)
    (found,) = folder.glob("cad-*.whl")
    return found


def test_every_file_of_the_packages_is_in_it(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    missing = [name for name in tracked.stdout.splitlines() if name not in inside and (ROOT / name).is_file()]
    assert missing == []


def test_it_opens_a_ledger_and_shows_the_settings_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, pathlib; sys.path.insert(0, sys.argv[1]); "
        "from cad.ledger.ledger import Ledger; from cad.ledger.model import Grants; "
        "from cad.frame.clock import SystemClock; "
        "import cad; assert sys.argv[1] in cad.__file__, cad.__file__; "
        "path = pathlib.Path('ledger.db'); "
        "asyncio.run(Ledger.open(path, audit_key=bytes(32), grants=Grants(), clock=SystemClock())); "
        "from config.load import load; load(pathlib.Path(sys.argv[1]) / 'config' / 'cad.example.toml')"
    )
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    subprocess.run([sys.executable, "-c", program, str(unpacked)], cwd=tmp_path, check=True, timeout=60)
