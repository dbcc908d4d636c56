"""`cad check --deep`: everything around the daemon that has to be right, each with what to do when it is not.

Where a daemon runs on the state directory already, what only one process may touch is asked of it: the ledger, and the
multiplexers, to which a second connection is harmful (it purges their queue).
"""

import ctypes
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography.x509 import load_pem_x509_certificate

from cad import keystore
from cad.ecmg.services import criteria_of
from cad.errors import CadError
from cad.frame.clock import SystemClock, spell
from cad.frame.lifecycle import StateLock, holder_of
from cad.ledger.store import FILE_NAME
from cad.orders import broker_probe
from cad.technicians.server import server_context
from cad.ts_out.sender import Destination, open_sender
from config import crosscheck
from config.outlets import MultiplexSettings, StreamSettings
from config.settings import Settings
from config.technicians import TechniciansSettings

CONNECT_TIMEOUT_S: Final = 5.0
FREE_BYTES_MIN: Final = 100 * 1024 * 1024
FREE_BYTES_LOW: Final = 1024 * 1024 * 1024
CERTIFICATE_DAYS_LOW: Final = 30
STA_UNSYNC: Final = 0x0040  # adjtimex(2)

AskDaemon = Callable[[str], dict[str, Any]]


class Verdict(StrEnum):
    """How a check came out. LOOK does not make the command fail."""

    OK = "ok"
    LOOK = "LOOK"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    name: str
    verdict: Verdict
    text: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return what --json shows."""
        return {name: str(value) for name, value in asdict(self).items()}


def shallow(settings: Settings) -> Iterator[Finding]:
    """Yield what the settings alone tell."""
    yield Finding("settings", Verdict.OK, _extent(settings))
    for remark in crosscheck.remarks(settings):
        yield Finding("settings", Verdict.LOOK, str(remark), "mend it if it was not meant so")
    yield from scrambler_findings(settings)


def deep(settings: Settings, ask: AskDaemon) -> Iterator[Finding]:
    """Yield the outcome of every check, one after the other. `ask(path)` asks the daemon over its control socket."""
    state_dir = settings.node.state_dir
    holder = holder_of(state_dir)
    if holder is None:
        yield Finding("daemon", Verdict.OK, "does not run; everything is checked from here")
    else:
        yield Finding("daemon", Verdict.OK, f"runs as process {holder}; ledger and multiplexers are asked of it")
    yield check_state_dir(state_dir)
    yield check_disk(state_dir)
    yield check_clock()
    yield check_keys(settings)
    if settings.technicians is not None:
        yield check_technicians(settings.technicians)
    if holder is None:
        yield check_ledger(state_dir)
    yield broker_finding(settings)
    if holder is None:
        for network in settings.networks:
            for mux in network.multiplexes:
                yield check_multiplex(mux)
                if mux.at_standby is not None:
                    yield check_multiplex(mux.at_standby, "standby of multiplex")
            for stream in network.streams:
                yield check_stream(stream)
    else:
        yield from ask_daemon(ask)


def scrambler_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what to enter in the scramblers."""
    if settings.ecmg is None:
        return
    text = f"ECMs at {settings.ecmg.listen} for Super_CAS_id 0x{settings.ecmg.super_cas_id:08X}"
    yield Finding("scramblers", Verdict.OK, text)
    for network in settings.networks:
        for service, criteria in criteria_of(network):
            yield Finding(f"service {service}", Verdict.OK, f"access criteria {criteria.hex().upper()}")


def check_technicians(settings: TechniciansSettings) -> Finding:
    """Whether the certificate that technicians are shown can be used, and for how long."""
    name = "technicians"
    try:
        server_context(settings)
        certificate = load_pem_x509_certificate(settings.cert_file.read_bytes())
    except (CadError, OSError, ValueError) as error:
        return Finding(
            name, Verdict.FAIL, str(error), "write PEM files that this user may read; the key without password"
        )
    ends = certificate.not_valid_after_utc
    days = (ends.timestamp() - SystemClock().now()) / 86_400
    text = (
        f"{len(settings.people)} people at {settings.listen}; the certificate is good until {spell(ends.timestamp())}"
    )
    if days <= 0:
        return Finding(name, Verdict.FAIL, text, "it has expired: no laptop connects. Put a new one there and restart")
    if days < CERTIFICATE_DAYS_LOW:
        return Finding(name, Verdict.LOOK, text, "put a new one there and restart before it ends")
    return Finding(name, Verdict.OK, text)


def check_state_dir(path: Path) -> Finding:
    """Whether the directory is there, ours, writable and closed to others."""
    name = "state directory"
    try:
        status = path.stat()
    except OSError as error:
        return Finding(
            name, Verdict.FAIL, f"{path}: {error.strerror}", f"make it: install -d -m 0700 -o cad -g cad {path}"
        )
    if status.st_uid != os.geteuid():
        text = f"{path} belongs to user {status.st_uid}, this check runs as {os.geteuid()}"
        return Finding(
            name, Verdict.FAIL, text, "run the check as the user of the daemon: sudo -u cad cad check --deep"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(name, Verdict.FAIL, f"{path} is not writable", f"chmod 700 {path}")
    if status.st_mode & 0o007:
        return Finding(name, Verdict.LOOK, f"{path} is open to everybody", f"chmod o-rwx {path}")
    return Finding(name, Verdict.OK, f"{path} is there and writable")


def check_disk(path: Path) -> Finding:
    """Whether there is room for the ledger to grow."""
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return Finding("disk", Verdict.FAIL, f"{path}: {error.strerror}", "see the state directory")
    text = f"{free / 2**20:,.0f} MiB free at {path}"
    if free < FREE_BYTES_MIN:
        return Finding("disk", Verdict.FAIL, text, "make room: the ledger stops taking orders when the disk is full")
    if free < FREE_BYTES_LOW:
        return Finding("disk", Verdict.LOOK, text, "make room soon")
    return Finding("disk", Verdict.OK, text)


def check_clock(clock: SystemClock | None = None, is_synchronised: Callable[[], bool] | None = None) -> Finding:
    """Whether the machine's clock can be right, and whether something keeps it right."""
    clock = clock or SystemClock()
    at = spell(clock.now())
    if clock.suspect:
        return Finding("clock", Verdict.FAIL, clock.suspect, "set the clock: timedatectl set-ntp true")
    if not (is_synchronised or _is_synchronised)():
        text = f"{at}, but nothing keeps the machine's clock right"
        return Finding("clock", Verdict.LOOK, text, "run chrony or systemd-timesyncd; in a container: on its host")
    return Finding("clock", Verdict.OK, f"{at}, synchronised")


def check_keys(settings: Settings) -> Finding:
    """Whether the master key can be opened."""
    try:
        fingerprint = keystore.fingerprint(keystore.load(settings.keys))
    except CadError as error:
        return Finding("master key", Verdict.FAIL, str(error), "see docs/operator.md, the master key")
    return Finding("master key", Verdict.OK, f"{keystore.place(settings.keys)} opens; fingerprint {fingerprint}")


def check_ledger(state_dir: Path) -> Finding:
    """Whether the ledger's file is whole; reads only, and keeps a daemon from starting meanwhile."""
    path = state_dir / FILE_NAME
    name = "ledger"
    if not path.exists():
        return Finding(name, Verdict.OK, f"{path} does not exist yet; the daemon makes it when it first starts")
    if path.stat().st_uid != os.geteuid():
        return Finding(name, Verdict.FAIL, f"{path} belongs to another user", "run the check as the user of the daemon")
    try:
        with StateLock(state_dir):
            verdict = _integrity(path)
    except CadError as error:
        return Finding(name, Verdict.FAIL, str(error), "run the check again")
    except sqlite3.Error as error:
        verdict = str(error)
    if verdict != "ok":
        return Finding(name, Verdict.FAIL, f"{path}: {verdict}", "do not start the daemon on it; restore your backup")
    return Finding(name, Verdict.OK, f"{path} is whole ({path.stat().st_size / 2**20:,.1f} MiB)")


def _integrity(path: Path) -> str:
    """Return SQLite's own verdict, 'ok' or what is wrong, and leave no trace. The caller holds the state directory."""
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    # A killed daemon leaves its log, which belongs to the content; to read it SQLite needs an index beside it.
    options = "mode=ro" if log.exists() else "immutable=1"
    had_index = index.exists()
    connection = sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, timeout=1)
    try:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    finally:
        connection.close()
        if not had_index:
            index.unlink(missing_ok=True)
    return str(verdict)


def broker_finding(settings: Settings) -> Finding:
    """Whether the broker takes us in, over TLS where the settings say so."""
    mqtt = settings.mqtt
    where = f"{mqtt.host}:{mqtt.port}{' with TLS' if mqtt.tls else ''}"
    problem = broker_probe.probe(mqtt, CONNECT_TIMEOUT_S)
    if problem is not None:
        return Finding("broker", Verdict.FAIL, f"{where}: {problem.text}", problem.advice)
    return Finding("broker", Verdict.OK, f"{where} takes us in with MQTT 5")


def check_multiplex(mux: MultiplexSettings, what: str = "multiplex") -> Finding:
    """Whether the multiplexer's port answers. Only when no daemon is connected to it."""
    name, where = f"{what} {mux.id}", f"{mux.host}:{mux.port}"
    try:
        socket.create_connection((mux.host, mux.port), CONNECT_TIMEOUT_S).close()
    except socket.gaierror as error:
        return Finding(name, Verdict.FAIL, f"{where}: {error.strerror}", "correct host, or the name service")
    except TimeoutError:
        return Finding(name, Verdict.FAIL, f"{where}: no answer", "look at cabling, routes and firewalls on the way")
    except ConnectionRefusedError:
        advice = "the machine answers, the port does not: correct port, or switch the EMMG interface on"
        return Finding(name, Verdict.FAIL, f"{where}: connection refused", advice)
    except OSError as error:
        return Finding(name, Verdict.FAIL, f"{where}: {error.strerror}", "look at address and network")
    return Finding(name, Verdict.OK, f"{where} answers")


def check_stream(stream: StreamSettings) -> Finding:
    """Whether this machine can send to where the stream goes; nothing is sent, and nobody there is asked."""
    name, where = f"stream {stream.id}", f"{stream.host}:{stream.port}"
    to = Destination(stream.host, stream.port, stream.interface, stream.multicast_ttl, stream.dscp)
    try:
        open_sender(to).close()
    except socket.gaierror as error:
        return Finding(name, Verdict.FAIL, f"{where}: {error.strerror}", "correct host, or the name service")
    except OSError as error:
        return Finding(name, Verdict.FAIL, f"{where}: {error.strerror}", "look at interface and routes")
    return Finding(name, Verdict.OK, f"{where} can be sent to; cad probe says what is received")


def ask_daemon(ask: AskDaemon) -> Iterator[Finding]:
    """Yield what the running daemon says of its ledger, and its conditions."""
    try:
        checks = ask("/v1/check")["checks"]
        conditions = ask("/v1/status")["health"]["conditions"]
    except CadError as error:
        yield Finding("daemon", Verdict.FAIL, str(error), "look at its log: journalctl -u cad")
        return
    for one in checks:
        verdict = Verdict.OK if one["ok"] else Verdict.FAIL
        yield Finding(f"daemon: {one['name']}", verdict, one["text"], one.get("advice", ""))
    for one in conditions:
        failing = Verdict.LOOK if one["level"] == "warning" and one["name"] != "link" else Verdict.FAIL
        name = f"daemon: {one['name']} {one['subject']}".strip()
        yield Finding(name, Verdict.OK if one["ok"] else failing, one["text"], one["advice"])


def _extent(settings: Settings) -> str:
    counts = {
        "networks": len(settings.networks),
        "multiplexes": sum(len(network.multiplexes) for network in settings.networks),
        "streams": sum(len(network.streams) for network in settings.networks),
        "services": sum(len(network.services) for network in settings.networks),
        "products": sum(len(network.products) for network in settings.networks),
        "operators": len(settings.operators),
    }
    if streams := sum(len(network.streams) for network in settings.networks):
        counts["streams"] = streams
    return "can be used: " + ", ".join(f"{name} {count}" for name, count in counts.items())


def _is_synchronised() -> bool:
    """Ask the kernel whether something disciplines its clock (adjtimex(2), reading only)."""
    timex = (ctypes.c_long * 64)()  # struct timex has 208 bytes; modes = 0 reads
    state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    status = ctypes.c_int.from_buffer(timex, 5 * ctypes.sizeof(ctypes.c_long)).value
    return state >= 0 and not status & STA_UNSYNC
