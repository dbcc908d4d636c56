"""Which other programs use PC/SC on this machine, as far as this user may see: Linux, /proc."""

import os
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LIBRARY: Final = b"/libpcsclite"
_SHOWN_MAX: Final = 20


def other_programs(proc: Path = _PROC) -> tuple[str, ...]:
    """The processes but this one that have the PC/SC library loaded, newest first, as `name (process 123)`.

    Which of them holds which card, pcscd tells nobody. Processes of other users are seen by root only.
    """
    found: list[str] = []
    for folder in sorted(proc.glob("[0-9]*"), key=lambda one: int(one.name), reverse=True):
        if folder.name == str(os.getpid()):
            continue
        try:
            if _LIBRARY in (folder / "maps").read_bytes():
                name = (folder / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (process {folder.name})")
        except OSError:  # another user's, or it has ended
            continue
    return tuple(found[:_SHOWN_MAX])
