"""`python -m tests.support.portal_limits`: write the table of limits into docs/portal.md, from the models."""

import re
from collections.abc import Iterator
from typing import Any, Final

from cad.ledger.decide.messages import ACTIVE_MAX, LASTS_MAX_S
from cad.ledger.model import DAY_S, LedgerOptions
from cad.orders.intake import CORRELATION_MAX
from cad.resync.desk import KEPT_MAX, KEPT_S
from emm.plan import WINDOWS_MAX
from protocol.portal.commands.messages import TEXT_BYTES_MAX
from protocol.portal.commands.offers import EVENT_MAX_S
from protocol.portal.commands.parsing import PAYLOAD_MAX
from protocol.portal.documents import schemas
from protocol.portal.documents.schemas import Kind
from protocol.portal.fields import ID_PATTERN
from protocol.portal.topics import CLIENT_PATTERN, SLUG_PATTERN
from tests.support.broker import SHIPPED
from tests.support.portal_codes import PAGE

BEGIN: Final = "<!-- limits: written by `python -m tests.support.portal_limits` -->\n"
END: Final = "<!-- /limits -->\n"
PATTERNS: Final = {
    ID_PATTERN: "1 to 128 visible ASCII characters",
    CLIENT_PATTERN: "1 to 64 letters, digits, `.`, `_`, `-`",
    SLUG_PATTERN: "1 to 32 small letters, digits, hyphens; no hyphen first",
    r"^[!-~]{1,64}$": "1 to 64 visible ASCII characters",
    "^[a-z_]{1,32}$": "names of fields",
    "^[0-9][0-9 -]*$": "card numbers",
    r"^[!-~]*$": "",
    r"^[^\x00-\x1f\x7f-\x9f]+$": "",
    r"^[^\x00-\x09\x0b-\x1f\x7f-\x9f]+$": "",
    r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$": "",
}
"""What each pattern means; "" where the length says all that there is to say of a limit."""
SPELT_OUT: Final = {"date-time", "^[0-9][0-9 -]*$", "^[0-9A-Fa-f][0-9A-Fa-f :-]*$"}
"""Times, card and receiver numbers: the page says how they are written."""
SEVERAL: Final = 4
"""From so many commands on a field is told for all that have it."""


def table() -> str:
    """The table as it should stand."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (field, text), commands in _limits().items():
        found.setdefault((text, tuple(commands)), []).append(f"`{field}`")
    rows = [
        f"| {', '.join(fields)} | {'' if len(commands) >= SEVERAL else ', '.join(commands)} | {text} |\n"
        for (text, commands), fields in found.items()
    ]
    return "| what | of | limit |\n|---|---|---|\n" + "".join(_others()) + "".join(rows)


def written() -> str:
    """The table as it stands."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def _others() -> Iterator[str]:
    """Limits that are no property of one field."""
    size = re.search(r"^message_size_limit (\d+)$", (SHIPPED / "mosquitto.conf").read_text(), re.MULTILINE)
    assert size is not None
    for what, limit in (
        ("a command", f"{PAYLOAD_MAX:,} bytes of JSON in UTF-8"),
        ("a message at the broker as it ships", f"{int(size[1]):,} bytes; who sends more is thrown out"),
        ("correlation data", f"{CORRELATION_MAX:,} bytes"),
        ("times", "1970 to 2106, whole seconds"),
        ("an id that was answered", f"remembered for {LedgerOptions().keep_ids_s // DAY_S} days"),
        ("windows of rights on a card", f"{WINDOWS_MAX}"),
        ("an event", f"lasts {EVENT_MAX_S // DAY_S} days at most"),
        ("all texts of a message on the screen", f"{TEXT_BYTES_MAX:,} bytes of UTF-8"),
        ("a message on the screen", f"lasts {LASTS_MAX_S // DAY_S} days at most, and begins within as many"),
        ("messages on the air or ordered for later", f"{ACTIVE_MAX}"),
        ("snapshots", f"the newest {KEPT_MAX}, for {KEPT_S / 60:.0f} minutes"),
    ):
        yield f"| {what} |  | {limit} |\n"


def _limits() -> dict[tuple[str, str], list[str]]:
    """The commands that have a field with that limit."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in schemas.messages():
        if one.kind is Kind.COMMAND:
            document = one.schema()
            for field, text in _of_object(document, document.get("$defs", {}), ""):
                command = "`" + one.name.removeprefix("command.").replace(".", " ") + "`"
                found.setdefault((field, text), []).append(command)
    return found


def _of_object(schema: dict[str, Any], definitions: dict[str, Any], above: str) -> Iterator[tuple[str, str]]:
    for name, field in schema["properties"].items():
        field = _plain(field, definitions)
        if "properties" in field:
            yield from _of_object(field, definitions, f"{above}{name}.")
        elif text := _of_value(field, definitions):
            yield above + name, text


def _plain(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A field's schema without `or null`, and what it refers to."""
    others = [each for each in field.get("anyOf", []) if each != {"type": "null"}]
    if len(others) == 1:
        (field,) = others
    if "$ref" in field:
        field = definitions[field["$ref"].rpartition("/")[2]]
    return field


def _of_value(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    match field:
        case {"format": form} if form in SPELT_OUT:
            return ""
        case {"pattern": pattern} if pattern in SPELT_OUT:
            return ""
        case {"type": "array"}:
            least = field.get("minItems", 0)
            most = field.get("maxItems")
            each = _of_value(_plain(field["items"], definitions), definitions)
            return _joined(f"{least} to {most}" if most else "any number", each)
        case {"patternProperties": kinds}:
            ((_, value),) = kinds.items()
            return _joined(
                f"{field['minProperties']} to {field['maxProperties']} languages", _of_value(value, definitions)
            )
        case {"type": "integer"}:
            most = field["maximum"]
            return f"{field['minimum']:,} to " + ("2^53 - 1" if most == 2**53 - 1 else f"{most:,}")
        case {"type": "string", "maxLength": most}:
            PATTERNS[field["pattern"]]  # every pattern is known
            return f"{field.get('minLength', 0)} to {most} characters"
        case {"pattern": pattern}:
            return PATTERNS[pattern]
    return ""


def _joined(number: str, each: str) -> str:
    return f"{number}; each {each}" if each else number


if __name__ == "__main__":
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(head + BEGIN + table() + END + rest.partition(END)[2])
