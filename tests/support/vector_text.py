"""How the published vectors stand in docs/emm.md and docs/ecm.md: the text of each, from its JSON."""

from typing import Any


def keys_text(vectors: dict[str, Any]) -> list[str]:
    """The blocks of keys.json."""
    lines = [_line("master key", vectors["master_key"])]
    for each in vectors["card_keys"]:
        lines.append(_line(f"card {each['address']:011d} key_version {each['key_version']}", each["key"]))
    for each in vectors["group_keys"]:
        lines.append(_line(f"group {each['group']} key_version {each['key_version']}", each["key"]))
    for each in vectors["global_keys"]:
        lines.append(_line(f"global key_version {each['key_version']}", each["key"]))
    for each in vectors["product_keys"]:
        lines.append(_line(f"product {each['product_id']} epoch {each['epoch']}", each["key"]))
    for each in vectors["pairing_keys"]:
        lines.append(_line(f"receiver {each['receiver']}", each["key"]))
    for each in vectors["pair_keys"]:
        lines.append(_line(f"{each['receiver']} with {each['address']:011d}", each["key"]))
    lines.append(_line("audit", vectors["audit_key"]))
    return ["\n".join(lines)]


def emm_text(vectors: dict[str, Any]) -> list[str]:
    """The blocks of emm.json."""
    return [_unique(each) for each in vectors["unique"]] + [_shared(each) for each in vectors["shared"]]


def notices_text(vectors: dict[str, Any]) -> list[str]:
    """The blocks of notices.json."""
    return [_notice(each) for each in vectors["notices"]]


def ecm_text(vectors: dict[str, Any]) -> list[str]:
    """The blocks of ecm.json."""
    return [_ecm(each) for each in vectors["ecms"]]


def _unique(vector: dict[str, Any]) -> str:
    lines = [
        f"{vector['name']}: {vector['about']}",
        (
            f"card {vector['address']:011d} key_version {vector['key_version']} "
            f"period {vector['period']} revision {vector['revision']}"
        ),
    ]
    for part, (payload, section) in enumerate(zip(vector["payloads"], vector["sections"], strict=True)):
        number = f" {part} of {len(vector['sections']) - 1}" if len(vector["sections"]) > 1 else ""
        lines += [f"payload{number}", *_hex(payload), f"section{number}", *_hex(section)]
    return "\n".join(lines)


def _shared(vector: dict[str, Any]) -> str:
    to = f"group {vector['address']}" if vector["table_id"] == 0x84 else "global"
    return "\n".join(
        [
            f"{vector['name']}: {vector['about']}",
            f"{to} key_version {vector['key_version']} period {vector['period']} revision {vector['revision']}",
            "payload",
            *_hex(vector["payload"]),
            "section",
            *_hex(vector["section"]),
        ]
    )


def _notice(vector: dict[str, Any]) -> str:
    to = {0x82: f"card {vector['address']:011d}", 0x84: f"group {vector['address']}", 0x88: "global"}
    lines = [
        f"{vector['name']}: {vector['about']}",
        f"{to[vector['table_id']]} key_version {vector['key_version']} number {vector['number']}",
        "content",
        *_hex(vector["content"]),
    ]
    for part, (payload, section) in enumerate(zip(vector["payloads"], vector["sections"], strict=True)):
        number = f" {part} of {len(vector['sections']) - 1}" if len(vector["sections"]) > 1 else ""
        lines += [f"payload{number}", *_hex(payload), f"section{number}", *_hex(section)]
    return "\n".join(lines)


def _ecm(vector: dict[str, Any]) -> str:
    return "\n".join(
        [
            f"{vector['name']}: {vector['about']}",
            (
                f"table_id 0x{vector['table_id']:02X} time {vector['time']} service_id {vector['service_id']} "
                f"epoch {vector['epoch']} products {', '.join(map(str, vector['product_ids']))}"
            ),
            *([f"blacked out in regions {', '.join(map(str, vector['regions']))}"] if "regions" in vector else []),
            f"control words  {' '.join(vector['control_words'])}",
            f"session key    {vector['session_key']}",
            f"SIV key        {vector['ecm_key']}",
            "section",
            *_hex(vector["section"]),
        ]
    )


def _hex(text: str) -> list[str]:
    return ["  " + text[at : at + 96] for at in range(0, len(text), 96)]


def _line(name: str, value: str) -> str:
    return f"{name:<34}{value}"
