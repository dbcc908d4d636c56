"""The audit chain (I9): every command and every act on the ledger is a record, and each record seals the one before.

record: one JSON object as text, beginning with its `seq`. mac = HMAC-SHA-256(audit key, mac before ‖ record); 32 zero
bytes stand before the first. What was removed, changed or reordered inside shows by itself; what was cut off at the end
shows against a head (seq, mac) that was kept elsewhere, such as the anchor file.
"""

import hmac
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cad.ledger.errors import AuditBroken
from cad.ledger.model import AuditHead, Order, Refusal, Unreadable
from protocol.portal.codes import Code

START: Final = AuditHead(0, bytes(32))
_CHECK: Final = b"cad audit key check"
ROLLBACK: Final = "rollback"
VERSIONS_MAX: Final = 100
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def seal(key: bytes, before: bytes, record: str) -> bytes:
    """Return the MAC of a record that follows the one with the MAC `before`."""
    return hmac.digest(key, before + record.encode(), "sha256")


def key_check(key: bytes) -> str:
    """Return a text that tells audit keys apart and tells nothing of them."""
    return hmac.digest(key, _CHECK, "sha256")[:8].hex()


def note(seq: int, at: float, kind: str, facts: Mapping[str, Any]) -> str:
    """Spell the record of an act that is no command. Raises ValueError for a fact named like what every record has."""
    if taken := {"seq", "at", "kind"} & facts.keys():
        raise ValueError(f"no fact of an audit record may be called {', '.join(sorted(taken))}")
    return _spell({"seq": seq, "at": round(at, 3), "kind": kind, **facts})


def command_record(seq: int, at: float, order: Order, status: str, code: Code, versions: list[list[int]]) -> str:
    """Spell the record of a command and its answer; `versions`: [address, revision, change_seq] of changed cards.

    Of more than VERSIONS_MAX only the first stand there, and `cards` says how many there were: change_seq runs on.
    """
    command = order.command
    head = _spell(
        {
            "seq": seq,
            "at": round(at, 3),
            "kind": "command",
            "operator": order.operator,
            "resource": command.resource,
            "verb": command.verb,
            "id": command.id,
            "digest": order.digest.hex(),
            "status": status,
            "code": code,
            "cards": len(versions),
            "versions": versions[:VERSIONS_MAX],
            **({} if order.by is None else {"by": order.by}),
        }
    )
    return f'{head[:-1]},"body":{order.body.decode()}}}'


def refusal_record(seq: int, at: float, refused: Refusal | Unreadable) -> str:
    """Spell the record of a message that was not carried out because it could not be read."""
    facts: dict[str, Any] = {
        "operator": refused.operator,
        "resource": refused.resource,
        "verb": refused.verb,
        "id": refused.id,
        "code": refused.code,
    }
    if isinstance(refused, Unreadable):
        return note(seq, at, "unreadable", facts | {"hash": refused.hash, "size": refused.size})
    return note(seq, at, "refused", facts | {"fields": [error.field for error in refused.errors]})


@dataclass(slots=True)
class ChainCheck:
    """Walks the chain from its start. `rolled_back`: the first record that tells of a lost end."""

    key: bytes = field(repr=False)
    head: AuditHead = START
    expected: AuditHead | None = None
    rolled_back: int | None = None

    def take(self, rows: Iterable[tuple[int, str, bytes]]) -> None:
        """Check the next records, in order of seq. Raises AuditBroken at the first that is not right."""
        for seq, record, mac in rows:
            if seq != self.head.seq + 1:
                raise AuditBroken(self.head.seq + 1, f"is missing; the next one there is {seq}")
            if not hmac.compare_digest(seal(self.key, self.head.mac, record), bytes(mac)):
                raise AuditBroken(seq, "was changed, or its place in the chain was")
            if not record.startswith(f'{{"seq":{seq},'):
                raise AuditBroken(seq, "bears another number inside")
            self.head = AuditHead(seq, bytes(mac))
            if self.expected is not None and self.expected.seq == seq:
                self._compare(self.expected)
            if f'"kind":"{ROLLBACK}"' in record[:80]:
                self.rolled_back = self.rolled_back or seq

    def finish(self, *, accept_rollbacks: bool = False) -> AuditHead:
        """Return the head of the whole chain. Raises AuditBroken when the expected head lies beyond it."""
        if self.expected is not None and self.expected.seq > self.head.seq:
            raise AuditBroken(
                self.head.seq + 1,
                f"and all after it are missing: the chain once reached record {self.expected.seq}."
                " Either records were cut off, or an older copy of the ledger was put back",
            )
        if self.rolled_back is not None and not accept_rollbacks:
            raise AuditBroken(
                self.rolled_back,
                "says that records after the one before it had been lost when the daemon started: cut off, or an older"
                " copy of the ledger put back. The chain is whole apart from that",
            )
        return self.head

    def _compare(self, expected: AuditHead) -> None:
        if not hmac.compare_digest(expected.mac, self.head.mac):
            raise AuditBroken(expected.seq, "is not the one that the head kept elsewhere was taken from")


def read_anchor(path: Path) -> AuditHead | None:
    """Read the anchor file; None when there is none. Raises ValueError when it holds something else."""
    try:
        return AuditHead.parse(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None


def write_anchor(path: Path, head: AuditHead) -> None:
    """Replace the anchor file, whole or not at all. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, f"{head.spell()}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)


def _spell(facts: Mapping[str, Any]) -> str:
    return _ENCODER.encode(facts)
