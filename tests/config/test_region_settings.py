"""Regions and blackouts in the settings: windows, names, numbers, and room in the ECMs."""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cad.ledger.model import Grants
from config import crosscheck
from config.errors import SettingsError
from config.load import from_mapping, load

EXAMPLE = Path("config/cad.example.toml")
BEGINS = datetime(2026, 12, 6, 16, tzinfo=UTC)


def raw(**network: Any) -> dict[str, Any]:
    """The example with these keys of its first network."""
    example = tomllib.loads(EXAMPLE.read_text())
    example["networks"][0] |= network
    return example


def blackout(**more: Any) -> dict[str, Any]:
    """One blackout of three hours."""
    window = {"starts_at": BEGINS, "ends_at": BEGINS + timedelta(hours=3)}
    return {"service": "sport-1", "regions": ["coast"]} | window | more


def problems(settings: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        from_mapping(settings)
    return {problem.where: problem.text for problem in caught.value.problems}


def test_the_example_blacks_out_one_region() -> None:
    settings = load(EXAMPLE)
    network = settings.networks[0]
    begins, ends = network.blackouts[0].window
    assert begins == int(BEGINS.timestamp())
    assert network.blacked_out("sport-1", begins) == {0: ends, 1: ends}
    assert network.blacked_out("sport-1", ends) == network.blacked_out("movies", begins) == {}
    assert Grants.from_settings(settings).operators["north-telco"].regions == {"coast": 1}


@pytest.mark.parametrize(
    ("network", "where", "words"),
    [
        ({"blackouts": [blackout(ends_at=BEGINS)]}, "networks.0.blackouts.0", "later than starts_at"),
        (
            {"blackouts": [blackout(starts_at=BEGINS.replace(tzinfo=None))]},
            "networks.0.blackouts.0.starts_at",
            "timezone",
        ),
        ({"blackouts": [blackout(regions=[])]}, "networks.0.blackouts.0.regions", "at least 1"),
        ({"blackouts": [blackout(regions=["cost"])]}, "networks.0.blackouts.0.regions.0", "did you mean 'coast'"),
        ({"blackouts": [blackout(service="sport-2")]}, "networks.0.blackouts.0.service", "did you mean 'sport-1'"),
        ({"regions": [{"id": "coast", "name": "Coast", "number": 0}]}, "networks.0.regions.0.number", "equal to 1"),
    ],
)
def test_what_does_not_fit_is_refused(network: dict[str, Any], where: str, words: str) -> None:
    assert words in problems(raw(**network))[where]


def test_names_and_numbers_stand_once() -> None:
    regions = [{"id": "coast", "name": "Coast", "number": 1}, {"id": "coast", "name": "Other", "number": 1}]
    found = problems(raw(regions=regions))
    assert {"networks.0.regions.1.id", "networks.0.regions.1.number"} <= set(found)


@pytest.mark.parametrize(("regions", "outcome"), [(60, "remark"), (85, "remark"), (86, "problem"), (40, "fine")])
def test_the_regions_must_fit_into_the_ecm(regions: int, outcome: str) -> None:
    named = [{"id": f"r{number}", "name": "R", "number": number} for number in range(1, regions + 1)]
    out = [blackout(regions=[one["id"] for one in named])]
    settings = raw(regions=named, blackouts=out)
    if outcome == "problem":
        assert "is the most" in problems(settings)["networks.0.blackouts.0"]
        return
    said = [one.text for one in crosscheck.remarks(from_mapping(settings)) if one.where == "networks.0.blackouts.0"]
    assert ["two TS packets" in text for text in said] == ([True] if outcome == "remark" else [])
