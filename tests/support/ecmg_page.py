"""The generated parts of docs/ecmg.md. After a change of a table: python -m tests.support.ecmg_page"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from protocol.access_criteria import AccessCriteria, ProductsCriteria, ServiceCriteria, build
from protocol.simulcrypt.ecmg.conversation import (
    CHANNEL_TRANSITIONS,
    OUT_OF_TURN,
    STREAM_TRANSITIONS,
    ChannelState,
    Role,
    StreamState,
)

PAGE = Path(__file__).parents[2] / "docs" / "ecmg.md"
EXAMPLES: tuple[tuple[str, AccessCriteria], ...] = (
    ("service 101 of transport stream 1, original network 0x22F1", ServiceCriteria(0x22F1, 1, 101)),
    ("product 1 on service 101", ProductsCriteria(101, (1,))),
    ("products 1, 2 or 300 on service 101", ProductsCriteria(101, (1, 2, 300))),
)


def states(table: Mapping[Any, Mapping[tuple[Role, Any], Any]], first: Enum, every: Iterable[Enum]) -> str:
    """A state diagram, without the messages that change nothing."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {state.name}: {state.value}" for state in every]
    lines.append(f"    [*] --> {first.name}")
    for state, steps in table.items():
        moves: dict[Enum, list[str]] = {}
        for (role, message), following in steps.items():
            if following is not state:
                moves.setdefault(following, []).append(f"{role.value} {message.message_name}")
        lines += [f"    {state.name} --> {following.name}: {', '.join(why)}" for following, why in moves.items()]
    return "\n".join([*lines, "```"])


def stays(table: Mapping[Any, Mapping[tuple[Role, Any], Any]]) -> str:
    """What may be said in a state without leaving it."""
    lines = ["| state | SCS may send | ECMG may send |", "|---|---|---|"]
    for state, steps in table.items():
        said = {
            role: ", ".join(
                message.message_name for (who, message), after in steps.items() if who is role and after is state
            )
            for role in Role
        }
        if any(said.values()):
            lines.append(f"| {state.value} | {said[Role.SCS]} | {said[Role.ECMG]} |")
    return "\n".join(lines)


def out_of_turn() -> str:
    """The error for each message of an SCS at the wrong time."""
    lines = ["| while | message | error_status |", "|---|---|---|"]
    for (state, message), status in OUT_OF_TURN.items():
        lines.append(f"| {state.value} | {message.message_name} | {status.name.lower()} (0x{status:04X}) |")
    return "\n".join(lines)


def examples() -> str:
    """Access criteria as they are typed into a scrambler."""
    lines = ["| access criteria | for |", "|---|---|"]
    lines += [f"| `{build(criteria).hex().upper()}` | {meaning} |" for meaning, criteria in EXAMPLES]
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "channel states": lambda: states(CHANNEL_TRANSITIONS, ChannelState.CONNECTED, ChannelState),
    "channel stays": lambda: stays(CHANNEL_TRANSITIONS),
    "stream states": lambda: states(STREAM_TRANSITIONS, StreamState.NOT_OPEN, StreamState),
    "stream stays": lambda: stays(STREAM_TRANSITIONS),
    "out of turn": out_of_turn,
    "criteria examples": examples,
}


def generated(page: str) -> str:
    """The page with its generated parts made anew. Raises KeyError for a part that nobody makes."""
    pattern = re.compile(r"(<!-- generated: ([a-z -]+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}{found[3]}", page)


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
