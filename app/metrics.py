"""What is measured of a running service, in the Prometheus text format (operations.md section 7).

Counters grow in this process; gauges are read when they are asked for. Labels are closed words and route patterns:
nothing here names a person, a client, a case or a key, or takes a value from a request.
Leaves out who may read it (the door) and what the gauges are read from (`app.wiring.metering`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5)


@dataclass(frozen=True, slots=True)
class Reading:
    """One gauge as it stands: `name` without prefix, what it says, its value by the words of one label."""

    name: str
    says: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Readings = Callable[[], Iterable[Reading]]


class Metrics:
    """The measures of one process. Safe to share between threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", "route", "method", "status")
        self._decisions = self._counter("decisions", "Questions put to the law.", "answer", "reason")
        self._faults = self._counter("key_provider_faults", "Calls the key provider refused.", "call", "code")
        self._provider = Histogram(
            "regard_key_provider_seconds",
            "Time of a call to the key provider.",
            ["call"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(f"regard_{name}", says, labels, registry=self._registry)

    def answered(self, route: str, method: str, status: int) -> None:
        """Count a request by the pattern of its route, never by its address."""
        self._requests.labels(route, method, str(status)).inc()

    def decided(self, answer: str, reason: str) -> None:
        """Count an answer of the law (`permit`, `deny`) and its reason."""
        self._decisions.labels(answer, reason).inc()

    def asked_provider(self, call: str, seconds: float, code: str | None) -> None:
        """Note a call to the key provider; `code` is that of the fault it ended with."""
        self._provider.labels(call).observe(seconds)
        if code is not None:
            self._faults.labels(call, code).inc()

    def look_at(self, readings: Readings) -> None:
        """Read these gauges at each exposition."""
        self._registry.register(_Looked(readings))

    def exposition(self) -> bytes:
        """Return everything measured, as text."""
        return generate_latest(self._registry)


class _Looked(Collector):
    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the registry would read every gauge once just to know its name."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for one in self._readings():
            labels = sorted(one.labels)
            family = families.setdefault(one.name, GaugeMetricFamily(f"regard_{one.name}", one.says, labels=labels))
            family.add_metric([one.labels[label] for label in labels], one.value)
        yield from families.values()
