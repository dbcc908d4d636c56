"""Without pyscard the door says how to install it, and everything else of the package works."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "smartcard" or name.startswith("smartcard."):
            raise {error}
sys.meta_path.insert(0, Absent())
import cards.software_card, cards.vpcd, cards.session, cards.readers.watch
from cad.cli.main import run
sys.exit(run(["card", "read"]))
"""


def run(error: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT.format(error=error)], capture_output=True, text=True)


@pytest.mark.slow
def test_a_missing_pyscard_is_said_with_how_to_install_it():
    done = run("ModuleNotFoundError(\"No module named 'smartcard'\", name='smartcard')")
    assert done.returncode == 10, done.stderr
    assert "pip install 'cad[pcsc]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_missing_library_under_pyscard_is_told_apart():
    done = run("ImportError('libpcsclite.so.1: cannot open shared object file')")
    assert done.returncode == 10, done.stderr
    assert "apt-get install libpcsclite1" in done.stderr
