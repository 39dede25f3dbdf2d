"""How a fusion replica is now: asked when Prometheus looks, not kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quorate.deployments.metrics.online_learning import online_metrics

# Of the code that runs: after an upgrade on a running node another is installed.
VERSION = version("quorate")


class ServerState(Collector):
    """What others say of themselves when they are asked; what nobody has set is left out.

    Attributes:
        revision: the name of the live one.
        ready: whether enough members take calls for an answer.
        processes: by member, where it computes: its ``own`` process, one ``shared`` with others, ``inside`` of this.
        record_number: of the registry's record that is followed; 0 where there is no registry.
        online: what learning has come to, as ``at_doors`` gives it; empty where nothing learns.
        door: its address, and the number of its process.
        record: of the folder that answers are recorded in, the bytes of its files, and when the oldest of them was last
            written, in seconds since 1970; None while nothing is known of it.
        thinned_s: by member that is not asked because of load, since how many seconds.
        certificates_expire: by kind of file, when its first certificate ceases to be valid, in seconds since 1970.
    """

    def __init__(self, ensemble: str):
        self._ensemble = ensemble
        self.revision: Callable[[], str] | None = None
        self.ready: Callable[[], bool] | None = None
        self.queued_rows: Callable[[], int] | None = None
        self.queue_limit_rows = 0
        self.held_bytes: Callable[[], int] | None = None
        self.limit_bytes = 0
        self.event_loop_cpu_s: Callable[[], float] | None = None
        self.processes: Callable[[], Mapping[str, str]] | None = None
        self.record_number = 0
        self.online: Mapping[str, Any] = {}
        self.door: tuple[str, str] | None = None
        self.record: Callable[[], tuple[int, float] | None] = lambda: None
        self.thinned_s: Callable[[], Mapping[str, float]] = dict
        self.certificates_expire: Callable[[], Mapping[str, float]] | None = None

    def collect(self) -> Iterable[Metric]:
        yield self._gauge("quorate_build_info", "The version that runs", 1, "version", VERSION)
        if self.revision is not None:
            yield self._gauge("quorate_revision_info", "The live revision", 1, "revision", self.revision())
        if self.ready is not None:
            yield self._gauge("quorate_ready", "Whether enough members take calls", self.ready())
        if self.queued_rows is not None:
            yield self._gauge("quorate_queued_rows", "Rows that wait for a batch", self.queued_rows())
            yield self._gauge("quorate_queue_limit_rows", "Rows that may wait", self.queue_limit_rows)
        if self.held_bytes is not None:
            yield self._gauge("quorate_request_memory_bytes", "What requests hold now", self.held_bytes())
            yield self._gauge("quorate_request_memory_limit_bytes", "What they may hold", self.limit_bytes)
        if self.record_number:
            yield self._gauge("quorate_record_number", "The registry's record that is followed", self.record_number)
        if self.event_loop_cpu_s is not None:
            name, said = "quorate_event_loop_cpu_seconds", "Processor time of the thread that answers"
            loop = CounterMetricFamily(name, said, labels=["ensemble"])
            loop.add_metric([self._ensemble], self.event_loop_cpu_s())
            yield loop
        if self.online:
            yield from online_metrics(self._ensemble, self.online)
        if self.door is not None:
            family = GaugeMetricFamily(
                "quorate_door_info", "The door that says this", labels=["ensemble", "door", "process"]
            )
            family.add_metric([self._ensemble, *self.door], 1)
            yield family
        yield from self._record()
        yield from self._thinned()
        yield from self._processes()
        yield from self._certificates()

    def _record(self) -> Iterable[Metric]:
        found = self.record()
        if found is not None:
            held_bytes, oldest = found
            yield self._gauge("quorate_record_bytes", "What the record holds, as far as this door sees", held_bytes)
            said = "When the record's oldest file was last written"
            yield self._gauge("quorate_record_oldest_timestamp_seconds", said, oldest)

    def _thinned(self) -> Iterable[Metric]:
        found = self.thinned_s()
        said = "How long a member has not been asked because of load"
        family = GaugeMetricFamily("quorate_member_thinned_seconds", said, labels=["ensemble", "member"])
        for member, seconds in found.items():
            family.add_metric([self._ensemble, member], seconds)
        if found:
            yield family

    def _processes(self) -> Iterable[Metric]:
        found = {} if self.processes is None else self.processes()
        said = "In whose process a member computes"
        family = GaugeMetricFamily("quorate_member_process_info", said, labels=["ensemble", "member", "process"])
        for member, process in found.items():
            family.add_metric([self._ensemble, member, process], 1)
        if found:
            yield family

    def _certificates(self) -> Iterable[Metric]:
        found = {} if self.certificates_expire is None else self.certificates_expire()
        name, said = "quorate_certificate_expiry_timestamp_seconds", "When a door's certificates cease to be valid"
        family = GaugeMetricFamily(name, said, labels=["ensemble", "file"])
        for file, expires in found.items():
            family.add_metric([self._ensemble, file], expires)
        if found:
            yield family

    def _gauge(self, name: str, said: str, value: float, label: str = "", text: str = "") -> Metric:
        labels = ["ensemble", label] if label else ["ensemble"]
        family = GaugeMetricFamily(name, said, labels=labels)
        family.add_metric([self._ensemble, text][: len(labels)], float(value))
        return family
