"""A process that holds keys leaves no core behind, and lets no debugger of the same user look into it (I8)."""

import ctypes
import resource
from typing import Final

# <linux/prctl.h>
_PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """From now on a crash writes no core, neither to a file (RLIMIT_CORE) nor to a program of the system (dumpable).

    The second is Linux only, and also keeps other processes of this user from attaching.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
