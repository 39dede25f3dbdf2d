"""A cascade instead of an ensemble: nearly as often right, and most rows ask few members.

Members and weights are those of a linear pool, stages are chosen on the rows it was fitted on, and thresholds on the
rows that judge, by tests that a stated loss of accuracy is not exceeded on new rows (``risk_control``).
"""

# M members, N solving rows, J judging rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.learned.cascade import NEVER, Cascade, fit_cascade
from quorate.tuning.alternatives.base import Kind, Outputs, answers_of, recipe_of
from quorate.tuning.alternatives.out_of_sample import Numbers, OutOfSample
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.errors import TuningError

CASCADE = "cascade"
Stages = list[list[str]]


@dataclass(frozen=True)
class Cascaded:
    """The alternative, and what is known of it.

    Attributes:
        beside: what it is compared with: the name of what would be served instead.
        max_loss, confidence: what was tested.
        lost: of accuracy, on judging rows that thresholds were not fitted on.
        asks: members a row on average, on all judging rows.
        members: M.
        name: a cascade, or a bandit.
    """

    beside: str
    max_loss: float
    confidence: float
    lost: float
    asks: float
    members: int
    name: str = CASCADE
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        raise TuningError(self.name, "it is made of another alternative", "fit it with fit_cascaded")

    def sentence(self) -> str:
        """What it promises and costs."""
        return (
            f"{self.name} asks {self.asks:.2f} of {self.members} members a row and has at most {self.max_loss:.2%} "
            f"less accuracy than {self.beside} with probability {self.confidence:g}; fitted on other rows it had "
            f"{self.lost:+.2%} less"
        )


def can_be_cascaded(recipe: Recipe | None) -> bool:
    """A linear pool of several members, and nothing after it."""
    if recipe is None or recipe.rule not in ("mean", "weighted_mean") or len(recipe.asked) < 2:
        return False
    return recipe.calibration is None and recipe.decision is None


def fit_cascaded(
    pool: OutOfSample, beside: OutOfSample, solve: Outputs, judge: Outputs, numbers: Numbers, risk: Risk,
    costs: Mapping[str, float] | None = None, seed: int = 0,
) -> OutOfSample:  # fmt: skip
    """Fit it; its answers to judging rows are by thresholds of their other half.

    Args:
        pool: whose members and weights it has; see ``can_be_cascaded``.
        beside: what it is not to lose more than ``risk.max_loss`` against.
        solve, judge: the rows that both were fitted on, and others.
        numbers: of a metric.
        costs: of a row by member; each costs the same when None.
        seed: of halves, and of the order in which rows are bet on.

    Raises:
        TuningError: no threshold passes the test.
    """
    recipe = recipe_of(pool.fitted)
    assert recipe is not None
    assert risk.max_loss is not None
    linear = asked_only(recipe)
    fit = _Fit(linear, risk.max_loss, risk.confidence, seed)
    stages = fit.stages(_read(linear, solve), torch.from_numpy(solve.labels), costs)
    read, labels = _read(linear, judge), torch.from_numpy(judge.labels)
    right = torch.from_numpy(answers_of(beside.fitted, judge).argmax(axis=1) == judge.labels)
    whole = fit.proven(stages, read, labels, right)
    if not _leaves(whole):
        found = f"no threshold is shown to lose at most {risk.max_loss:g} with probability {risk.confidence:g}"
        raise TuningError(CASCADE, f"{found} on {len(judge)} rows", "give more rows, or allow a larger loss")
    reached = whole.reached(read)
    fused, lost = _checked(fit, stages, read, labels, right)
    asks = sum(share * len(stage) for share, stage in zip(reached, stages, strict=True))
    alternative = Cascaded(
        beside.alternative.name, risk.max_loss, risk.confidence, lost, asks, len(linear.members)
    )  # fmt: skip
    made = _recipe(linear, whole)
    return OutOfSample(
        alternative, made, _solving(made, pool, solve, numbers), numbers(judge, fused), [], tuple(reached)
    )  # fmt: skip


def cascade_cost(
    pool: Recipe, solve: Outputs, risk: Risk, costs: Mapping[str, float] | None = None
) -> float:  # fmt: skip
    """What a row costs on solving rows, of what all members cost: thresholds of one half of them, counted on the other.

    Arguments are those of ``fit_cascaded``.
    """
    linear = asked_only(pool)
    fit = _Fit(linear, risk.max_loss or 0.0, risk.confidence, 0)
    price = dict.fromkeys(linear.members, 1.0) if costs is None else costs
    fitted, other = (solve.rows(slice(start, None, 2)) for start in (0, 1))
    read, labels = _read(linear, fitted), torch.from_numpy(fitted.labels)
    stages = fit.stages(read, labels, costs)
    rule = fit_cascade(linear.members, stages, read, labels, max_loss=fit.max_loss, weights=fit._weights)
    reached = zip(rule.reached(_read(linear, other)), stages, strict=True)
    paid = sum(share * sum(price[name] for name in stage) for share, stage in reached)
    return paid / sum(price[name] for name in linear.members)


@dataclass(frozen=True)
class _Fit:
    """How thresholds are fitted."""

    linear: Recipe
    max_loss: float
    confidence: float
    seed: int

    def proven(self, stages: Stages, read: Tensor, labels: Tensor, right: Tensor) -> Cascade:
        return fit_cascade(
            self.linear.members, stages, read, labels, max_loss=self.max_loss, weights=self._weights,
            confidence=self.confidence, beside=right, seed=self.seed,
        )  # fmt: skip

    def stages(self, read: Tensor, labels: Tensor, costs: Mapping[str, float] | None) -> Stages:
        """The cheapest of: one member before all others, and a second one by itself after the best of these."""
        names = self.linear.members
        price = dict.fromkeys(names, 1.0) if costs is None else costs

        def cost(stages: Stages) -> float:
            rule = fit_cascade(names, stages, read, labels, max_loss=self.max_loss, weights=self._weights)
            shares = zip(rule.reached(read), stages, strict=True)
            return sum(share * sum(price[name] for name in stage) for share, stage in shares)

        two = min(([[first], _without(names, [first])] for first in names), key=cost)
        three = [[*two[:1], [second], _without(two[1], [second])] for second in two[1] if len(two[1]) > 1]
        return min([two, *three], key=cost)

    @property
    def _weights(self) -> list[float] | None:
        weights = self.linear.weights
        return None if weights is None else [weights[name] for name in self.linear.members]


def _without(names: Sequence[str], some: Sequence[str]) -> list[str]:
    return [name for name in names if name not in some]


def asked_only(recipe: Recipe) -> Recipe:
    """A linear pool without the members of weight 0: a stage of them would decide nothing."""
    weights = None if recipe.weights is None else {name: recipe.weights[name] for name in recipe.asked}
    calibration = {name: one for name, one in recipe.member_calibration.items() if name in recipe.asked}
    return Recipe("weighted_mean", recipe.asked, weights, member_calibration=calibration)


def _read(linear: Recipe, outputs: Outputs) -> Tensor:
    return torch.from_numpy(linear.calibrated(outputs.names, outputs.probs))


def _leaves(rule: Cascade) -> bool:
    return min(rule.thresholds) < NEVER


def _recipe(linear: Recipe, rule: Cascade) -> Recipe:
    return replace(linear, rule=CASCADE, options=dict(rule.options))


def _checked(
    fit: _Fit, stages: Stages, read: Tensor, labels: Tensor, right: Tensor
) -> tuple[NDArray[np.float32], float]:
    """(J, C) answers of each half by what was fitted on the other, and what they lose of accuracy."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(fit.seed))
    halves = order[::2].sort().values, order[1::2].sort().values
    fused = torch.empty(read.shape[1:])
    for fitted, other in (halves, halves[::-1]):
        rule = fit.proven(stages, read[:, fitted], labels[fitted], right[fitted])
        fused[other] = rule.fuse(read[:, other]).values
    answered = fused.argmax(dim=1) == labels
    return fused.numpy(), float((right.float() - answered.float()).mean())


def _solving(made: Recipe, pool: OutOfSample, solve: Outputs, numbers: Numbers) -> NDArray[np.float64]:
    """Of solving rows: by the pool without their fold, thresholds being those of other rows anyway."""
    found = np.full_like(pool.solving, np.nan)
    for part in pool.parts:
        recipe, held_out = recipe_of(part.fitted), solve.rows(part.fold)
        assert recipe is not None
        given = recipe.weights
        own_weights = None if given is None else {name: given.get(name, 0.0) for name in made.members}
        calibration = {name: one for name, one in recipe.member_calibration.items() if name in made.members}
        if own_weights is not None and not sum(own_weights.values()) > 0:  # this fold left these members nothing
            own_weights = dict(made.weights or {})
        own = replace(made, weights=own_weights, member_calibration=calibration)
        found[part.fold] = numbers(held_out, own.fuse(held_out.names, held_out.probs))
    return found
