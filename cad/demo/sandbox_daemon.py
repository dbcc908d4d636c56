"""`python -m cad.demo.sandbox_daemon CONFIG CLOCK`: the daemon as it is, with the sandbox's clock."""

import sys
from pathlib import Path

from cad.app import serve
from cad.demo.sandbox_clock import SandboxClock
from cad.frame import logs
from config import load

if __name__ == "__main__":
    config, clock = map(Path, sys.argv[1:])
    settings = load.load(config)
    logs.configure(settings.log.level, settings.log.format)
    sys.exit(serve(settings, config, SandboxClock(clock)))
