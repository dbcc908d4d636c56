"""The probe's report as Prometheus metrics: served on a port, or written to a file for node_exporter."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cad.errors import CadError, ListenError
from cad.probe.report import ClassDocument, ProbeDocument
from config.settings import listen_address


class ProbeMetrics(Collector):
    """Collects from the latest report; `update` it. Alarms that are over stay, as 0."""

    def __init__(self, source: str) -> None:
        self.registry = CollectorRegistry()
        self._source = source
        self._found: ProbeDocument | None = None
        self._server: tuple[WSGIServer, Thread] | None = None
        self._seen: set[tuple[str, str, bool]] = set()
        self.registry.register(self)

    def update(self, found: ProbeDocument) -> None:
        """Show this report from now on."""
        self._seen |= {(alarm.code, alarm.subject, alarm.wake) for alarm in found.alarms}
        self._found = found

    def serve(self, listen: str) -> None:
        """Answer GET /metrics on host:port, in a thread of its own. Raises ListenError."""
        address = listen_address(listen)
        if address is None:
            raise CadError(f"--listen wants host:port, such as 127.0.0.1:9465, not {listen!r}")
        try:
            self._server = start_http_server(address[1], address[0], self.registry)
        except OSError as error:
            raise ListenError(f"cannot listen on {listen}: {error.strerror}; choose another port") from None

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def write(self, path: Path) -> None:
        """Replace the file at one stroke. Raises CadError."""
        try:
            write_to_textfile(str(path), self.registry)
        except OSError as error:
            raise CadError(f"cannot write {path}: {error.strerror}") from None

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; none before the first report."""
        if (found := self._found) is not None:
            yield from _stream(found, self._source)
            yield from _emm(found)
            yield from _services(found)
            yield self._alarms(found)

    def _alarms(self, found: ProbeDocument) -> Metric:
        up = {(alarm.code, alarm.subject, alarm.wake) for alarm in found.alarms}
        family = GaugeMetricFamily(
            "cad_probe_alarm", "1 while an alarm of the probe holds, 0 after", labels=["code", "subject", "wake"]
        )
        for key in sorted(self._seen):
            code, subject, wake = key
            family.add_metric([code, subject, "yes" if wake else "no"], 1 if key in up else 0)
        return family


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"cad_probe_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Iterator[Metric]:
    yield CounterMetricFamily(f"cad_probe_{name}", text, value=value)


def _stream(found: ProbeDocument, source: str) -> Iterator[Metric]:
    info = GaugeMetricFamily("cad_probe_info", "Always 1; what is listened to is a label", labels=["source"])
    info.add_metric([source], 1)
    yield info
    yield from _counter("packets", "Transport packets heard", found.stream.packets)
    yield from _gauge("stream_rate_bps", "Rate of the stream", found.stream.rate_bps)
    yield from _gauge("stream_silence_seconds", "Since the last packet", found.stream.silence_s)
    lost = CounterMetricFamily("cad_probe_losses", "What was lost on the way to whole sections", labels=["reason"])
    for reason, count in found.stream.lost.items():
        lost.add_metric([reason], count)
    yield lost
    yield from _gauge("cat_right", "1 while the CAT comes in time and names this CA system", found.cat.right)
    yield from _gauge("cat_silence_seconds", "Since the last CAT", found.cat.silence_s)


def _emm(found: ProbeDocument) -> Iterator[Metric]:
    emm = found.emm
    yield from _counter("emm_sections", "Sections heard on the EMM PID", emm.sections)
    yield from _gauge("emm_rate_bps", "Rate of the EMM PID, whole packets", emm.rate_bps)
    yield from _gauge("emm_silence_seconds", "Since the last EMM", emm.silence_s)
    yield from _counter("emm_malformed", "Malformed sections on the EMM PID", sum(emm.malformed.values()))
    yield from _counter("emm_versions_fell", "EMMs older than the one before to the same address", emm.versions_fell)
    classes = {"unique": emm.unique, "group": emm.group, "global": emm.to_all}
    yield from _by_class("emm_addresses", "Addresses seen", {name: one.addresses for name, one in classes.items()})
    yield from _by_class("emm_cycle_seconds", "Longest of the last spacings", _of(classes, "cycle_s"))
    yield from _by_class("emm_spacing_mean_seconds", "Mean spacing", _of(classes, "mean_spacing_s"))
    yield from _by_class("emm_spacing_max_seconds", "Longest spacing ever", _of(classes, "max_spacing_s"))
    cards = emm.listed if emm.listed is not None else emm.unique
    shares = GaugeMetricFamily("cad_probe_cards_heard_ratio", "Share of cards heard in a window", labels=["window"])
    for window, share in (("30m", cards.share_30_min), ("60m", cards.share_60_min)):
        if share is not None:
            shares.add_metric([window], share)
    yield shares


def _of(classes: dict[str, ClassDocument], field: str) -> dict[str, float | None]:
    return {name: getattr(one, field) for name, one in classes.items()}


def _by_class(name: str, text: str, values: dict[str, float | None] | dict[str, int]) -> Iterator[Metric]:
    family = GaugeMetricFamily(f"cad_probe_{name}", text, labels=["class"])
    for label, value in values.items():
        if value is not None:
            family.add_metric([label], value)
    yield family


def _services(found: ProbeDocument) -> Iterator[Metric]:
    per_service = {
        "ecm_silence_seconds": ("Since the last ECM", "ecm_silence_s"),
        "ecm_gap_mean_seconds": ("Mean time between ECMs", "ecm_mean_gap_s"),
        "crypto_period_seconds": ("Life of the last control word", "period_s"),
        "control_word_age_seconds": ("Since the control word changed", "period_age_s"),
        "ecm_time_off_seconds": ("Time in the ECMs less that of this machine", "time_off_s"),
    }
    for name, (text, field) in per_service.items():
        family = GaugeMetricFamily(f"cad_probe_{name}", text, labels=["service"])
        for service in found.services:
            if (value := getattr(service, field)) is not None:
                family.add_metric([str(service.service_id)], value)
        yield family
    malformed = CounterMetricFamily("cad_probe_ecm_malformed", "Malformed ECMs", labels=["service"])
    for service in found.services:
        malformed.add_metric([str(service.service_id)], sum(service.malformed.values()))
    yield malformed
