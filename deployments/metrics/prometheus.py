"""What a fusion replica counts, for Prometheus. Label values come from the spec and fixed lists, never from clients."""

from __future__ import annotations

import os
from collections import Counter as Counts
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from quorate.deployments.metrics.counters import Counter, CounterChild, Histogram, HistogramChild
from quorate.deployments.metrics.drift import Drift
from quorate.deployments.metrics.drift_alarms import DriftAlarms
from quorate.deployments.metrics.server_state import ServerState
from quorate.deployments.metrics.shadows import ShadowMetrics
from quorate.deployments.routing.reply import MemberReply
from quorate.deployments.transport.row_state import LAST_OF_REPLICA, RowState
from quorate.deployments.wire.feedback import VERDICTS

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_STAGES = ("door", "queue", "member", "fuse")
_RECORDED = ("kept", "dropped_slow", "dropped_store")
_ERRORS = ("deadline", "quorum", "overloaded", "cancelled", "invalid", "error")
# An answer may lack members for several reasons: it is counted under the first of these.
_REASONS = ("dead", "deadline", "shed", "quarantined", "error", "nonfinite", "shape")
_HEALTH = ("connected", "left_out")
_REPLIES = ("ok", "partial", *_REASONS)
_OF_ROWS = (*(state for state in RowState if RowState.OK < state <= LAST_OF_REPLICA), RowState.QUARANTINED)
_ROW_REASONS = {state: state.reason for state in _OF_ROWS}


TEXT, OPEN_METRICS = "text/plain; version=0.0.4; charset=utf-8", openmetrics.CONTENT_TYPE_LATEST


class Metrics:
    """One registry per fusion replica; label children are looked up once, since a look-up costs more than a count.

    Attributes:
        drift: what a row in a while shows, and ``drift_alarms`` what has drifted from a reference.
        shadows: how shadow fusions compare, when Prometheus asks.
        state: how the server is when Prometheus asks.
    """

    def __init__(self, ensemble: str, members: Iterable[str], outputs: Iterable[str] = (), share_port: bool = False):
        """Args:
        outputs: of several, each is counted by itself too.
        share_port: other processes answer at the same port, and Prometheus meets one at a time: each series then says
            whose it is (``pid``), or a counter would seem to jump back and forth.
        """
        self._registry = registry = CollectorRegistry()
        self._shown: Any = _OfProcess(registry) if share_port else registry  # whatever collects will do
        self._ensemble = ensemble
        one = ["ensemble"]
        name, labels = "quorate_requests", [*one, "outcome", "reason"]
        answers = Counter(name, "Requests by what became of them", labels)
        self._answers = {("full", ""): answers.labels(ensemble, "full", "")}
        self._answers |= {("degraded", reason): answers.labels(ensemble, "degraded", reason) for reason in _REASONS}
        self._answers |= {("error", kind): answers.labels(ensemble, "error", kind) for kind in _ERRORS}
        labels = [*one, "output", "outcome", "reason"]
        of_outputs = Counter("quorate_output_answers", "What became of each of several outputs", labels)
        self._of_outputs = {
            output: {key: of_outputs.labels(ensemble, output, *key) for key in self._answers} for output in outputs
        }
        name, labels = "quorate_member_replies", [*one, "member", "outcome"]
        self._all_replies = Counter(name, "Batches by member and outcome", labels)
        name, labels = "quorate_member_failed_rows", [*one, "member", "reason"]
        self._all_failed_rows = Counter(name, "Rows of answered batches that were no use", labels)
        stages = Histogram("quorate_stage_seconds", "Time per stage", [*one, "stage"], _SECONDS)
        self._stages = {name: stages.labels(ensemble, name) for name in _STAGES}
        self._all_inference = Histogram(
            "quorate_member_inference_seconds", "Forward passes", [*one, "member"], _SECONDS
        )
        requests = Histogram("quorate_request_seconds", "From the door to the answer", one, _SECONDS)
        self._requests = requests.labels(ensemble)
        rows = Histogram("quorate_batch_rows", "Rows per batch", one, _ROWS)
        self._batch_rows = rows.labels(ensemble)
        name, labels = "quorate_recorded_answers", [*one, "outcome"]
        recorded = Counter(name, "Answers that were to be recorded, by what became of them", labels)
        self._recorded = {outcome: recorded.labels(ensemble, outcome) for outcome in _RECORDED}
        given = Counter("quorate_labels", "Labels for answers, by what became of them", [*one, "verdict"])
        self._labels = {verdict: given.labels(ensemble, verdict) for verdict in VERDICTS}
        of_members = (self._all_replies, self._all_failed_rows, self._all_inference)
        for collector in (answers, of_outputs, requests, stages, rows, recorded, given, *of_members):
            registry.register(collector)
        ProcessCollector(registry=registry)
        self.drift, self.drift_alarms = Drift(ensemble, registry), DriftAlarms(ensemble, registry)
        self.state, self.shadows = ServerState(ensemble), ShadowMetrics(ensemble)
        registry.register(self.state)
        registry.register(self.shadows)
        labels = [*one, "member", "state"]
        self._all_health = Gauge("quorate_member_replicas", "Replicas by state", labels, registry=registry)
        self._replies: dict[tuple[str, str], CounterChild] = {}
        self._failed_rows: dict[tuple[str, RowState], CounterChild] = {}
        self._inference: dict[str, HistogramChild] = {}
        self._health: dict[tuple[str, str], Gauge] = {}
        self.know(members)

    def know(self, members: Iterable[str]) -> None:
        """Count for these members too, which a later revision brought."""
        members = list(members)
        self.drift.know(members)
        for m in members:
            self._inference[m] = self._all_inference.labels(self._ensemble, m)
            self._replies |= {(m, reply): self._all_replies.labels(self._ensemble, m, reply) for reply in _REPLIES}
            for status, reason in _ROW_REASONS.items():
                self._failed_rows[m, status] = self._all_failed_rows.labels(self._ensemble, m, reason)
            self._health |= {(m, s): self._all_health.labels(self._ensemble, m, s) for s in _HEALTH}

    def forget(self, member: str) -> None:
        """Count no more for a member that no revision asks: its series would stay for ever.

        Of one that only shadows have asked there are none.
        """
        if member not in self._inference:
            return
        self._inference.pop(member)
        self.drift.forget(member)
        self._all_inference.remove(self._ensemble, member)
        for reply in _REPLIES:
            del self._replies[member, reply]
            self._all_replies.remove(self._ensemble, member, reply)
        for status, reason in _ROW_REASONS.items():
            del self._failed_rows[member, status]
            self._all_failed_rows.remove(self._ensemble, member, reason)
        for state in _HEALTH:
            del self._health[member, state]
            self._all_health.remove(self._ensemble, member, state)

    def answered(self, outcome: str, missing: Collection[str] = ()) -> None:
        """Count a request that ended.

        Args:
            outcome: "full", "degraded", or the kind of its error.
            missing: why members are missing from a degraded answer.
        """
        self._answers[_key(outcome, missing)].value += 1

    def output_answered(self, output: str, outcome: str, missing: Collection[str] = ()) -> None:
        """Count one of several outputs of a request that ended; arguments are those of ``answered``."""
        self._of_outputs[output][_key(outcome, missing)].value += 1

    def member_replied(self, member: str, reply: MemberReply) -> None:
        if member not in self._inference:
            return  # it was forgotten while somebody still waited for it
        if reply.values is None or reply.status is None:
            self._replies[member, reply.reason].value += 1
            return
        self._inference[member].observe(reply.inference_s)
        self._stages["member"].observe(reply.latency_s)
        if reply.failed_rows:
            self._count_failed(member, reply.status)
        else:
            self._replies[member, "ok"].value += 1

    def members_replied(self, replies: Mapping[str, MemberReply]) -> None:
        """The same of several members that have replied at one time."""
        at_once = next(iter(replies.values())).latency_s
        good = 0
        for member, reply in replies.items():
            if reply.failed_rows or reply.values is None or reply.latency_s != at_once or member not in self._inference:
                self.member_replied(member, reply)
                continue
            self._inference[member].observe(reply.inference_s)
            self._replies[member, "ok"].value += 1
            good += 1
        self._stages["member"].observe(at_once, times=good)

    def _count_failed(self, member: str, status: NDArray[np.uint8]) -> None:
        rows = Counts(RowState(int(row)) for row in status)
        outcome = "partial" if rows[RowState.OK] else _ROW_REASONS[RowState(int(status[0]))]
        self._replies[member, outcome].value += 1
        for state in _ROW_REASONS:
            self._failed_rows[member, state].value += rows[state]

    def recorded(self, outcome: str, answers: int) -> None:
        """Count answers that were to be recorded; one thread alone counts those of an outcome.

        Args:
            outcome: ``kept``, ``dropped_slow`` where the store was too slow, ``dropped_store`` where it took none.
        """
        self._recorded[outcome].value += answers

    def labelled(self, verdict: str, labels: int) -> None:
        """Count labels with one of ``VERDICTS``; one thread alone does."""
        self._labels[verdict].value += labels

    def batched(self, rows: int, waited_s: float) -> None:
        self._batch_rows.observe(rows)
        self._stages["queue"].observe(waited_s)

    def fused(self, seconds: float) -> None:
        self._stages["fuse"].observe(seconds)

    def door(self, seconds: float) -> None:
        self._stages["door"].observe(seconds)

    def total(self, seconds: float, trace_id: str = "") -> None:
        """Count how long an answer took.

        Args:
            trace_id: that it is an example of; empty where its trace is not kept anywhere.
        """
        self._requests.observe(seconds, trace_id)

    def members(self, member: str, connected: int, left_out: int) -> None:
        self._health[member, "connected"].set(connected)
        self._health[member, "left_out"].set(left_out)

    def inference_s(self, member: str) -> float:
        """Seconds that a forward pass of a member has taken on average; 0 before the first."""
        passes = self._inference.get(member)
        return 0.0 if passes is None else passes.total / max(sum(passes.counts), 1)

    def executions(self, model: str) -> int:
        """How many batches the ensemble, or one of its members, has run."""
        name, labels = "quorate_batch_rows", {"ensemble": self._ensemble}
        if model != self._ensemble:
            name, labels["member"] = "quorate_member_inference_seconds", model
        return int(self._registry.get_sample_value(f"{name}_count", labels) or 0)

    def text(self) -> bytes:
        """In the text format, ``TEXT``."""
        return generate_latest(self._shown)

    def open_metrics(self) -> bytes:
        """In the format ``OPEN_METRICS``, which has exemplars too."""
        found: bytes = openmetrics.generate_latest(self._shown)  # type: ignore[no-untyped-call]
        return found


class _OfProcess(Collector):
    """Another's metrics, each with the number of this process."""

    def __init__(self, registry: CollectorRegistry):
        self._registry, self._own = registry, {"pid": str(os.getpid())}

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample._replace(labels={**sample.labels, **self._own}) for sample in family.samples]
            yield family


def _key(outcome: str, missing: Collection[str]) -> tuple[str, str]:
    """Outcome and reason."""
    if outcome == "degraded":
        return outcome, min(missing, key=_REASONS.index)
    return ("full", "") if outcome == "full" else ("error", outcome)
