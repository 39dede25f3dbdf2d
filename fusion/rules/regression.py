"""Rules for members that predict numbers: point predictions, means with variances, or quantiles."""

# M members, B batch, F numbers; with variances, F = 2 K: first K means, then their K variances

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.base import Fused
from quorate.fusion.errors import ShapeError
from quorate.fusion.numerics.order_free import Rows, in_place, order_free, sum_members, weighted_sum, widened
from quorate.fusion.numerics.rounding import UNIT
from quorate.fusion.numerics.tracing import require, surely, tracing
from quorate.fusion.rules.order_statistics import median
from quorate.fusion.rules.weighting import WeightedMembers, WeightedRule, pool


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
        return pool(_ascending(outputs), shares)


def _ascending(outputs: Tensor) -> Tensor:
    """Every row in ascending order."""
    if tracing() or outputs.device.type != "cpu" or outputs.requires_grad:
        return outputs.sort(dim=-1).values
    # numpy compares and sorts with vector instructions where torch does not: a tenth of the time.
    rows = outputs.numpy()
    return outputs if (rows[..., 1:] >= rows[..., :-1]).all() else torch.from_numpy(np.sort(rows, axis=-1))


class InverseVariance(WeightedMembers):
    """Independent measurements of one number, each counting by its precision; gives the mean and its variance.

    Mean = sum of w m / v over sum of w / v, variance = 1 / sum of w / v (Cochran 1937), with weights w scaled to have
    mean 1 over those that answered. A row with a variance of 0 or less counts as absent.
    """

    name = "inverse_variance"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None):
        super().__init__(num_members, weights)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        means, variances = split_moments(outputs)
        present = present & (variances.detach().amin(dim=-1) > 0)
        require(present.any(dim=0), "one member with variances above 0 in every row", "a row without any")
        shares, coverage = self._rescaled(present)
        weights = shares * (shares > 0).sum(dim=0)
        if not surely(present):
            variances = torch.where(present.unsqueeze(-1), variances, 1.0)  # the absent weigh 0
        numbers = means.shape[-1]

        def formula(rows: Rows, rank: bool) -> tuple[Tensor, Tensor]:
            w, m, precision = weights[:, rows], means[:, rows], widened(variances[:, rows]).reciprocal_()
            variance = 1 / sum_members(w, precision, rank)
            influence = _mean_product(precision, variance)
            pulls = precision.mul_(widened(m, "means")) if in_place(outputs) else precision * m
            mean = sum_members(w, pulls, rank) * variance
            values = torch.cat([mean, variance, (w * influence).T], dim=-1)
            magnitudes = values.detach().abs()
            if not one_signed(m):  # means that cancel are as far off as their magnitudes say
                magnitudes[:, :numbers] = sum_members(w, pulls.detach().abs(), False) * variance.detach()
            return values, magnitudes * ((4 * len(w) + numbers + 16) * UNIT)

        values = order_free(formula, outputs)
        return Fused(values[:, : 2 * numbers], values[:, 2 * numbers :].T.detach(), coverage)


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
        if in_place(outputs):
            spread = widened(means, "means").sub_(mean.double()).square_()
            return torch.cat([mean, weighted_sum(shares, spread.add_(widened(variances, "variances")))], dim=-1)
        spread = (means.double() - mean.double()) ** 2
        return torch.cat([mean, weighted_sum(shares, variances.double() + spread)], dim=-1)


def _mean_product(precision: Tensor, variance: Tensor) -> Tensor:
    """(M, B, K) and (B, K) to (M, B), the mean of the products over K."""
    if not in_place(precision):
        return (precision * variance).mean(dim=-1)
    # As a product of matrices: a fifth of the time.
    total = np.matmul(precision.numpy().transpose(1, 0, 2), variance.numpy()[:, :, None])
    return torch.from_numpy(total[..., 0].T / variance.shape[-1])


def one_signed(numbers: Tensor) -> bool:
    """Whether nothing cancels in a sum of these; never while tracing."""
    return surely(numbers.amin() >= 0) or surely(numbers.amax() <= 0)


def split_moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """(M, B, K) means and (M, B, K) variances.

    Raises:
        ShapeError: the last dimension is odd.
    """
    if outputs.shape[-1] % 2:
        raise ShapeError("outputs", "an even last dimension: K means, then K variances", str(tuple(outputs.shape)))
    means, variances = outputs.chunk(2, dim=-1)
    return means, variances
