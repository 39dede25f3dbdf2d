"""The numbers that a rule takes from a spec, weights and thresholds, and the recipe that some of them give."""

# M members, N rows, C classes, T thresholds, D = M + T numbers searched

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.learned.cascade import Cascade
from quorate.fusion.loading import build_rule
from quorate.fusion.registry import PATTERNS, RULES
from quorate.tuning.alternatives.pools import by_name
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.rule_weights import Numbers

_THRESHOLD, _EVIDENCE = "threshold", "log_evidence"
# Rules without weights that are another's with equal ones, where nothing else is fitted that has those.
_WEIGHTED = {"majority_vote": "weighted_vote"}


def with_weights(incumbent: Recipe) -> Recipe | None:
    """The fusion as a rule that reads weights, without weights for who is there; None where it has none to fit."""
    rule = _WEIGHTED.get(incumbent.rule, incumbent.rule)
    if not RULES[rule].weighted or RULES[rule].reads == ("features",) or len(incumbent.members) < 2:
        return None
    options = {name: value for name, value in incumbent.options.items() if name != PATTERNS}
    return replace(incumbent, rule=rule, options=options)


@dataclass(frozen=True)
class RuleNumbers:
    """What is fitted of a fusion; all else of it stays.

    Attributes:
        recipe: its rule reads weights.
    """

    recipe: Recipe

    @cached_property
    def numbers(self) -> Numbers:
        """How many there are, and between which borders."""
        return Numbers(len(self.recipe.members), len(self._thresholds), RULES[self.recipe.rule].reliabilities)

    @cached_property
    def start(self) -> Floats:
        """(D,) those that the recipe has."""
        weights = self.recipe.weights
        own = np.array([1.0 if weights is None else weights.get(name, 0.0) for name in self.recipe.members])
        if not self.numbers.reliabilities:
            own = self._posterior(own / own.sum())
        given = np.concatenate([own, np.clip(self._thresholds, 0, 1)])
        return np.asarray(self.numbers.usable(given[None])[0])

    def with_numbers(self, found: Floats, said: NDArray[np.float32] | None = None) -> Recipe:
        """The recipe with these.

        Args:
            found: (D,).
            said: (M, N, C) what the rule reads of rows; of a cascade as many leave at each stage as before. Its
                thresholds stay as they are when None.
        """
        weights, thresholds = np.split(found, [len(self.recipe.members)])
        options, own = dict(self.recipe.options), by_name(self.recipe.members, self._prior(weights))
        if len(thresholds):
            given = [float(one) for one in thresholds]
            options[_THRESHOLD] = given if isinstance(options.get(_THRESHOLD), (list, tuple)) else given[0]
        if said is not None and isinstance(self._rule, Cascade):
            moved = self._rule.reweighted([own[name] for name in self.recipe.members], torch.from_numpy(said))
            options["thresholds"] = list(moved.thresholds)
        return replace(self.recipe, weights=own, options=options)

    def alone(self, member: int) -> Recipe:
        """The same of one member."""
        name = self.recipe.members[member]
        options = {
            option: {name: value[name]} if isinstance(value, Mapping) else value
            for option, value in self.recipe.options.items()
        }
        return replace(self.recipe, members=(name,), weights={name: 1.0}, options=options)

    @cached_property
    def _rule(self) -> Any:
        recipe = self.recipe
        weights = recipe.weights or dict.fromkeys(recipe.members, 1.0)
        return build_rule(recipe.rule, recipe.members, weights, recipe.options, None, recipe.classes)

    @cached_property
    def _thresholds(self) -> Floats:
        if _THRESHOLD not in RULES[self.recipe.rule].own_options:
            return np.zeros(0)
        return np.atleast_1d(np.asarray(self._rule.options[_THRESHOLD], dtype=np.float64))

    @cached_property
    def _evidence(self) -> Floats | None:
        """(M,) of model averaging, the largest 0: what members count is their weight times its exponential."""
        given = self.recipe.options.get(_EVIDENCE)
        if given is None:
            return None
        logs = np.array([given[name] for name in self.recipe.members], dtype=np.float64)
        return np.asarray(logs - logs.max())

    def _posterior(self, prior: Floats) -> Floats:
        if self._evidence is None:
            return prior
        with np.errstate(divide="ignore"):
            logs = np.log(prior) + self._evidence
        shares = np.exp(logs - logs.max())
        return np.asarray(shares / shares.sum())

    def _prior(self, posterior: Floats) -> Floats:
        if self._evidence is None:
            return posterior
        with np.errstate(divide="ignore"):
            logs = np.log(posterior) - self._evidence
        shares = np.exp(logs - logs.max())
        return np.asarray(shares / shares.sum())
