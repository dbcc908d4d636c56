"""A receiver nobody here wrote: tsdecrypt, with `cad monitor-camd` as card server, or with constant control words."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "monitor"
START_S = 20.0


@contextmanager
def monitor_camd(folder: Path, log: Path, reader: str, ca_system_id: int) -> Iterator[tuple[int, str]]:
    """`cad monitor-camd` on the card in a reader: its port and the password, which lies in `folder`."""
    password = secrets.token_hex(16)
    file = folder / "password"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(password + "\n")
    options = {"reader": reader, "password-file": file, "user": USER, "port": 0, "ca-system-id": f"{ca_system_id:#x}"}
    command = [sys.executable, "-m", "cad", "monitor-camd", "--json"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, f"cad monitor-camd says {line!r}; its log: {log.read_text()}"
        yield int(found[1]), password
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
        process.stdout.close()
    assert process.returncode == 0, f"cad monitor-camd ended with {process.returncode}: {log.read_text()}"


def watch(
    on_air: Path, received: Path, service_id: int, ca_system_id: int, camd: tuple[int, str], emms: bool = True
) -> str:
    """Have tsdecrypt watch a recording of the air and write what it descrambles. Returns what it says.

    From a file it waits for each answer before it goes on, so that what it gets is always the same. `camd`: port and
    password. `emms`: hand EMMs over too; tsdecrypt 10.0 then takes packets of every PID for EMMs, and changes byte 4 of
    about one in a thousand (where it takes a pointer_field to be) before it descrambles them.
    """
    port, password = camd
    return _tsdecrypt(
        {
            "input": f"file://{on_air}",
            "output": f"file://{received}",
            "input-service": str(service_id),
            "ca-system": "CONAX",
            "caid": f"{ca_system_id:#06x}",
            "camd-proto": "CS378X",
            "camd-server": f"127.0.0.1:{port}",
            "camd-user": USER,
            "camd-pass": password,
        },
        # Without this it would log control words.
        ["--ecm-no-log", *(["--emm"] if emms else [])],
    )


def descramble_with(words: bytes, scrambled: Path, received: Path) -> None:
    """Have tsdecrypt descramble a file with a constant even and odd control word, every PID passed on."""
    options = {"input": f"file://{scrambled}", "output": f"file://{received}", "const-cw": words.hex()}
    _tsdecrypt(options, ["--no-output-filter"])


def _tsdecrypt(options: dict[str, str], flags: list[str]) -> str:
    program = shutil.which("tsdecrypt")
    assert program, "tsdecrypt is missing: apt-get install tsdecrypt (make demo-tv and make test do it)"
    command = [program, *flags]
    for name, value in options.items():
        command += [f"--{name}", value]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"tsdecrypt ended with {done.returncode}: {done.stderr}"
    return done.stderr
