"""A portal may install `cad` for its client alone: importing it brings in no part of the daemon."""

import subprocess
import sys

DAEMON = {"sqlalchemy", "alembic", "numpy", "construct", "starlette", "uvicorn", "prometheus_client", "emm", "cards"}
OURS = {
    "cad",
    "cad.broker",
    "cad.broker_faults",
    "cad.clock",
    "cad.errors",
    "cad.portal",
    "cad.supervisor",
    "cad.tls",
}


def test_importing_the_client_imports_no_daemon() -> None:
    program = "import sys, cad.portal.client; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cad.portal.client" in loaded
    assert not DAEMON & loaded
    assert {one for one in loaded if one.partition(".")[0] == "cad" and not one.startswith("cad.portal.")} == OURS
