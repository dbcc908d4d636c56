"""Tell systemd how the daemon is (sd_notify(3)); does nothing when it was not started by systemd."""

import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Final

STATUS_CHARACTERS_MAX: Final = 500
KEPT_MAX: Final = 16


class Notifier:
    """Sends state lines to the socket named by NOTIFY_SOCKET, without ever waiting.

    While its queue is full (10 datagrams by Linux's default), a change of state is kept and sent with the next
    notification, in order; a sign of life or a status line is dropped. So is everything when nobody listens.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with '@' lies in the abstract namespace, where it begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval_s = _watchdog_interval_s(environment)
        self._kept: deque[bytes] = deque(maxlen=KEPT_MAX)

    @property
    def active(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The start, or a reload, is complete."""
        self._change("READY=1", _status(status))

    def reloading(self, monotonic_s: float) -> None:
        """The settings are read again; `ready()` follows."""
        self._change("RELOADING=1", f"MONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def stopping(self, status: str = "") -> None:
        """The orderly stop has begun."""
        self._change("STOPPING=1", _status(status))

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send(_status(text))

    def watchdog(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def _change(self, *lines: str) -> None:
        if self._address:
            self._kept.append(_join(lines))
            self._flush()

    def _send(self, *lines: str) -> None:
        if self._address and self._flush():
            self._hand_over(_join(lines))

    def _flush(self) -> bool:
        """Send what was kept; whether there is room for more."""
        while self._kept:
            if not self._hand_over(self._kept[0]):
                return False
            self._kept.popleft()
        return True

    def _hand_over(self, notification: bytes) -> bool:
        """Return False when it has to be tried again."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto(notification, self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass  # nobody listens
        return True


def _join(lines: tuple[str, ...]) -> bytes:
    return "\n".join(line for line in lines if line).encode()


def _status(text: str) -> str:
    return "STATUS=" + text.replace("\n", " ")[:STATUS_CHARACTERS_MAX] if text else ""


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """Return how often systemd wants to hear from this process at the latest (sd_watchdog_enabled(3)), or None."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1e6
