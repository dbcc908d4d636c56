"""A portal may install `cad` for its client alone: importing it brings in no part of the daemon."""

import subprocess
import sys

import pytest

DAEMON = {"sqlalchemy", "alembic", "numpy", "construct", "starlette", "uvicorn", "prometheus_client", "emm", "cards"}
LEAVES = {"cad", "cad.frame", "cad.orders", "cad.frame.clock", "cad.errors", "cad.frame.supervisor", "cad.frame.tls"}
PARTS = ("cad.portal", "cad.orders.broker")


@pytest.mark.slow
def test_importing_the_client_imports_no_daemon() -> None:
    program = "import sys, cad.portal.client; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "cad.portal.client" in loaded
    assert not DAEMON & loaded
    ours = {one for one in loaded if one.partition(".")[0] == "cad"}
    assert {one for one in ours if not one.startswith(PARTS)} == LEAVES
