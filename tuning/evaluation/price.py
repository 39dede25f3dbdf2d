"""What an alternative costs to serve, in the unit of the metric: a gain has to be worth its milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from quorate.tuning.alternatives.recipe import Recipe


@dataclass(frozen=True)
class Cost:
    """Of one row.

    Attributes:
        latency_ms: of the slowest path through the graph, the 95th percentile of a row alone.
        device_ms: of all that computes, at the batch size that makes best use of the device.
    """

    latency_ms: float
    device_ms: float


@dataclass(frozen=True)
class Price:
    """What a millisecond counts.

    Attributes:
        per_latency_ms, per_device_ms: in the unit of the metric.
        latency_ms: by member, with what it waits for.
        device_ms: by member and by what it reads, each by itself.
        behind: the members that one reads, directly or not, itself among them.
    """

    per_latency_ms: float
    per_device_ms: float
    latency_ms: Mapping[str, float]
    device_ms: Mapping[str, float]
    behind: Mapping[str, frozenset[str]]

    def cost(self, recipe: Recipe | None, reached: Sequence[float] = ()) -> Cost:
        """Of an alternative; of one that asks nobody nothing.

        Args:
            reached: of a cascade, the share of rows that gets to each stage, of a bandit that asks the first members
                and then each set: its cost is a row's on average.
        """
        asked = () if recipe is None else recipe.asked
        stages = _stages(recipe) if recipe is not None and reached else [asked]
        bandit = recipe is not None and recipe.rule == "bandit"
        latency = device = 0.0
        computed: frozenset[str] = frozenset()
        for share, stage in zip(reached or (1.0,), stages, strict=True):
            computing = frozenset[str]().union(*(self.behind[name] for name in stage))
            latency += share * max((self.latency_ms[name] for name in stage), default=0.0)
            device += share * self._device(computing - computed)
            if not (bandit and computed):  # its sets are asked one or the other, each after the first
                computed |= computing
        return Cost(latency, device)

    def _device(self, computing: Collection[str]) -> float:
        return sum(self.device_ms[name] for name in sorted(computing))

    def of(self, cost: Cost) -> float:
        """In the unit of the metric."""
        return self.per_latency_ms * cost.latency_ms + self.per_device_ms * cost.device_ms


def _stages(recipe: Recipe) -> list[list[str]]:
    """Of a cascade, and of a bandit its first members and then its sets."""
    options = recipe.options
    return [options["first"], *options["arms"]] if recipe.rule == "bandit" else list(options["stages"])
