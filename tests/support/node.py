"""Node.js with the packages that tests/npm/package-lock.json names."""

import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "npm"


def node() -> str:
    """Path of the interpreter."""
    found = shutil.which("node")
    assert found, "node is missing: scripts/setup test installs it"
    assert (FOLDER / "node_modules").is_dir(), "the npm packages are missing: scripts/setup test installs them"
    return found


def run(*arguments: str, given: str = "", timeout_s: float = 60) -> str:
    """Run a script that exits with 0, and return what it prints."""
    done = subprocess.run(
        [node(), *arguments], input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
