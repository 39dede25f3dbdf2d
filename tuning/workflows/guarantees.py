"""Thresholds of what alternatives promise, from the rows that a choice was judged on: of sets and intervals, and those
below which answers abstain.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

from quorate.fusion.calibration.conformal import Columns
from quorate.fusion.registry import RULES
from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.alternatives.guarantee import Fit, fit_guarantee, scales_of
from quorate.tuning.alternatives.patterns import sets_left
from quorate.tuning.alternatives.promises.rejected import Rejected, fit_rejected
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.errors import TuningError
from quorate.tuning.evaluation.verdict import Choice


@dataclass(frozen=True)
class Promised:
    """What is asked of answers; a coverage that is no share is a TuningError.

    Attributes:
        coverage: the probability that the truth is in a row's set, or interval.
        by_class: for the rows of each class.
    """

    coverage: float
    by_class: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            fix = "give a share above 0 and below 1, such as 0.9"
            raise TuningError("coverage", f"{self.coverage:g}", fix)


def with_guarantees(
    choice: Choice,
    solve: Outputs,
    judge: Outputs,
    promised: Promised | None,
    labels: bool = False,
    quorum: int = 1,
    required: Collection[str] = (),
    seed: int = 0,
) -> Choice:
    """The choice, its recipes with thresholds; as it is where nothing is asked.

    A rule that asks other members in each row, or that decides, promises nothing.

    Args:
        choice: the alternatives.
        solve: rows that several values take their scales from.
        judge: rows that thresholds are fitted on.
        promised: what is asked.
        labels: each column holds or not by itself.
        quorum, required: which sets of members are ever fused.
        seed: of the halves that coverage is checked on.

    Raises:
        TuningError: rows of lists or tokens, that count differently, or too few.
    """
    if promised is None:
        return choice
    if judge.lists:
        raise TuningError("coverage", "scores of a ranking", "leave it out: it is promised for classes and values")
    if promised.by_class and judge.of_values and not labels:
        raise TuningError("by_class", "values, which have no classes", "leave it out")
    if judge.sequences is not None:
        raise TuningError("coverage", "tokens of sequences", "leave it out: it is promised for rows that stand alone")
    if judge.weights is not None:
        found = "rows that count differently"
        raise TuningError("coverage", found, "leave the weights out: it is promised for rows that are drawn alike")
    choice = choice.as_judged("coverage is promised from judging rows, which answers are not to be fitted on")
    for name, recipe in choice.recipes.items():
        if RULES[recipe.rule].steered or RULES[recipe.rule].decides:
            continue
        columns = _columns(judge, labels)
        scales = None
        if columns == "values" and judge.truth.shape[1] > 1:
            scales = scales_of(recipe.fuse(solve.names, solve.probs), solve.truth)
        guarantee = fit_guarantee(
            partial(recipe.fuse, judge.names, judge.probs),
            judge.labels,
            recipe.asked,
            sets_left(recipe.asked, quorum, required),
            Fit(columns, promised.coverage, promised.by_class, scales),
            seed,
        )
        choice = choice.with_recipe(name, replace(recipe, guarantee=guarantee))
    return choice


def _columns(judge: Outputs, labels: bool) -> Columns:
    if not judge.of_values:
        return "classes"
    if labels:
        return "labels"
    return "moments" if judge.moments else "quantiles" if judge.levels else "values"


def with_rejections(choice: Choice, judge: Outputs, risk: Risk | None, seed: int = 0) -> Choice:
    """The choice, its recipes with a decision to abstain; as it is where nothing is asked.

    Alternatives of which nothing can be shown, or whose rule decides by itself, keep on answering all rows.

    Args:
        choice: the alternatives.
        judge: rows that thresholds are fitted on, which ``check_risk`` has passed.
        risk: what is asked.
        seed: of the halves that it is checked on.

    Raises:
        TuningError: nothing can be shown of what is recommended.
    """
    if risk is None or risk.max_error is None:
        return choice
    found: dict[str, Rejected] = {}
    for name, recipe in choice.recipes.items():
        if RULES[recipe.rule].decides:
            continue
        made = fit_rejected(answers_of(recipe, judge), judge.labels, risk.max_error, risk.confidence, seed)
        if made is not None:
            found[name] = made
            choice = choice.with_recipe(name, replace(recipe, decision=made.decision))
    if choice.recommended in choice.recipes and choice.recommended not in found:
        shown = f"no threshold of {choice.recommended} is shown to answer with at most {risk.max_error:g} errors"
        said = f"{shown} with probability {risk.confidence:g} on {len(judge)} rows"
        raise TuningError("max_error", said, "give more rows, or allow more errors")
    return replace(choice, rejected=found)


def guarantee_lines(choice: Choice) -> list[str]:
    """A sentence about what is recommended; none where nothing was asked."""
    recipe = choice.recipes.get(choice.recommended)
    if recipe is None or recipe.guarantee is None:
        return []
    return [recipe.guarantee.sentence()]


def guarantee_report(choice: Choice) -> dict[str, dict[str, float]]:
    """What was promised and found, by alternative."""
    return {
        name: {"coverage": one.coverage, "covered": one.checked, "size": one.size}
        for name, recipe in choice.recipes.items()
        if (one := recipe.guarantee) is not None
    }
