"""`python -m tests.support.run_order_desk STATE PORT CA CERT KEY`: an order desk in a process of its own."""

import asyncio
import sys
from pathlib import Path

import structlog

from config.settings import MqttSettings, MqttTlsSettings
from tests.support.broker import HOST
from tests.support.order_desk import order_desk


async def main(state: Path, port: int, ca_file: Path, cert_file: Path, key_file: Path) -> None:
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.PrintLoggerFactory(sys.stdout)
    )
    tls = MqttTlsSettings(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
    settings = MqttSettings(tls=tls, host=HOST, port=port, client_id="cad-test")
    async with order_desk(state, settings):
        structlog.get_logger().info("ready")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    state, port, *files = sys.argv[1:]
    asyncio.run(main(Path(state), int(port), *map(Path, files)))
