"""Weights under any convex loss that each row has by itself: AdaHedge, which needs neither its range nor a rate.

De Rooij, van Erven, Grunwald, Koolen (2014), "Follow the leader if you can, hedge if you must", JMLR 15. The loss of a
weighted mean is at most the weighted mean of the losses, which is what the bound is of. A member that is missing is
taken to have lost what the others lost (Freund, Schapire, Singer, Warmuth 1997).
"""

# M members, N labels

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class AdaHedge:
    """Learns weights from losses, in the order in which their labels come.

    Attributes:
        weights: (M,) now.
        loss: of the weights that were held when each label came, all together; ``labels`` how many.
        member_losses: (M,) of each, where it was missing what the others lost.
    """

    def __init__(self, prior: ArrayLike):
        """Args:
        prior: (M,) above 0.
        """
        given = np.asarray(prior, np.float64)
        self.weights = given / given.sum()
        self._log_prior = np.log(self.weights)
        self._gap = 0.0  # by how much weighing lost more than mixing: Delta
        self._rate_before = math.inf
        self.labels, self.loss = 0, 0.0
        self.member_losses = np.zeros(len(given))

    @property
    def rate(self) -> float:
        """Eta: infinite until weights have lost anything by being mixed, when all is on those who lost least."""
        return max(math.log(len(self.weights)), math.log(2)) / self._gap if self._gap > 0 else math.inf

    def regret_bounds(self) -> Floats:
        """(M,) what ``loss`` is above each member's at most: lemma 2 there, with a prior."""
        rate = self._rate_before
        alone = -self._log_prior / rate if math.isfinite(rate) else np.zeros_like(self._log_prior)
        return np.asarray(self._gap + alone, np.float64)

    def learn(self, losses: ArrayLike, present: ArrayLike | None = None) -> Floats:
        """Take labels.

        Args:
            losses: (N, M) of each member, finite.
            present: (N, M) bool, which of them answered, one at least in each row; all when None.

        Returns:
            (N, M) weights that were held when each came.
        """
        rows = np.array(losses, np.float64)
        there = None if present is None or np.all(present) else np.asarray(present, np.bool_)
        held = np.empty_like(rows)
        for at, row in enumerate(rows):
            held[at] = self.weights
            if there is not None and not there[at].all():
                few = there[at]
                row[~few] = self._of_those(row, few)
            self._take(row)
        return held

    def _of_those(self, row: Floats, few: NDArray[np.bool_]) -> float:
        share = float(self.weights[few].sum())
        return float(self.weights[few] @ row[few] / share) if share > 0 else float(row[few].mean())

    def _take(self, row: Floats) -> None:
        rate = self._rate_before = self.rate
        lost = float(self.weights @ row)
        if math.isfinite(rate):
            least = float(row.min())
            mixed = least - math.log(float(self.weights @ np.exp(-rate * (row - least)))) / rate
        else:  # what the leaders' lead shrank by
            before = float(self.member_losses.min())
            mixed = float((self.member_losses + row).min()) - before
        self._gap += max(0.0, lost - mixed)
        self.labels += 1
        self.loss += lost
        self.member_losses += row
        self.weights = self._weights()

    def _weights(self) -> Floats:
        behind = self.member_losses - self.member_losses.min()
        if math.isfinite(self.rate):
            logs = self._log_prior - self.rate * behind
        else:
            logs = np.where(behind > 0, -np.inf, self._log_prior)
        found = np.exp(logs - logs.max())
        return np.asarray(found / found.sum(), np.float64)
