"""A technician's laptop as a process: its settings beside a headend's port, and the `cad` command on a real pcscd."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cards.memory.contents import CardKeys
from cards.software_card import SoftwareCard
from emm.keys import KeyLadder
from tests.support.cards import LADDER
from tests.support.technician import FieldHeadend

CAD = [sys.executable, "-c", "from cad.cli.main import main; main()"]
FILE = """
headend = "{url}"
ca_file = "{pki}/ca.pem"
cert_file = "{pki}/{who}.pem"
key_file = "{pki}/{who}.key"
state_dir = "{folder}/laptop"
"""


class TechnicianLaptop:
    """`run` gives a finished command, `serving` one that goes on."""

    def __init__(self, headend: FieldHeadend, folder: Path, environment: dict[str, str], who: str = "anna") -> None:
        self.folder = folder
        self.file = folder / "technician.toml"
        self._environment = environment
        self._headend = headend
        self._pki = headend.authority.folder
        headend.authority.context(who)
        self.at(headend.url, who)

    def at(self, url: str, who: str = "anna") -> None:
        """Write the settings: which headend, and who asks it."""
        self.file.write_text(FILE.format(url=url, pki=self._pki, who=who, folder=self.folder))

    def belongs_to(self, who: str) -> None:
        """Give it to another person, with his certificate."""
        self._headend.authority.context(who)
        self.at(self._headend.url, who)

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        return {
            **os.environ,
            **self._environment,
            "TZ": "UTC",
            "CAD_TECHNICIAN": str(self.file),
            "PYTHONUNBUFFERED": "1",
        }

    async def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end."""
        return await asyncio.to_thread(
            subprocess.run,
            [*CAD, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=100,
            check=False,
        )

    @asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator["subprocess.Popen[str]"]:
        """A command that runs until the end of the block."""
        process = subprocess.Popen(
            [*CAD, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            await asyncio.to_thread(process.communicate)


def make_card(folder: Path, address: int, ladder: KeyLadder = LADDER) -> SoftwareCard:
    """A new card with the keys that the headend with this ladder uses for it."""
    return SoftwareCard.create(folder / f"card-{address}-{id(ladder)}", address, CardKeys.derive(ladder, address))
