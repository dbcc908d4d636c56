"""The generated parts of docs/simulcrypt.md. After a change of a table: python -m tests.support.simulcrypt_page"""

import re
from collections.abc import Callable
from pathlib import Path

from protocol.simulcrypt.conversation import TRANSITIONS, Role, State
from protocol.simulcrypt.ecmg_scs import ECMG_SCS
from protocol.simulcrypt.emmg_mux import EMMG_MUX, ErrorStatus
from protocol.simulcrypt.error_advice import ADVICE
from protocol.simulcrypt.schema import Interface, Use

PAGE = Path(__file__).parents[2] / "docs" / "simulcrypt.md"


def parameter(use: Use, versions: frozenset[int]) -> str:
    """One parameter as it stands in the table of messages: name, count, versions."""
    mandatory = use.mandatory_in & versions
    count = f"{1 if mandatory == versions else 0}..n" if use.at_most > 1 else "" if mandatory == versions else "0..1"
    if mandatory and mandatory != versions:
        count = f"0..1, mandatory in {', '.join(map(str, sorted(mandatory)))}"
    return f"{use.parameter.name}{f' ({count})' if count else ''}"


def messages(interface: Interface) -> str:
    """The messages of an interface and their parameters."""
    lines = ["| type | message | parameters |", "|---|---|---|"]
    for declared in interface.messages.values():
        uses = ", ".join(parameter(use, interface.versions) for use in declared.uses)
        lines.append(f"| 0x{declared.message_type:04X} | {declared.message_name} | {uses} |")
    return "\n".join(lines)


def parameters(interface: Interface) -> str:
    """The parameters of an interface."""
    known = {use.parameter.parameter_type: use.parameter for one in interface.messages.values() for use in one.uses}
    lines = ["| type | parameter | bytes | values |", "|---|---|---|---|"]
    for number, one in sorted(known.items()):
        values = "" if one.values is None else ", ".join(map(str, sorted(one.values)))
        lines.append(f"| 0x{number:04X} | {one.name} | {'any' if one.size is None else one.size} | {values} |")
    return "\n".join(lines)


def errors() -> str:
    """What each error_status of EMMG⇔MUX means for the operator."""
    lines = ["| error_status | name | what to do |", "|---|---|---|"]
    lines += [f"| 0x{status:04X} | {status.name.lower()} | {ADVICE[status]} |" for status in ErrorStatus]
    return "\n".join(lines)


def states() -> str:
    """The state diagram, without the messages that change nothing."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {state.name}: {state.value}" for state in State]
    lines.append(f"    [*] --> {State.CONNECTED.name}")
    for state, steps in TRANSITIONS.items():
        moves: dict[State, list[str]] = {}
        for (role, message), following in steps.items():
            if following is not state:
                moves.setdefault(following, []).append(f"{role.value} {message.message_name}")
        lines += [f"    {state.name} --> {following.name}: {', '.join(why)}" for following, why in moves.items()]
    lines += [f"    {State.CLOSED.name} --> [*]", "```"]
    return "\n".join(lines)


def stays() -> str:
    """What may be said in a state without leaving it."""
    lines = ["| state | EMMG may send | MUX may send |", "|---|---|---|"]
    for state, steps in TRANSITIONS.items():
        said = {
            role: ", ".join(
                message.message_name for (who, message), after in steps.items() if who is role and after is state
            )
            for role in Role
        }
        if any(said.values()):
            lines.append(f"| {state.value} | {said[Role.EMMG]} | {said[Role.MUX]} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "emmg-mux messages": lambda: messages(EMMG_MUX),
    "emmg-mux parameters": lambda: parameters(EMMG_MUX),
    "emmg-mux errors": errors,
    "emmg-mux states": states,
    "emmg-mux stays": stays,
    "ecmg-scs messages": lambda: messages(ECMG_SCS),
    "ecmg-scs parameters": lambda: parameters(ECMG_SCS),
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
