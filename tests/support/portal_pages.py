"""`python -m tests.support.portal_pages [FOLDER]`: write the AsyncAPI document and one JSON Schema for each message."""

import json
import sys
from pathlib import Path
from typing import Any

from protocol.portal.documents import asyncapi, schemas

FOLDER = Path(__file__).parents[2] / "docs" / "portal"


def pages() -> dict[str, str]:
    """What is to stand in which file below docs/portal."""
    made = {f"schemas/{one.name}.json": _json(one.schema()) for one in schemas.messages()}
    return {"asyncapi.yaml": "".join(_yaml(asyncapi.document(), "")), **made}


def write(folder: Path) -> None:
    """Write all files; schemas of messages that are no more are removed."""
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in (folder / "schemas").glob("*.json"):
        if f"schemas/{old.name}" not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Any, indent: str) -> list[str]:
    """Block style for what holds something; everything else as JSON, which YAML 1.2 includes."""
    lines = []
    if isinstance(value, dict):
        for key, each in value.items():
            lines += _entry(f"{indent}{json.dumps(key) if not key.isidentifier() else key}:", each, indent)
    else:
        for each in value:
            lines += _entry(f"{indent}-", each, indent)
    return lines


def _entry(head: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, dict | list) and value:
        return [f"{head}\n", *_yaml(value, indent + "  ")]
    return [f"{head} {json.dumps(value, ensure_ascii=False)}\n"]


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
