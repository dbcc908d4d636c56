"""Every metric of the daemon, declared in one place. Labels take values from the settings or from fixed sets only."""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
OTHER: Final = "other"
COMMIT_EDGES: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
BATCH_EDGES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
TURN_EDGES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
AIR_EDGES: Final = (0.005, 0.015, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 86_400)

# One more series for every counter and histogram, which nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics, registered in `registry` (a new one unless given)."""

    def __init__(self, registry: CollectorRegistry | None = None, operators: Iterable[str] = ()) -> None:
        self.registry = registry or CollectorRegistry()
        self._operators = frozenset(operators)
        self._misses: dict[tuple[str, str], float] = {}
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._declare_intake()
        self._declare_air()
        self._declare_ecmg()
        self._declare_daemon()

    def _declare_intake(self) -> None:
        here = self.registry
        self.broker_up = Gauge("cad_broker_up", "1 while connected to the MQTT broker", registry=here)
        self.broker_connects = Counter("cad_broker_connects", "Connections made to the broker", registry=here)
        self.sessions_lost = Counter(
            "cad_broker_sessions_lost", "Times the broker had forgotten our session", registry=here
        )
        self.unacked = Gauge(
            "cad_unacked_messages", "Messages taken from the broker, not acknowledged yet", registry=here
        )
        self.commands = Counter(
            "cad_commands", "Commands answered, by operator and reply code", ["operator", "code"], registry=here
        )
        self.unreadable = Counter(
            "cad_unreadable_messages", "Messages that went to rej, by operator", ["operator"], registry=here
        )
        self.commit_seconds = Histogram(
            "cad_commit_seconds", "Time of one durable commit", buckets=COMMIT_EDGES, registry=here
        )
        self.commit_batch = Histogram(
            "cad_commit_batch_commands", "Commands in one commit", buckets=BATCH_EDGES, registry=here
        )
        self.ledger_failures = Counter("cad_ledger_failures", "Commits that failed, to be tried again", registry=here)
        self.outbox_depth = Gauge("cad_outbox_depth", "Replies and events that wait for the broker", registry=here)
        self.set_aside = Counter(
            "cad_outbox_set_aside", "Replies and events that the broker refused, set aside", registry=here
        )
        self.disk_free = Gauge("cad_state_dir_free_bytes", "Free space where the ledger lies", registry=here)

    def _declare_air(self) -> None:
        here, mux, ring = self.registry, ["multiplex"], ["multiplex", "ring"]
        self.publish_to_air = Histogram(
            "cad_publish_to_air_seconds",
            "From the commit of a change to its first transmission on a multiplex",
            mux,
            buckets=AIR_EDGES,
            registry=here,
        )
        self.oldest_unsent = Gauge(
            "cad_oldest_unsent_change_seconds", "Age of the oldest change never sent, 0 = none", mux, registry=here
        )
        told = ["operator", "promise"]
        self.promises = Counter(
            "cad_promises", "What replies promised, by whether it was kept", [*told, "outcome"], registry=here
        )
        self.worst_miss = Gauge(
            "cad_promise_worst_miss_seconds", "The worst miss of a promise since the start", told, registry=here
        )
        self.order_promise = Gauge(
            "cad_order_promise_seconds", "What an order made now would be promised, NaN = nothing", told, registry=here
        )
        self.rollout_cards = Gauge(
            "cad_rollout_cards_left", "Cards that still have to follow a changed offer", ["operator"], registry=here
        )
        self.link_up = Gauge("cad_link_up", "1 while the stream on the multiplexer is open", mux, registry=here)
        self.link_connects = Counter("cad_link_connects", "Streams opened on the multiplexer", mux, registry=here)
        self.link_errors = Counter(
            "cad_link_errors", "Link failures and errors from the multiplexer", mux, registry=here
        )
        self.on_standby = Gauge(
            "cad_link_on_standby", "1 while the standby multiplexer carries the stream", mux, registry=here
        )
        self.changeovers = Counter(
            "cad_link_changeovers", "Times the stream changed between main and standby", mux, registry=here
        )
        self.allocated = Gauge(
            "cad_rate_allocated_bps", "Bits per second the multiplexer allocates", mux, registry=here
        )
        self.sent_bits = Counter("cad_sent_bits", "Bits sent, packet overhead included", mux, registry=here)
        self.emm_failures = Counter(
            "cad_emm_failures", "EMMs that could not be made: the card's rights do not fit", mux, registry=here
        )
        self.sent_emms = Counter("cad_sent_emms", "EMMs sent, by carousel ring", ring, registry=here)
        self.cycle_seconds = Gauge(
            "cad_cycle_seconds", "Time of one turn of a ring at the present rate", ring, registry=here
        )
        self.ring_cards = Gauge("cad_ring_cards", "Cards on a ring", ring, registry=here)
        self.messages_active = Gauge(
            "cad_messages_active", "Messages and fingerprints on the air", ["operator"], registry=here
        )
        self.shortfall = Gauge(
            "cad_shortfall", "1 when the rate is too low for the promised repetition", mux, registry=here
        )

    def _declare_ecmg(self) -> None:
        here, client = self.registry, ["client"]
        self.ecmg_channels = Gauge("cad_ecmg_channels", "Channels that scramblers have open", client, registry=here)
        self.ecmg_streams = Gauge("cad_ecmg_streams", "Streams that scramblers have open", client, registry=here)
        self.ecmg_connects = Counter("cad_ecmg_connects", "Connections of scramblers", client, registry=here)
        self.ecms = Counter("cad_ecms", "ECMs made for scramblers", client, registry=here)
        self.ecmg_refusals = Counter(
            "cad_ecmg_refusals", "What scramblers did not get, by reason", ["client", "reason"], registry=here
        )
        self.ecm_turn = Histogram(
            "cad_ecm_turn_seconds",
            "From the orders read at a time to their ECMs sent",
            buckets=TURN_EDGES,
            registry=here,
        )

    def _declare_daemon(self) -> None:
        here = self.registry
        self.build = Gauge("cad_build_info", "Always 1; the version is a label", ["version"], registry=here)
        self.ready = Gauge("cad_ready", "1 while orders are taken and sent", registry=here)
        self.condition = Gauge(
            "cad_condition_ok", "1 while a health condition holds", ["condition", "subject"], registry=here
        )
        self.clock_suspect = Gauge("cad_clock_suspect", "1 while the machine's clock is not believed", registry=here)
        self.due_lag = Gauge(
            "cad_due_lag_seconds", "Time since nothing was left undone that comes by the clock", registry=here
        )
        self.technician_requests = Counter(
            "cad_technician_requests", "Requests on the port for technicians, by outcome", ["outcome"], registry=here
        )
        self.loop_lag = Gauge(
            "cad_loop_lag_seconds", "Worst delay of the event loop in the last interval", registry=here
        )
        self.restarts = Counter(
            "cad_task_restarts", "Crashes of a task that was started again", ["task"], registry=here
        )
        self.reloads = Counter("cad_reloads", "Reloads of the settings, by outcome", ["outcome"], registry=here)

    def count_command(self, operator: str, code: str) -> None:
        """Count one answer. An operator that is not in the settings counts as 'other': labels stay few."""
        self.commands.labels(self._known(operator), code).inc()

    def count_unreadable(self, operator: str) -> None:
        """Count one message that went to `rej`."""
        self.unreadable.labels(self._known(operator)).inc()

    def count_promise(self, operator: str, promise: str, late_s: float) -> None:
        """Count one promise (`on_air_by`, `visible_by`) by whether what came so late, or before 0, had kept it."""
        known = self._known(operator)
        self.promises.labels(known, promise, "missed" if late_s > 0 else "kept").inc()
        if late_s > self._misses.get((known, promise), 0.0):
            self._misses[known, promise] = late_s
            self.worst_miss.labels(known, promise).set(late_s)

    def tell_order_promise(self, operator: str, promise: str, within_s: float) -> None:
        """Set what an order made now would be promised, in seconds from now."""
        self.order_promise.labels(self._known(operator), promise).set(within_s)

    def tell_rollouts(self, left: Mapping[str, int]) -> None:
        """Set how many cards of each operator still have to follow a changed offer."""
        for operator in self._operators:
            self.rollout_cards.labels(operator).set(left.get(operator, 0))

    def count_technician(self, outcome: str) -> None:
        """Count one request on the port for technicians."""
        self.technician_requests.labels(outcome).inc()

    def set_operators(self, operators: Iterable[str]) -> None:
        """Name the operators that may be label values (after a reload)."""
        self._operators = frozenset(operators)

    def forget_multiplex(self, multiplex: str) -> None:
        """Remove the series of a multiplex that is no longer in the settings."""
        for metric in (
            *(self.publish_to_air, self.oldest_unsent, self.link_up, self.link_connects, self.link_errors),
            *(
                self.on_standby,
                self.changeovers,
                self.allocated,
                self.sent_bits,
                self.emm_failures,
                self.sent_emms,
                self.cycle_seconds,
                self.ring_cards,
                self.shortfall,
            ),
        ):
            metric.remove_by_labels({"multiplex": multiplex})

    def forget_scrambler(self, client: str) -> None:
        """Remove the series of a scrambler that is no longer in the settings."""
        for metric in (self.ecmg_channels, self.ecmg_streams, self.ecmg_connects, self.ecms, self.ecmg_refusals):
            metric.remove_by_labels({"client": client})

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _known(self, operator: str) -> str:
        return operator if operator in self._operators else OTHER
