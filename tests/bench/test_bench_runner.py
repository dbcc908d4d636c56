"""`python -m bench`: what its table and its file say."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import __main__ as bench


def runner(monkeypatch: pytest.MonkeyPatch, found: dict[str, list[bench.Figure] | str]) -> None:
    def measure(name: str, seed: int) -> list[bench.Figure]:
        what = found[name]
        if isinstance(what, str):
            raise bench.FailedError(what)
        return what

    monkeypatch.setattr(bench, "modules", lambda: sorted(found))
    monkeypatch.setattr(bench, "measure", measure)


def test_a_missed_aim_is_said_and_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fast = bench.Figure("one", "ms", 3.0, 15.0, "max")
    slow = bench.Figure("one", "per_s", 10.0, 15.0, "min")
    runner(monkeypatch, {"one": [fast, slow, bench.Figure("one", "extra", 1.0)]})
    done = CliRunner().invoke(bench.main, ["--seed", "7", "--output", str(tmp_path / "r.json")])
    assert done.exit_code == 0
    assert "at most 15" in done.output
    assert "missed: per_s" in done.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["seed"] == 7
    assert [figure["met"] for figure in written["figures"]] == [True, False, None]
    assert set(written["machine"]) == {"cores", "architecture", "system", "python"}
    assert str(Path.cwd()) not in json.dumps(written)


def test_a_failed_measurement_fails_and_the_others_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runner(monkeypatch, {"bad": "bad: exit code 3", "good": [bench.Figure("good", "ms", 3.0)]})
    done = CliRunner().invoke(bench.main, ["--output", str(tmp_path / "r.json")])
    assert done.exit_code == 1
    assert "failed: bad: exit code 3" in done.output
    written = json.loads((tmp_path / "r.json").read_text())
    assert (len(written["figures"]), written["failed"]) == (1, ["bad: exit code 3"])


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    done = CliRunner().invoke(bench.main, ["--only", "nothing"])
    assert done.exit_code == 2
    assert "known are cards, carousel" in done.output


@pytest.mark.slow
def test_a_module_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "_worker.py").write_text((bench.FOLDER / "_worker.py").read_text())
    (tmp_path / "bench" / "one.py").write_text('AIMS = {"a": (1, "min")}\ndef run(seed): return {"a": seed, "b": 2}\n')
    (tmp_path / "bench" / "two.py").write_text('AIMS = {"a": (1, "min")}\ndef run(): return {"b": 2}\n')
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "bench")
    assert bench.modules() == ["one", "two"]
    assert bench.measure("one", 5) == [bench.Figure("one", "a", 5, 1, "min"), bench.Figure("one", "b", 2)]
    with pytest.raises(bench.FailedError, match="two: exit code 1"):
        bench.measure("two", 5)
