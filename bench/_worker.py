"""Measures one module in a process of its own, so that memory figures are its own; prints one line of JSON at the end.

`python -m bench._worker MODULE SEED`; MODULE has `run() -> dict[str, float]`, or `run(seed)` where chance matters, and
`AIMS: dict[str, tuple[float, "min" | "max"]]`.
"""

import importlib
import inspect
import json
import math
import sys
from typing import Any


def main(name: str, seed: int) -> None:
    """Measure and print."""
    module = importlib.import_module(f"bench.{name}")
    takes_seed = "seed" in inspect.signature(module.run).parameters
    figures: dict[str, Any] = module.run(seed=seed) if takes_seed else module.run()
    strange = [figure for figure, value in figures.items() if not math.isfinite(value)]
    missing = sorted(set(module.AIMS) - set(figures))
    if strange or missing:
        sys.exit(f"bench.{name}: no number: {strange}; aimed at but not measured: {missing}")
    print(json.dumps({"figures": figures, "aims": module.AIMS}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
