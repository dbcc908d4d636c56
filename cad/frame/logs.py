"""Structured logs: one line an event, JSON for machines or aligned for people, without secrets (I8)."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED: Final = "[redacted]"
SECRET_FIELDS: Final = re.compile(
    r"pass(?:word|phrase|wd)(?!_file)|secret|(^|_)(key|keys|pin|cw|control_words?)$|token", re.IGNORECASE
)
OPEN_FIELDS: Final = re.compile(r"(^|_)(id|ids|command|hash|sha256|fingerprint|correlation)$", re.IGNORECASE)
# What keys look like when something prints them all the same: 16 bytes of hex or more, byte literals, PEM.
SECRET_TEXT: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{2}[ :]?){16,}(?![0-9A-Za-z])"
    r"|\bb'(?:[^'\\]|\\.)*'|\bb\"(?:[^\"\\]|\\.)*\""
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
DEPTH_MAX: Final = 6
FIRST_FIELDS: Final = ("at", "level", "event")
NOISY: Final = ("uvicorn", "httpx", "httpcore", "aiosqlite", "mqtt", "asyncio", "alembic.runtime.plugins")


def configure(level: str = "info", form: str = "json", stream: TextIO | None = None) -> None:
    """Send everything, the libraries' logs included, to `stream` (standard error). `form` is 'json' or 'console'."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        redact,
        _most_telling_first,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    last: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty(), pad_event_to=32)
    )
    handler = logging.StreamHandler(stream) if stream is not None else _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is at the moment of writing."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        return


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank everything that could be a secret. The second line of defence: the first is not to log it."""
    return {name: _clean(name, value, 0) for name, value in event.items()}


def redact_text(text: str) -> str:
    """The text with everything blanked that looks like a secret: for what does not go through the log."""
    return SECRET_TEXT.sub(REDACTED, text)


def _most_telling_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**{name: event[name] for name in FIRST_FIELDS if name in event}, **event}


def _clean(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, bool | int | float) or value is None or name.startswith("_"):
        return value
    if SECRET_FIELDS.search(name):
        return REDACTED
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {str(k): _clean(str(k), v, depth + 1) for k, v in value.items()} if depth < DEPTH_MAX else REDACTED
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, item, depth + 1) for item in value] if depth < DEPTH_MAX else REDACTED
    text = value if isinstance(value, str) else str(value)
    return text if OPEN_FIELDS.search(name) else redact_text(text)
