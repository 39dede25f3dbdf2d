"""What learning online has come to, for Prometheus: every door of an ensemble says the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

# By what the regret is against; the names of members are in the report alone.
_AGAINST = {"best member": "member", "best fixed mixture": "mixture"}


def online_metrics(ensemble: str, report: Mapping[str, Any]) -> Iterator[Metric]:
    """Series of what ``at_doors`` gave."""
    last = [(one["output"], one["last"]) for one in report["outputs"] if one["last"] is not None]
    labels = _gauge("quorate_online_labels", "Labels that weights have learned from", "output")
    for one in report["outputs"]:
        labels.add_metric([ensemble, one["output"]], one["labels"])
    yield labels
    regret = _gauge("quorate_online_regret", "Loss of learned weights above that of a rival", "output", "against")
    bound = _gauge("quorate_online_regret_bound", "What it can be at most", "output", "against")
    weights = _gauge("quorate_online_weight", "Weights that were learned", "output", "member")
    for output, stands in last:
        for rival in stands["rivals"]:
            against = _AGAINST.get(rival["name"].partition(",")[0], "pinned")
            regret.add_metric([ensemble, output, against], rival["regret"])
            bound.add_metric([ensemble, output, against], rival["bound"])
    members = {one["output"]: one["members"] for one in report["outputs"]}
    for output, stands in last:
        for member, weight in zip(members[output], stands["weights"], strict=True):
            weights.add_metric([ensemble, output, member], weight)
    yield from (regret, bound, weights)
    yield from _of_bandits(ensemble, report)
    called = _gauge(
        "quorate_online_relabelled", "Classes that are answered as others", "output", "class", "answered_as"
    )
    for one in report["outputs"]:
        for told in one["relabelled"]:
            for name, share in told["answered_as"].items():
                called.add_metric([ensemble, one["output"], told["class"], name], share)
    if called.samples:
        yield called
    changes = CounterMetricFamily(
        "quorate_online_changes", "Weights and bandits that went live by themselves", labels=["ensemble", "what"]
    )
    changes.add_metric([ensemble, "published"], report["published"])
    changes.add_metric([ensemble, "taken_back"], report["rolled_back"])
    yield changes
    when = _gauge("quorate_online_change_timestamp_seconds", "When that last happened", "what")
    latest = {one["taken_back"]: one["time_us"] for one in report["told"]}
    for taken_back, time_us in latest.items():
        when.add_metric([ensemble, "taken_back" if taken_back else "published"], time_us / 1e6)
    if latest:
        yield when


def _of_bandits(ensemble: str, report: Mapping[str, Any]) -> Iterator[Metric]:
    policies = [(one["output"], one["policy"]) for one in report["outputs"] if one.get("policy")]
    if not policies:
        return
    asked = _gauge("quorate_online_members_asked", "Members asked of a row, over the latest labels", "output", "by")
    right = _gauge("quorate_online_accuracy", "How often answers are right, over the latest labels", "output", "of")
    gain = _gauge("quorate_online_gain", "In being right less the price of what is asked", "output", "bound")
    for output, policy in policies:
        asked.add_metric([ensemble, output, "live"], policy["asked"])
        asked.add_metric([ensemble, output, "learned"], policy["learned_asks"])
        accuracy = {"answered": policy["accuracy"], "learned": policy["learned"], "everybody": policy["everyone"]}
        for of, value in {**accuracy, "floor": policy["everyone"] - policy["max_loss"]}.items():
            right.add_metric([ensemble, output, of], value)
        for which, value in zip(("mean", "least", "most"), policy["gain"] or (), strict=False):
            gain.add_metric([ensemble, output, which], value)
    yield from (asked, right, gain)


def _gauge(name: str, said: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, said, labels=["ensemble", *labels])
