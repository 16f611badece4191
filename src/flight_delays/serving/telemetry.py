"""What the service counts, for Prometheus."""

from collections.abc import Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from flight_delays.serving.payloads import PayloadLog
from flight_delays.serving.service import Entity, Lookup

_LATENCIES_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_ENTITY = ("served_entity", "model_version")


class Metrics:
    """Of one app: nothing is shared between two."""

    def __init__(self, payloads: PayloadLog | None) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("requests_in_flight", "Requests being answered.", registry=self.registry)
        self._requests = Counter(
            "requests", "Requests by what they were answered with.", (*_ENTITY, "status"), registry=self.registry
        )
        self._errors = Counter(
            "model_errors", "Requests that a version failed on, also where another answered.", _ENTITY,
            registry=self.registry,
        )  # fmt: skip
        self._latency = Histogram(
            "request_duration_seconds", "Time to answer, with all checks.", _ENTITY, buckets=_LATENCIES_S,
            registry=self.registry,
        )  # fmt: skip
        self._lookups = Counter(
            "online_store_rows", "Rows asked of the online store, by outcome.", ("outcome",), registry=self.registry
        )
        self._precomputed = Counter(
            "predictions_looked_up", "Look-ups of precomputed predictions, by outcome.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        if payloads:
            self.registry.register(_Payloads(payloads))

    def answered(self, entity: Entity | None, status: int, seconds: float) -> None:
        """Count a request, which no entity answered if it was refused before one was chosen."""
        labels = _labels(entity)
        self._requests.labels(*labels, status).inc()
        if entity is not None:
            self._latency.labels(*labels).observe(seconds)

    def failed(self, entity: Entity) -> None:
        """Count a request that an entity failed on."""
        self._errors.labels(*_labels(entity)).inc()

    def looked_up(self, lookup: Lookup) -> None:
        """Count rows that the online store was asked for."""
        if lookup.failed:
            self._lookups.labels("failed").inc(lookup.asked)
        elif lookup.asked:
            self._lookups.labels("found").inc(lookup.found)
            self._lookups.labels("not_found").inc(lookup.asked - lookup.found)

    def store_failed(self, rows: int) -> None:
        """Count rows of a request that was refused because the online store failed."""
        self._lookups.labels("failed").inc(rows)

    def precomputed(self, outcome: Literal["found", "not_found", "failed"]) -> None:
        """Count a look-up of a precomputed prediction."""
        self._precomputed.labels(outcome).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class _Payloads:
    def __init__(self, payloads: PayloadLog) -> None:
        self._payloads = payloads

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        dropped = "Requests that were answered and, for want of room, not kept."
        yield CounterMetricFamily("payload_rows_dropped", dropped, value=self._payloads.dropped)
        yield GaugeMetricFamily("payload_rows_waiting", "Requests that wait to be written.", self._payloads.waiting)


def _labels(entity: Entity | None) -> tuple[str, str]:
    return (entity.name, str(entity.version)) if entity else ("", "")
