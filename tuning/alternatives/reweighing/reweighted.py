"""The incumbent's rule with weights, and where it has one a threshold, that are fitted by what is compared by."""

# D numbers searched

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from quorate.deployments.spec.fields.types import Task
from quorate.tuning.alternatives.base import Kind, Outputs, answers_of
from quorate.tuning.alternatives.pools import SHRINKAGES
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.alternatives.reweighing.rule_numbers import RuleNumbers, with_weights
from quorate.tuning.alternatives.reweighing.trials import Loss, Trials, known, searched, trials
from quorate.tuning.data.folds import folds_of
from quorate.tuning.scoring import Floats

REWEIGHTED = "reweighted"
_FOLDS = 2
# Losses that are as good: the order of sums, and no more.
_SAME = 1e-12
# Metrics by which a rule's weights are among the alternatives anyway, by task, and options that are fitted with them.
_FITTED: dict[tuple[Task, str], tuple[str, ...]] = {
    ("classification", "weighted_mean"): ("log_loss",),
    ("classification", "geometric_mean"): ("log_loss",),
    ("classification", "span_vote"): ("span_f1",),
    ("multilabel", "weighted_mean"): ("log_loss", "brier"),
    ("regression", "weighted_mean"): ("rmse", "mae", "r2", "pinball", "crps"),
    ("regression", "mixture_moments"): ("crps", "nll", "rmse", "mae", "r2"),
    ("regression", "inverse_variance"): ("crps", "nll", "rmse", "mae", "r2"),
    ("quantiles", "quantile_average"): ("pinball", "crps"),
    ("ranking", "list_standard_scores"): ("ndcg",),
    ("ranking", "list_reciprocal_rank"): ("ndcg",),
}
_FITTED_TOO = {"floor", "threshold"}


@dataclass(frozen=True)
class Reweighted:
    """The same rule with the numbers that lose least, drawn back to equal weights, or to what they were, as far as that
    helps rows left out; of those that are as good the ones nearest to equal. On its rows never worse than the
    incumbent.

    Attributes:
        recipe: the incumbent, its rule one that reads weights.
        incumbent: as it is.
        loss: what is compared by.
    """

    recipe: Recipe
    incumbent: Recipe
    loss: Loss
    name: str = REWEIGHTED
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        rule = RuleNumbers(self.recipe)
        with threadpool_limits(1):  # products too small to be shared
            tried = trials(rule, outputs, self.loss, seed)
            drawn_back = _drawn_back(rule, searched(tried, rule, seed))
            return self._first_no_worse(rule, drawn_back[_preferred(rule, tried, seed)], outputs)

    def _first_no_worse(self, rule: RuleNumbers, candidates: Floats, outputs: Outputs) -> Recipe:
        """On all rows, as served."""

        def loss(recipe: Recipe) -> float:
            return known(self.loss(outputs, answers_of(recipe, outputs)))

        before, said = loss(self.incumbent), self.recipe.calibrated(outputs.names, outputs.probs)
        for one in candidates:
            recipe = rule.with_numbers(one, said)
            if loss(recipe) <= before + _SAME:
                return recipe
        # Thresholds that move with the weights may lose what the weights gained.
        return replace(self.incumbent, options=dict(self.recipe.options))


def searched_weights(recipe: Recipe, outputs: Outputs, loss: Loss, seed: int = 0) -> Recipe:
    """The recipe, of a rule that reads weights, with those that lose least on these rows, not drawn back."""
    rule = RuleNumbers(recipe)
    if len(recipe.members) < 2:
        return recipe
    with threadpool_limits(1):
        return rule.with_numbers(searched(trials(rule, outputs, loss, seed), rule, seed))


def _preferred(rule: RuleNumbers, tried: Trials, seed: int) -> NDArray[np.intp]:
    """Places in ``_drawn_back``, the best on rows left out first; of those that are as good the first."""
    outputs = tried.outputs
    losses, rows = np.zeros(2 * len(SHRINKAGES) - 1), 0
    for rest, fold in folds_of(outputs.labels, outputs.groups, outputs.times, _FOLDS, seed):
        found = searched(tried.rows(rest), rule, seed)
        losses += len(fold) * tried.rows(fold).losses(_drawn_back(rule, found))
        rows += len(fold)
    return np.argsort(np.round(losses / rows, 10), kind="stable")


def _drawn_back(rule: RuleNumbers, found: Floats) -> Floats:
    """(K, D) from equal weights on to those that were found, then on the way back to those that are served now."""
    numbers, start = rule.numbers, rule.start
    equal = numbers.towards(found, numbers.equal(found), SHRINKAGES[::-1])
    return np.concatenate([equal, numbers.towards(found, start, SHRINKAGES[1:])])


def reweighted_of(incumbent: Recipe, task: Task, metric: str, loss: Loss) -> Reweighted | None:
    """The incumbent's rule with other weights; None where it has none, or another alternative fits the same.

    Args:
        task: of what members predict, tags and tokens as classes.
    """
    recipe = with_weights(incumbent)
    if recipe is None:
        return None
    changed = set(recipe.options) - _FITTED_TOO or recipe.member_calibration or recipe.calibration or recipe.decision
    if metric.partition("@")[0] in _FITTED.get((task, recipe.rule), ()) and not changed:
        return None
    return Reweighted(recipe, incumbent, loss)
