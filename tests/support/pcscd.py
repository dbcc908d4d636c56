"""A real pcscd of our own, with vpcd's two virtual readers on free ports: never the machine's, and never in its way.

pcscd has its socket compiled in (/run/pcscd), so it is started in a mount namespace in which a directory of ours lies
there; clients find it by PCSCLITE_CSOCK_NAME. Root needs a mount namespace, another user a user namespace as well.
Where the kernel gives neither, `sudo -n` is tried; where that fails too, the test fails and says what to do.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_until

VPCD_DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
READER_NAME = "cad test"
START_S = 20.0
_WAYS = (
    ["unshare", "--mount", "--propagation", "private"],
    ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"],
    ["sudo", "-n", "unshare", "--mount", "--propagation", "private"],
)


class Pcscd:
    """pcscd with two empty virtual readers. The socket's path stays the same through `kill` and `start`."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "run" / "pcscd.comm"
        self.ports = _two_free_ports()
        self.readers = (f"{READER_NAME} 00 00", f"{READER_NAME} 00 01")
        self._run, self._config, self._log = directory / "run", directory / "readers", directory / "log"
        self._way = _way_in()
        self._process: subprocess.Popen[bytes] | None = None
        self._run.mkdir()
        self._config.mkdir()
        (self._config / "vpcd").write_text(
            f'FRIENDLYNAME "{READER_NAME}"\nDEVICENAME /dev/null:{self.ports[0]}\n'
            f"LIBPATH {VPCD_DRIVER}\nCHANNELID {self.ports[0]}\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a client process needs to find this pcscd."""
        return {**os.environ, "PCSCLITE_CSOCK_NAME": str(self.socket)}

    @property
    def running(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it and wait until both readers listen."""
        assert self._process is None
        shell = (
            "PATH=$PATH:/usr/sbin:/sbin; mount -t tmpfs none /run && mkdir /run/pcscd && "
            f"mount --bind {shlex.quote(str(self._run))} /run/pcscd && "
            f"exec pcscd --foreground --info {_options()} --config {shlex.quote(str(self._config))}"
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._way, "sh", "-c", shell], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_until(self._ready, START_S, lambda: f"pcscd to start; its log:\n{self._tail()}")

    def kill(self) -> None:
        """kill -9, as a crash does it: socket and pid file stay behind."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, if it runs."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"pcscd ended by itself; its log:\n{self._tail()}"
        return self.socket.exists() and all(_listens(port) for port in self.ports)

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        assert process is not None
        # With sudo in between it is not the process started here.
        pid = int((self._run / "pcscd.pid").read_text().strip("\n\0"))
        if self._way[0] == "sudo":
            subprocess.run(["sudo", "-n", "kill", f"-{int(number)}", str(pid)], check=True)
        else:
            os.kill(pid, number)
        process.wait(20)
        self._process = None

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


@contextmanager
def running_pcscd() -> Iterator[Pcscd]:
    """A pcscd of our own, to which PC/SC in this process speaks too. Fails the test where it cannot be had.

    Only one for a process: the C library reads PCSCLITE_CSOCK_NAME once and remembers it.
    """
    install = "apt-get install --no-install-recommends pcscd vsmartcard-vpcd (make test does it)"
    search = f"{os.environ.get('PATH', '')}:/usr/sbin"
    assert shutil.which("pcscd", path=search), f"this test needs pcscd: {install}"
    assert VPCD_DRIVER.exists(), f"this test needs the virtual reader vpcd: {install}"
    with tempfile.TemporaryDirectory(prefix="cad-pcscd-") as directory:
        daemon = Pcscd(Path(directory))
        os.environ["PCSCLITE_CSOCK_NAME"] = str(daemon.socket)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.stop()


def _way_in() -> list[str]:
    """The first command that gives us a mount namespace of our own."""
    tried: list[str] = []
    for way in _WAYS:
        if shutil.which(way[0]) is None or (way[0] == "unshare" and "--user" not in way and os.geteuid() != 0):
            continue
        done = subprocess.run([*way, "mount", "-t", "tmpfs", "none", "/run"], capture_output=True, text=True)
        if done.returncode == 0:
            return way
        tried.append(f"{' '.join(way)}: {done.stderr.strip()}")
    raise AssertionError(
        "a pcscd of our own needs a mount namespace; run the tests as root, allow user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1), or give this user sudo without a password. Tried: "
        + "; ".join(tried)
    )


def _options() -> str:
    known = subprocess.run(
        ["pcscd", "--help"], capture_output=True, text=True, env={"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    ).stdout
    return "--disable-polkit" if "--disable-polkit" in known else ""


def _two_free_ports() -> tuple[int, int]:
    """Two neighbouring ports: vpcd's second slot listens next to the first."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("0.0.0.0", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("0.0.0.0", port + 1))
            except (OSError, OverflowError):
                continue
            return port, port + 1
    raise AssertionError("no two neighbouring TCP ports are free")


def _listens(port: int) -> bool:
    """Whether somebody listens on the port; a connection would count as a card put in, so the kernel is asked."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in map(str.split, lines))
