"""Metrics: all in one registry, labels bounded, no left-overs of a multiplex that is gone."""

from prometheus_client.parser import text_string_to_metric_families

from cad.frame.metrics import AIR_EDGES, Metrics


def series(metrics: Metrics) -> list[tuple[str, dict[str, str], float]]:
    families = text_string_to_metric_families(metrics.render().decode())
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def test_the_promise_of_an_hour_has_an_edge_of_its_own() -> None:
    assert 3600 in AIR_EDGES
    metrics = Metrics()
    metrics.publish_to_air.labels("south-1").observe(3599)
    buckets = {
        labels["le"]: value for name, labels, value in series(metrics) if name == "cad_publish_to_air_seconds_bucket"
    }
    assert (buckets["1800.0"], buckets["3600.0"]) == (0, 1)


def test_operators_that_are_not_in_the_settings_are_one_label_value() -> None:
    metrics = Metrics(operators=["north"])
    metrics.count_command("north", "ok")
    for number in range(1000):
        metrics.count_command(f"made-up-{number}", "ok")
        metrics.count_unreadable(f"made-up-{number}")
    counted = {labels["operator"]: value for name, labels, value in series(metrics) if name == "cad_commands_total"}
    assert counted == {"north": 1, "other": 1000}
    metrics.set_operators(["made-up-1"])
    metrics.count_command("made-up-1", "ok")
    assert metrics.registry.get_sample_value("cad_commands_total", {"operator": "made-up-1", "code": "ok"}) == 1


def test_promises_are_counted_by_operator_and_outcome_with_the_worst_miss() -> None:
    metrics = Metrics(operators=["karjaa"])
    for late_s in (-3.0, 0.0, 2.5, 1.0):
        metrics.count_promise("karjaa", "on_air_by", late_s)
    metrics.count_promise("somebody", "visible_by", -1.0)
    karjaa, other = {"operator": "karjaa", "promise": "on_air_by"}, {"operator": "other", "promise": "visible_by"}
    value = metrics.registry.get_sample_value
    assert value("cad_promises_total", {**karjaa, "outcome": "kept"}) == 2
    assert value("cad_promises_total", {**karjaa, "outcome": "missed"}) == 2
    assert value("cad_promises_total", {**other, "outcome": "kept"}) == 1
    assert value("cad_promise_worst_miss_seconds", karjaa) == 2.5
    assert value("cad_promise_worst_miss_seconds", other) is None


def test_a_multiplex_that_is_gone_leaves_no_series() -> None:
    metrics = Metrics()
    for mux in ("south-1", "south-2"):
        metrics.link_up.labels(mux).set(1)
        metrics.publish_to_air.labels(mux).observe(1)
        metrics.sent_bits.labels(mux).inc(8)
        metrics.sent_emms.labels(mux, "base").inc()
        metrics.cycle_seconds.labels(mux, "base").set(5)
    metrics.forget_multiplex("south-1")
    assert {labels["multiplex"] for _, labels, _ in series(metrics) if "multiplex" in labels} == {"south-2"}


def test_all_our_names_begin_with_cad() -> None:
    names = {family.name for family in text_string_to_metric_families(Metrics().render().decode())}
    assert {name for name in names if not name.startswith(("cad_", "process_", "python_"))} == set()
