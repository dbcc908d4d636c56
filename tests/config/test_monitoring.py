"""Alert rules and dashboard speak of metrics that exist, and every alert and condition is explained to the operator."""

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cad.frame.health import KINDS
from cad.frame.metrics import Metrics

ALERTS = Path("config/prometheus/alerts.yml").read_text()
ALERT_TESTS = Path("config/prometheus/alerts.test.yml").read_text()
DASHBOARD = json.loads(Path("config/grafana/cad.json").read_text())
MANUAL = Path("docs/operator.md").read_text()


def names_of(kind: str) -> set[str]:
    """Return the series names that a metric of the family gives."""
    return {"counter": {"_total"}, "histogram": {"_bucket", "_count", "_sum"}}.get(kind, {""})


def exported() -> set[str]:
    families = list(text_string_to_metric_families(Metrics().render().decode()))
    return {family.name + suffix for family in families for suffix in names_of(family.type)}


def used(text: str) -> set[str]:
    return set(re.findall(r"\b(?:cad|process)_[a-z_]+", text))


def test_alerts_use_metrics_that_exist() -> None:
    expressions = " ".join(re.findall(r"expr:\s*(?:>\n)?(.*?)(?=\n\s+(?:for|labels):)", ALERTS, re.DOTALL))
    assert len(used(expressions)) > 15
    assert used(expressions) <= exported()
    assert used(ALERT_TESTS) <= exported()


def test_the_dashboard_uses_metrics_that_exist() -> None:
    expressions = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    assert len(used(expressions)) > 15
    assert used(expressions) <= exported()


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_alert_every_condition_and_every_metric_is_explained_to_the_operator() -> None:
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    assert len(alerts) == len(set(alerts)) > 15
    for name in [*alerts, *KINDS]:
        assert f"| `{name}` |" in MANUAL, name
    families = {family.name for family in text_string_to_metric_families(Metrics().render().decode())}
    for name in sorted(name for name in families if name.startswith("cad_")):
        assert f"`{name}" in MANUAL, name


def test_every_condition_says_in_the_manual_what_the_program_says() -> None:
    for name, kind in KINDS.items():
        assert f"| `{name}` | {kind.level} | {kind.meaning} | {kind.advice} |" in MANUAL, name
