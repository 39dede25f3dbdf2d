"""Rules for members that predict numbers: point predictions, means with variances, or quantiles."""

# M members, B batch, F numbers; with variances, F = 2 K: first K means, then their K variances

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.base import Fused
from quorate.fusion.errors import ShapeError
from quorate.fusion.numerics.scratch import in_blocks, widened
from quorate.fusion.numerics.tracing import for_numpy, require, surely, tracing
from quorate.fusion.numerics.weighted_sum import weighted_sum
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

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return pool(_ascending(outputs), shares)


class QuantileMedian(WeightedRule):
    """The median of the members' quantiles, level by level, each member's sorted first: they never cross either."""

    name = "quantile_median"

    def __init__(self, num_members: int):
        super().__init__(num_members)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        return median(_ascending(outputs), present)


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

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        means, variances = split_moments(outputs)
        present = present & (variances.detach().amin(dim=-1) > 0)
        require(present.any(dim=0), "one member with variances above 0 in every row", "a row without any")
        shares, coverage = self._rescaled(present)
        weights = shares * (shares > 0).sum(dim=0)
        if not surely(present):
            variances = torch.where(present.unsqueeze(-1), variances, 1.0)  # the absent weigh 0

        def formula(rows: slice) -> Tensor:
            w, precision = weights[:, rows], widened(variances[:, rows]).reciprocal_()
            variance = 1 / weighted_sum(w, precision)
            influence = _mean_product(precision, variance)
            if for_numpy(outputs):
                pulls = precision.mul_(widened(means[:, rows], "means"))
            else:
                pulls = precision * means[:, rows]
            return torch.cat([weighted_sum(w, pulls) * variance, variance, (w * influence).T], dim=-1).float()

        values, numbers = in_blocks(formula, outputs), 2 * means.shape[-1]
        return Fused(values[:, :numbers], values[:, numbers:].T.detach(), coverage)


class MixtureMoments(WeightedRule):
    """Mean and variance of the (weighted) mixture of the members' distributions.

    Lakshminarayanan, Pritzel and Blundell 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
    Ensembles", 2.4: the variance is the mean of the members' variances plus the variance of their means.
    """

    name = "mixture_moments"

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        means, variances = split_moments(outputs)
        mean = weighted_sum(shares, means)
        # Around the fused mean: the textbook difference of two squares cancels where means are large.
        off = widened(means, "means").sub_(mean) if for_numpy(outputs) else means.double() - mean
        spread = weighted_sum(shares, off.square_() if for_numpy(outputs) else off.square())
        return torch.cat([mean, weighted_sum(shares, variances) + spread], dim=-1).float()


def _mean_product(precision: Tensor, variance: Tensor) -> Tensor:
    """(M, B, K) and (B, K) to (M, B), the mean of the products over K."""
    if not for_numpy(precision):
        return (precision * variance).mean(dim=-1)
    # As a product of matrices: a fifth of the time.
    total = np.matmul(precision.numpy().transpose(1, 0, 2), variance.numpy()[:, :, None])
    return torch.from_numpy(total[..., 0].T / variance.shape[-1])


def split_moments(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """(M, B, K) means and (M, B, K) variances.

    Raises:
        ShapeError: the last dimension is odd.
    """
    if outputs.shape[-1] % 2:
        raise ShapeError("outputs", "an even last dimension: K means, then K variances", str(tuple(outputs.shape)))
    means, variances = outputs.chunk(2, dim=-1)
    return means, variances
