"""A real mosquitto with mutual TLS, run with the configuration and the access list that ship."""

import contextlib
import datetime as dt
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SHIPPED = Path(__file__).parents[2] / "config" / "mosquitto"
DAEMON = "_cad"
HOST = "localhost"
FIRST_PORT, PORTS = 10_000, 20_000
"""Below those that Linux gives to outgoing connections; each process begins at another."""


class Authority:
    """A certificate authority in a folder: `issue(name)` writes `name.pem` and `name.key`."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Write a certificate for a common name, good for HOST as well, and its key; return both paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(HOST)])
        certificate = self._builder(subject, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def context(self, name: str) -> ssl.SSLContext:
        """Return what a client of that name connects with."""
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        if not cert_file.exists():
            self.issue(name)
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(cert_file, key_file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
        )


class Mosquitto:
    """One broker on a free port. `kill` is kill -9; `start` again takes up what is on its disk."""

    def __init__(self, folder: Path, authority: Authority, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = authority
        self.port = free_port()
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(**settings)

    def configure(self, *, acl: Path = SHIPPED / "acl", **settings: str) -> None:
        """Write the shipped configuration with this place's paths and port, and other values where given."""
        cert_file, key_file = self.authority.issue("broker")
        here = {
            "listener": f"{self.port} 127.0.0.1",
            "cafile": str(self.authority.ca_file),
            "certfile": str(cert_file),
            "keyfile": str(key_file),
            "acl_file": str(acl),
            "persistence_location": f"{self.folder}/",
        }
        text = (SHIPPED / "mosquitto.conf").read_text()
        for name, value in (here | settings).items():
            text, count = re.subn(rf"(?m)^{name} .*$", f"{name} {value}", text)
            if count == 0:
                raise AssertionError(f"{name} does not stand in the shipped mosquitto.conf")
        # Started by root, mosquitto would give up its rights and could not write below the test's folder.
        (self.folder / "mosquitto.conf").write_text(f"{text}\nuser root\n")

    def start(self) -> None:
        """Start, and wait until it listens."""
        assert self._process is None
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program, "mosquitto is missing: scripts/setup test installs it"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(program), stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"mosquitto ended: {self.log.read_text() if self.log.exists() else ''}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def _command(self, program: str) -> list[str]:
        """The shipped unit's command, with this place's paths and without the change of user."""
        unit = (SHIPPED / "mosquitto.service.conf").read_text()
        *words, script = shlex.split(unit.splitlines()[-1].removeprefix("ExecStart="))
        for there, here in (
            ("/usr/sbin/mosquitto", program),
            ("/etc/mosquitto/mosquitto.conf", str(self.folder / "mosquitto.conf")),
            ("/usr/bin/setpriv --reuid=mosquitto --regid=mosquitto --clear-groups ", ""),
            ("/etc/mosquitto/cad/attempts.py", str(SHIPPED / "attempts.py")),
        ):
            assert there in script, f"{there} does not stand in the shipped mosquitto.service.conf"
            script = script.replace(there, here)
        return [*words, script]

    def attempts(self) -> list[str]:
        """What the broker's log says of attempts so far."""
        return [line for line in self.log.read_text().splitlines() if line.startswith("<4>attempt ")]

    def stop(self) -> None:
        """End it in an orderly way; it saves what it holds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def save(self) -> None:
        """Have it write what it holds to disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)

    def freeze(self) -> None:
        """Have it fall silent without closing anything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Remove what is on its disk."""
        assert self._process is None
        for file in self.folder.glob("mosquitto.db*"):
            file.unlink()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(timeout=10)
            self._process = None


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Mosquitto]:
    """A broker with an authority of its own, as long as the context lasts."""
    broker = Mosquitto(folder / "broker", Authority(folder / "pki"), **settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


_ports = count(FIRST_PORT + os.getpid() * 97 % PORTS)


def free_port() -> int:
    """A TCP port that nobody uses, and that the system gives to no connection until somebody listens there."""
    for number in _ports:
        port = FIRST_PORT + (number - FIRST_PORT) % PORTS
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports are counted without end")
