#!/usr/bin/python3
"""Reads mosquitto's debug log on standard input; says in one line who tried what outside of his own topics.

    <4>attempt operator="kaspnet" client="k-1" publish "cad/v1/karjaa/cmd/card/suspend"

What the broker does at each message and ping is left out, its notices, warnings and errors are passed on. `<4>` is
syslog's priority (warning), as systemd takes it. Needs Python 3.9 and nothing else.

An attempt is: a publication that the access list refuses; a subscription that does not lie in the client's own topics
(mosquitto grants it, and delivers nothing of it); a will outside of them (never published); to connect under a client
id that belonged to another name.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator

NAMES_MAX = 100_000
DAEMON = "_cad"
CHATTER = re.compile(r"(Received|Sending) [A-Z]+ |No will message specified")
CONNECTED = re.compile(r"New client connected from \S+ as (.*) \(p\d, c[01], k\d+, u'(.*)'\)\.$")
WILL = re.compile(r"Will message specified \(\d+ bytes\) \(r[01], q[0-2]\)\.$")
SUBSCRIBES = "Received SUBSCRIBE from "
SUBSCRIPTION = re.compile(r"\t(.*) \(QoS [0-2]\)$")
DENIED = r"Denied PUBLISH from ({id}) \(d[01], q[0-2], r[01], m\d+, '(.*)', \.\.\. \(\d+ bytes\)\)$"
# A client may put into its id or topic what looks like another part of the line: an id that has connected counts.
DENIALS = re.compile(DENIED.format(id=".*")), re.compile(DENIED.format(id=".*?"))


class Attempts:
    """Follows one broker's log. It remembers the name in the certificate of each client id, the newest NAMES_MAX."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._client = ""
        self._doing = ""

    def read(self, lines: Iterable[str]) -> Iterator[str]:
        """Return what is to be logged."""
        for line in lines:
            stamp, colon, text = line.rstrip("\n").partition(": ")
            yield from self._read(text) if colon and stamp.isdigit() else [line.rstrip("\n")]

    def _read(self, text: str) -> Iterator[str]:
        if text.startswith("\t"):
            yield from self._names_topic(text)
        elif text.startswith(SUBSCRIBES):
            self._client, self._doing = text[len(SUBSCRIBES) :], "subscribe"
        elif WILL.match(text):
            self._doing = "will"
        elif CHATTER.match(text):
            self._doing = ""
        elif text.startswith("Denied PUBLISH from "):
            yield self._denied(text)
        else:
            yield text
            if found := CONNECTED.match(text):
                yield from self._connected(*found.groups())

    def _connected(self, client: str, name: str) -> Iterator[str]:
        before = self._names.pop(client, name)
        self._names[client] = name
        if len(self._names) > NAMES_MAX:
            del self._names[next(iter(self._names))]
        self._client, self._doing = client, ""
        if before != name:
            yield self._attempt(client, "client-id-of", before)

    def _names_topic(self, text: str) -> Iterator[str]:
        subscription = SUBSCRIPTION.match(text)
        if self._doing == "subscribe" and subscription and not self._may_hear(subscription[1]):
            yield self._attempt(self._client, "subscribe", subscription[1])
        elif self._doing == "will" and not self._own(text[1:], "cmd/"):
            yield self._attempt(self._client, "will", text[1:])

    def _may_hear(self, topic: str) -> bool:
        if topic.startswith("$share/"):
            topic = topic.split("/", 2)[-1]
        return self._own(topic) or topic.startswith("cad/v1/_node/")

    def _own(self, topic: str, below: str = "") -> bool:
        name = self._names.get(self._client)
        return name == DAEMON or (name is not None and topic.startswith(f"cad/v1/{name}/{below}"))

    def _denied(self, text: str) -> str:
        found = [match for pattern in DENIALS if (match := pattern.match(text))]
        if not found:
            return f"<4>attempt {json.dumps(text)}"
        client, topic = next((match for match in found if match[1] in self._names), found[-1]).groups()
        return self._attempt(client, "publish", topic)

    def _attempt(self, client: str, act: str, topic: str) -> str:
        name = self._names.get(client, "?")
        return f"<4>attempt operator={json.dumps(name)} client={json.dumps(client)} {act} {json.dumps(topic)}"


def main() -> None:
    """Read until the broker has ended."""
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    for line in Attempts().read(sys.stdin):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
