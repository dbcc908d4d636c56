"""Reading the vector files in tests/vectors."""

import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def load_vectors(name: str) -> dict[str, Any]:
    """Return the whole of one vector file, which must name its source."""
    content = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    assert content["source"], f"{name} does not say where its vectors come from"
    return content
