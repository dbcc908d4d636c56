"""X7: every checked-in corpus file runs through its harness: what fuzzing once found stays found."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
HARNESSES = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def harness(name: str) -> ModuleType:
    """The module of a harness."""
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", HERE / f"fuzz_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", HARNESSES)
def test_the_corpus_passes(name: str) -> None:
    inputs = sorted((HERE / "corpus" / name).iterdir())
    assert inputs, f"tests/fuzz/corpus/{name} is empty: add at least one good input"
    test_one_input = harness(name).TestOneInput
    for path in inputs:
        test_one_input(path.read_bytes())
