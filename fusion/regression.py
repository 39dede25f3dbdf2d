"""Rules for members that predict numbers: point predictions, means with variances, or quantiles."""

# M members, B batch, F numbers; with variances, F = 2 K: first K means, then their K variances

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quorate.fusion.base import Fused
from quorate.fusion.errors import QuorumError, ShapeError
from quorate.fusion.order_statistics import median
from quorate.fusion.summation import weighted_sum
from quorate.fusion.weighting import WeightedRule, pool

# Kept beyond float32 in sums that are divided by one another.
_GUARD_BITS = 8


class RegressionMedian(WeightedRule):
    """The median of the members' numbers; half of them may be far off without moving it far."""

    name = "regression_median"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return median(outputs, present)


class QuantileAverage(WeightedRule):
    """The (weighted) mean of the members' quantiles, level by level (Vincent 1912; Ratcliff 1979, "Vincentizing").

    A member whose quantiles cross is sorted first (Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and
    Probability Curves Without Crossing"), so the fused quantiles never cross.
    """

    name = "quantile_average"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        ascending = bool((outputs[..., 1:] >= outputs[..., :-1]).all())
        return pool(outputs if ascending else outputs.sort(dim=-1).values, shares)


class InverseVariance(WeightedRule):
    """Independent measurements of one number, each counting by its precision; gives the mean and its variance.

    Mean = sum of w m / v over sum of w / v, variance = 1 / sum of w / v (Cochran 1937), with weights w scaled to have
    mean 1 over those that answered. A row with a variance of 0 or less counts as absent.
    """

    name = "inverse_variance"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        means, variances = split_moments(outputs)
        present = present & (variances > 0).all(dim=-1)
        if not bool(present.any(dim=0).all()):
            raise QuorumError("one member with variances above 0 in every row", "a row without any")
        shares, coverage = self._rescaled(present)
        weights = shares * (shares > 0).sum(dim=0)
        kept = present.unsqueeze(-1)
        precision = 1 / torch.where(kept, variances, 1.0).double()  # the absent weigh 0
        total = weighted_sum(weights, precision, _GUARD_BITS)
        values = torch.cat([weighted_sum(weights, precision * means, _GUARD_BITS) / total, 1 / total], dim=-1)
        contributions = weights * (precision / total.detach()).mean(dim=-1)
        return Fused(values.float(), contributions.float(), coverage)

    def _fuse_complete(self, outputs: Tensor) -> Fused:
        return self._fuse(outputs, torch.ones(outputs.shape[:2], dtype=torch.bool, device=outputs.device))


class MixtureMoments(WeightedRule):
    """Mean and variance of the (weighted) mixture of the members' distributions.

    Lakshminarayanan, Pritzel and Blundell 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", 2.4: the variance is the mean of the members' variances plus the variance of their means.
    """

    name = "mixture_moments"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        means, variances = split_moments(outputs)
        mean = pool(means, shares)
        # Around the fused mean: the textbook difference of two squares cancels where means are large.
        spread = (means.double() - mean.double()) ** 2
        variance = weighted_sum(shares, variances.double() + spread)
        return torch.cat([mean, variance.float()], dim=-1)


def split_moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """(M, B, K) means and (M, B, K) variances.

    Raises:
        ShapeError: the last dimension is odd.
    """
    if outputs.shape[-1] % 2:
        raise ShapeError("outputs", "an even last dimension: K means, then K variances", str(tuple(outputs.shape)))
    means, variances = outputs.chunk(2, dim=-1)
    return means, variances
