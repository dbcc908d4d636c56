"""docs/carousel.md says what the code says."""

import re
from pathlib import Path

import pytest

from emm.carousel import CarouselPolicy
from emm.pacer import cost_bits
from emm.rotation.arithmetic import recommended_kbps
from emm.rotation.policy import LANE_NAMES

PAGE = Path("docs/carousel.md").read_text()
POLICY = CarouselPolicy()
CHANGED_AN_HOUR = (0.0, 0.1 / 24, 0.01, 0.1)
SIZE = -(-cost_bits(128, "packed") // 8)


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]


def test_the_bandwidth_table_is_the_one_computed() -> None:
    _, *table = rows("How much bandwidth")
    assert len(table) == 10
    for row in table:
        cards, *kbps = (int(cell.replace(",", "")) for cell in row)
        assert kbps == [recommended_kbps(cards, SIZE, cards * share, POLICY) for share in CHANGED_AN_HOUR]


def test_the_rings_are_those_of_the_policy() -> None:
    _, *table = rows("Rings")
    ages = POLICY.age_classes
    assert [row[0] for row in table] == [*LANE_NAMES, *(age.name for age in ages)]
    assert [float(row[4]) for row in table[2:]] == [age.demand for age in ages]
    assert [row[3] for row in table[2:]] == ["60 s", "60 s", "30 min"]
    assert [age.limit_s for age in ages] == [60.0, 60.0, 1800.0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("first_transmission_s", 10),
        ("first_hour_repeat_s", 60),
        ("cycle_s", 1800),
        ("min_repeat_s", 1),
        ("new_share", 0.8),
    ],
)
def test_the_defaults_are_those_of_the_policy(setting: str, value: float) -> None:
    assert getattr(POLICY, setting) == value
    assert f"`carousel.{setting}`" in PAGE


def test_every_kind_of_shortfall_is_explained() -> None:
    source = Path("emm/rotation/shortfall.py").read_text()
    kinds = set(re.findall(r'Shortfall\("(\w+)"', source))
    assert kinds == {row[0].strip("`") for row in rows("Promises")[1:]}
