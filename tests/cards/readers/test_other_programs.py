"""Programs that use PC/SC are found in /proc by the library that they have loaded."""

import os
from pathlib import Path

from cards.readers import codes
from cards.readers.programs import other_programs


def process(proc: Path, number: int, name: str, maps: str) -> None:
    (proc / str(number)).mkdir()
    (proc / str(number) / "comm").write_text(f"{name}\n")
    (proc / str(number) / "maps").write_text(maps)


def test_only_other_processes_with_the_library_are_named_in_order(tmp_path: Path) -> None:
    library = "7f00-7f10 r-xp 0 08:01 1 /usr/lib/x86_64-linux-gnu/libpcsclite.so.1.0.0\n"
    process(tmp_path, 900, "pcsc_scan", library)
    process(tmp_path, 30, "scdaemon", f"0-1 r\n{library}")
    process(tmp_path, 31, "bash", "0-1 r-xp /usr/lib/libc.so\n")
    process(tmp_path, os.getpid(), "cad", library)
    (tmp_path / "32").mkdir()  # it has just ended
    (tmp_path / "self").mkdir()
    assert other_programs(tmp_path) == ("pcsc_scan (process 900)", "scdaemon (process 30)")


def test_the_error_names_them(monkeypatch) -> None:
    monkeypatch.setattr(codes, "other_programs", lambda: ("scdaemon (process 30)",))
    error = codes.in_use("connecting to the card", "Reader 0", wanted_alone=True)
    assert "needs it alone (Reader 0)" in error.message
    assert error.advice.endswith("PC/SC is used now by scdaemon (process 30)")
    monkeypatch.setattr(codes, "other_programs", tuple)
    assert codes.in_use("connecting to the card", "Reader 0").advice.endswith("and repeat")
