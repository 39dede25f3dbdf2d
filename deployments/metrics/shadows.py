"""Shadow fusions for Prometheus: what a fusion replica knows of each when it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

# By the comparison's field: what is counted, over rows that were looked at.
_COUNTED = {
    "rows": ("quorate_shadow_rows", "Rows that a shadow was compared on"),
    "changed": ("quorate_shadow_changed_rows", "Rows of which a shadow says something else"),
    "apart": ("quorate_shadow_distance", "The sum over rows of how far a shadow is from the answer"),
    "failed_rows": ("quorate_shadow_failed_rows", "Rows that a shadow could not be computed on"),
    "fused_s": ("quorate_shadow_fuse_seconds", "What shadows have taken of the thread that answers"),
}  # fmt: skip
_LEFT_OUT = {"dropped_rows": "busy", "given_up_rows": "loaded"}


class ShadowMetrics(Collector):
    """All series of one replica's shadows; none where there are no shadows.

    Attributes:
        report: how they compare, as ``ShadowFusions.report`` says it.
    """

    def __init__(self, ensemble: str):
        self._ensemble = ensemble
        self.report: Callable[[], Mapping[str, Any]] | None = None

    def collect(self) -> Iterable[Metric]:
        told = {} if self.report is None else self.report()
        shadows = {name: one for name, one in told.get("shadows", {}).items() if not one["refused"]}
        if not shadows:
            return
        yield from self._compared(shadows)
        yield from self._judged(shadows)
        yield from self._asked(shadows)
        left_out = CounterMetricFamily(
            "quorate_shadow_left_out_rows", "Rows that shadows were not computed on", labels=["ensemble", "reason"]
        )
        for what, reason in _LEFT_OUT.items():
            left_out.add_metric([self._ensemble, reason], told[what])
        yield left_out

    def _compared(self, shadows: Mapping[str, Any]) -> Iterable[Metric]:
        labels = ["ensemble", "shadow", "output"]
        for what, (name, said) in _COUNTED.items():
            family = CounterMetricFamily(name, said, labels=labels)
            for shadow, one in shadows.items():
                for output, compared in one["outputs"].items():
                    family.add_metric([self._ensemble, shadow, output], compared[what])
            yield family

    def _judged(self, shadows: Mapping[str, Any]) -> Iterable[Metric]:
        labels = ["ensemble", "shadow", "output"]
        rows = CounterMetricFamily(
            "quorate_shadow_judged_rows", "Labelled rows that a shadow was judged by", labels=labels
        )
        said = "How much less a shadow loses on a labelled row; bounds hold at all looks together"
        gain = GaugeMetricFamily("quorate_shadow_gain", said, labels=[*labels, "metric", "bound"])
        for shadow, one in shadows.items():
            for output, judged in one["judged"].items():
                whose = [self._ensemble, shadow, output]
                rows.add_metric(whose, judged["rows"])
                bounds = {"mean": judged["gain"], "least": judged["least"], "most": judged["most"]}
                for bound, value in bounds.items():
                    if value is not None:
                        gain.add_metric([*whose, judged["metric"], bound], value)
        yield from (rows, gain)

    def _asked(self, shadows: Mapping[str, Any]) -> Iterable[Metric]:
        labels = ["ensemble", "shadow", "member"]
        said = "Rows that members were asked about for a shadow alone, by what became of them"
        rows = CounterMetricFamily("quorate_shadow_member_rows", said, labels=[*labels, "outcome"])
        said = "What members took to reply that were asked for a shadow alone"
        seconds = SummaryMetricFamily("quorate_shadow_member_reply_seconds", said, labels=labels)
        for shadow, one in shadows.items():
            for member, calls in one.get("asks", {}).items():
                whose, failed = [self._ensemble, shadow, member], calls["failed"]
                outcomes = {"ok": calls["rows"] - sum(failed.values()), **failed}
                for outcome, count in outcomes.items():
                    rows.add_metric([*whose, outcome], count)
                seconds.add_metric(whose, calls["replies"], calls["seconds"])
        yield from (rows, seconds)
