"""`cad carousel simulate`: offline, the same figures for the same seed, in words for people."""

import json
from typing import Any

import pytest

from cad.cli import main as cli_main
from cad.cli.air.carousel import SimulatedDocument

SMALL = ("--cards", "500", "--bytes", "100", "--kbps", "10", "--hours", "0.05")


def simulate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli_main.run(["carousel", "simulate", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def simulated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = simulate(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    SimulatedDocument.model_validate_json(out)
    found: dict[str, Any] = json.loads(out)
    return found


def test_enough_bandwidth_keeps_the_promise(capsys: pytest.CaptureFixture[str]) -> None:
    found = simulated(capsys, *SMALL, "--changes", "0.05")
    assert found["kept"] is True
    assert found["recommended_kbps"] == 10
    assert found["figures"]["first_max_s"] < 10
    assert found["figures"]["worst_second"] <= 1.0


@pytest.mark.slow
def test_too_little_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simulate(capsys, "--cards", "500", "--kbps", "5", "--hours", "0.1", "--changes", "2")
    assert code == 0
    assert "missed" in out
    assert "shortfall announced" in out
    assert "bandwidth recommended" in out


@pytest.mark.slow
def test_the_seed_is_all_that_chance_knows(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (*SMALL, "--changes", "1", "--seed")
    assert simulated(capsys, *arguments, "7") == simulated(capsys, *arguments, "7")
    assert simulated(capsys, *arguments, "7") != simulated(capsys, *arguments, "8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cards", "0"), "0 is not in the range"),
        (("--kbps", "65000", "--hours", "24"), "take fewer hours or a lower rate"),
        (("--packing", "loose"), "'loose' is not one of"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = simulate(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.slow
def test_operators_share_by_weight_and_a_mass_change_of_one_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    case = ("--cards", "400", "--kbps", "20", "--changes", "0.5", "--hours", "0.02", "--weight", "1", "--weight", "2")
    one, other = simulated(capsys, *case, "--mass", "150")["figures"]["operators"]
    assert (one["weight"], other["weight"]) == (1.0, 2.0)
    assert one["changes"] > 150 > other["changes"] > 0
    assert one["bulk_max_s"] > 5.0 > other["first_max_s"]
    assert "of a mass" in simulate(capsys, *case, "--mass", "150")[1]
    code, _, err = simulate(capsys, *case, "--mass", "201")
    assert code == 2
    assert "has 200 cards" in err
