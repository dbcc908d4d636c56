"""Real tokens of SoftHSM2 in a directory of their own."""

import os
import shutil
import subprocess
from pathlib import Path

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN, SO_PIN = "canary-pin-4711", "officer-0815"


class SoftHsm:
    """A directory of tokens. Processes started with `environment` see them."""

    def __init__(self, folder: Path) -> None:
        install = "apt-get install softhsm2 (make test does it)"
        assert shutil.which("softhsm2-util"), f"this test needs SoftHSM: {install}"
        assert MODULE.exists(), f"this test needs SoftHSM: {install}"
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self._config = folder / "softhsm2.conf"
        self._config.write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SOFTHSM2_CONF": str(self._config)}

    def make(self, label: str) -> None:
        """Initialise a token."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]
        subprocess.run(command, check=True, capture_output=True, env=self.environment)
