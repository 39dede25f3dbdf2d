"""What has drifted now, and what came of looking; see ``deployments/learning/drift``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from quorate.deployments.metrics.counters import Counter

_LOOKED, _SENT = ("watched", "dropped"), ("sent", "failed")
# Output, member (empty of the answers) and kind of statistic.
Key = tuple[str, str, str]


class DriftAlarms(Collector):
    """Counts of one replica; nothing is shown where nothing is watched."""

    def __init__(self, ensemble: str, registry: CollectorRegistry):
        self._ensemble, self._now = ensemble, dict[Key, int]()
        of = ["ensemble", "output", "member", "statistic"]
        self._raised = Counter("quorate_drift_alarms", "How often a member, or the answers, began to be others", of)
        self._answers = Counter(
            "quorate_drift_answers", "Answers that drift was looked for in", ["ensemble", "outcome"]
        )
        self._calls = Counter("quorate_drift_webhooks", "Calls of the webhook for alarms", ["ensemble", "outcome"])
        for one in (self, self._raised, self._answers, self._calls):
            registry.register(one)

    def watch(self, keys: Iterable[Key]) -> None:
        """Show these and no others from now on: what is watched."""
        before = self._now
        self._now = {key: before.get(key, 0) for key in keys}
        for key in self._now:
            self._raised.labels(self._ensemble, *key)
        for key in before.keys() - self._now.keys():
            self._raised.remove(self._ensemble, *key)
        for outcome in _LOOKED:
            self._answers.labels(self._ensemble, outcome)
        for outcome in _SENT:
            self._calls.labels(self._ensemble, outcome)

    def now(self, output: str, drifted: Mapping[tuple[str, str], int]) -> None:
        """What has drifted of an output: by member and kind, how many statistics."""
        known = self._now
        for key, before in known.items():
            if key[0] == output:
                count = drifted.get(key[1:], 0)
                self._raised.labels(self._ensemble, *key).value += max(count - before, 0)
                known[key] = count

    def looked(self, outcome: str, answers: int) -> None:
        """Count answers: ``watched``, or ``dropped`` since there was no time; one thread alone counts an outcome."""
        self._answers.labels(self._ensemble, outcome).value += answers

    def called(self, outcome: str) -> None:
        """Count a call of the webhook: ``sent`` or ``failed``."""
        self._calls.labels(self._ensemble, outcome).value += 1

    def collect(self) -> Iterable[Metric]:
        name, said = "quorate_drift", "Statistics that are others than in the reference"
        family = GaugeMetricFamily(name, said, labels=["ensemble", "output", "member", "statistic"])
        for key, count in self._now.copy().items():
            family.add_metric([self._ensemble, *key], count)
        yield family
