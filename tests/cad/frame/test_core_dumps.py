"""A process that has opened the master key leaves no core."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CRASH = """
import os, sys
from cad import keystore
from config.settings import KeysSettings
from pathlib import Path
settings = KeysSettings(file=Path.cwd() / "master.key", passphrase_file=Path.cwd() / "passphrase")
keystore.{verb}(settings)
import ctypes
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)  # PR_GET_DUMPABLE
os.abort()
"""


def cores_allowed() -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.mark.slow
def test_a_crash_after_the_key_was_made_or_opened_leaves_no_core(tmp_path: Path) -> None:
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    before = {"passphrase"}
    for verb in ("create", "load"):
        process = subprocess.Popen(
            [sys.executable, "-c", CRASH.format(verb=verb)],
            stdout=subprocess.PIPE,
            cwd=tmp_path,
            preexec_fn=cores_allowed,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.read() == b"0\n"
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -signal.SIGABRT
        assert os.WTERMSIG(status) == signal.SIGABRT
        assert not os.WCOREDUMP(status)
        assert {path.name for path in tmp_path.iterdir()} == before | {"master.key"}
