"""Members as hypotheses: model averaging by evidence, model combination by stacking weights."""

# M members, B batch, C classes

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from quorate.fusion.base import Rule
from quorate.fusion.errors import MemberCountError, RuleOptionError
from quorate.fusion.rules.linear_pool import WeightedMean
from quorate.fusion.rules.weighting import WeightedRule, pool


class BayesianModelAveraging(WeightedRule):
    """The linear pool under posterior model probabilities, proportional to prior times evidence.

    Hoeting, Madigan, Raftery and Volinsky 1999, "Bayesian Model Averaging: A Tutorial", equations 1 and 2. Right where
    exactly one member is the true model; elsewhere it soon puts all weight on one member, and stacking predicts better.
    """

    name = "bayesian_model_averaging"
    linear = True

    def __init__(self, log_evidence: Sequence[float], prior: Sequence[float] | None = None):
        """Args:
            log_evidence: log p(data | member), one per member, finite; -BIC / 2 approximates it.
            prior: probability of each member before the data, finite and >= 0; None when all are equal.

        Raises:
            RuleOptionError: a number is unusable.
        """
        evidence = [float(value) for value in log_evidence]
        if not evidence or not all(math.isfinite(value) for value in evidence):
            raise RuleOptionError(self.name, "log_evidence", evidence, "give each member a finite number")
        prior_weights = WeightedRule.checked(self.name, len(evidence), prior)
        likeliest = max(e for e, p in zip(evidence, prior_weights, strict=True) if p > 0)
        posterior = [p * math.exp(min(e - likeliest, 0.0)) for e, p in zip(evidence, prior_weights, strict=True)]
        super().__init__(len(evidence), posterior)
        self.log_evidence = evidence
        self.spec_weights = None if prior is None else prior_weights

    @classmethod
    def _build(cls, members: Sequence[str], weights: list[float] | None, options: Mapping[str, Any]) -> Rule:
        """``weights`` are the prior, option ``log_evidence`` names a number for each member."""
        evidence = options.get("log_evidence")
        if not isinstance(evidence, Mapping) or set(evidence) != set(members):
            raise RuleOptionError(cls.name, "log_evidence", evidence, f"name one for each of {', '.join(members)}")
        return cls([evidence[member] for member in members], weights)

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        if len(members) != self.num_members:
            raise MemberCountError(self.num_members, len(members))
        evidence = dict(zip(members, self.log_evidence, strict=True))
        return {**super().to_spec(members), "options": {"log_evidence": evidence}}

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(outputs, shares)


class BayesianModelCombination(WeightedMean):
    """The linear pool under stacking weights: the best mixture of members rather than the best member.

    Yao, Vehtari, Simpson and Gelman 2018, "Using Stacking to Average Bayesian Predictive Distributions":
    the weights on the simplex with the highest held-out log score, which tuning solves for.
    """

    name = "bayesian_model_combination"
