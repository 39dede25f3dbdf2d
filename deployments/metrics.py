"""What a fusion replica counts, for Prometheus. Label values come from the spec and fixed lists, never from clients."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from quorate.deployments.members import MemberReply

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_OUTCOMES = ("full", "degraded", "deadline", "quorum", "overloaded", "cancelled", "invalid", "error")
_REASONS = ("ok", "deadline", "dead", "error", "nonfinite", "shape", "shed")


class Metrics:
    """One registry per fusion replica; label children are looked up once, since a look-up costs more than a count."""

    def __init__(self, ensemble: str, members: Iterable[str]):
        self._registry = registry = CollectorRegistry()
        self._ensemble = ensemble
        one = ["ensemble"]
        answers = Counter("quorate_answers", "Answers by outcome", [*one, "outcome"], registry=registry)
        self._answers = {outcome: answers.labels(ensemble, outcome) for outcome in _OUTCOMES}
        labels = [*one, "member", "outcome"]
        name = "quorate_member_replies"
        self._all_replies = Counter(name, "Batches by member and outcome", labels, registry=registry)
        labels = [*one, "stage"]
        stage = Histogram("quorate_stage_seconds", "Time per stage", labels, buckets=_SECONDS, registry=registry)
        self._stages = {name: stage.labels(ensemble, name) for name in ("door", "queue", "fuse", "total")}
        labels, name = [*one, "member"], "quorate_member_inference_seconds"
        self._all_inference = Histogram(name, "Forward passes", labels, buckets=_SECONDS, registry=registry)
        rows = Histogram("quorate_batch_rows", "Rows per batch", one, buckets=_ROWS, registry=registry)
        self._batch_rows = rows.labels(ensemble)
        queued = Gauge("quorate_queued_rows", "Rows that wait for a batch", one, registry=registry)
        self.queued_rows = queued.labels(ensemble)
        labels = [*one, "member", "state"]
        self._all_health = Gauge("quorate_member_replicas", "Replicas by state", labels, registry=registry)
        self._replies: dict[tuple[str, str], Counter] = {}
        self._inference: dict[str, Histogram] = {}
        self._health: dict[tuple[str, str], Gauge] = {}
        self.know(members)

    def know(self, members: Iterable[str]) -> None:
        """Count for these members too, which a later revision brought."""
        for m in members:
            self._inference[m] = self._all_inference.labels(self._ensemble, m)
            self._replies |= {(m, reason): self._all_replies.labels(self._ensemble, m, reason) for reason in _REASONS}
            self._health |= {(m, s): self._all_health.labels(self._ensemble, m, s) for s in ("connected", "left_out")}

    def answered(self, outcome: str) -> None:
        self._answers[outcome].inc()

    def member_replied(self, member: str, reply: MemberReply) -> None:
        self._replies[member, reply.reason or "ok"].inc()
        if reply.values is not None:
            self._inference[member].observe(reply.inference_s)

    def batched(self, rows: int, waited_s: float) -> None:
        self._batch_rows.observe(rows)
        self._stages["queue"].observe(waited_s)

    def fused(self, seconds: float) -> None:
        self._stages["fuse"].observe(seconds)

    def door(self, seconds: float) -> None:
        self._stages["door"].observe(seconds)

    def total(self, seconds: float) -> None:
        self._stages["total"].observe(seconds)

    def members(self, member: str, connected: int, left_out: int) -> None:
        self._health[member, "connected"].set(connected)
        self._health[member, "left_out"].set(left_out)

    def executions(self, model: str) -> int:
        """How many batches the ensemble, or one of its members, has run."""
        name, labels = "quorate_batch_rows", {"ensemble": self._ensemble}
        if model != self._ensemble:
            name, labels["member"] = "quorate_member_inference_seconds", model
        return int(self._registry.get_sample_value(f"{name}_count", labels) or 0)

    def text(self) -> bytes:
        return generate_latest(self._registry)
