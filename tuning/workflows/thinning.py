"""What alternatives are worth with fewer members, where a spec says that fewer are asked under too much load."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from quorate.deployments.spec.fields.fusion import FusionSpec
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.thinned import fit_thinned
from quorate.tuning.evaluation.metrics.metric import RowMetric
from quorate.tuning.evaluation.metrics.row_metrics import row_metric
from quorate.tuning.evaluation.verdict import Choice


def with_thinning(
    choice: Choice, fusion: FusionSpec, judge: Outputs, by: RowMetric, device_ms: Mapping[str, float]
) -> Choice:
    """The choice, its recipes with the order in which members are left out; rules that choose whom they ask have none.

    Args:
        choice: the alternatives.
        fusion: as the spec has it.
        judge: rows to measure on.
        by: the metric that members are worth something by.
        device_ms: that a row takes at each.
    """
    metrics = [by]
    if by.task == "classification" and by.name != "accuracy":
        metrics.append(row_metric("accuracy"))
    for name, recipe in choice.recipes.items():
        known = device_ms.keys() >= set(recipe.asked)  # else it is of another ensemble, which is served now
        if RULES[recipe.rule].steered or judge.sequences is not None or not known:
            continue
        thinned = fit_thinned(
            lambda left, recipe=recipe: _measured(recipe, left, judge, metrics),  # type: ignore[misc]
            lambda found: -found[by.name] if by.higher_is_better else found[by.name],
            recipe.asked, device_ms, fusion.quorum, fusion.required,
        )  # fmt: skip
        choice = choice.with_recipe(name, replace(recipe, thinned=thinned))
        again = choice.refitted.get(name)
        if again is not None:  # what was measured says nothing of one that asks other members: it stays as judged
            same = set(again.asked) == set(recipe.asked)
            choice = choice.with_refit(name, replace(again, thinned=thinned) if same else None)
    return choice


def _measured(
    recipe: Recipe, left: Collection[str] | None, judge: Outputs, metrics: Collection[RowMetric]
) -> dict[str, float]:
    fused = recipe.fuse(judge.names, judge.probs, left)
    found = {metric.name: metric.loss(judge, fused) for metric in metrics}
    return {metric.name: -found[metric.name] if metric.higher_is_better else found[metric.name] for metric in metrics}
