"""Each set's model of being right, learned row by row, where what is long ago counts less.

Ridge regressions whose sums are kept (Li, Chu, Langford and Schapire 2010, algorithm 1), and shrink with each label so
that models follow what changes. A row counts one over the chance that it would tell of the set, as in ``fit_bandit``.
What is regressed is by how much a set is right more often than the first members by themselves, which every row tells:
what both share is no noise then. Models begin with those that were deployed, which count as so many rows.
"""

# N rows, K sets, D numbers of a context

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.bandit.rows import ToldRows

Floats = NDArray[np.float64]
# Labels after which one counts 1 / e.
REMEMBERED = 2000
# What the first models count as, in rows.
PRIOR = 100.0
_JITTER = 1e-6


class ArmModels:
    """Of all sets.

    Attributes:
        theta: (K, D) now.
    """

    def __init__(self, theta: Floats, least: int, remembered: float = REMEMBERED):
        """Args:
        theta: (K, D) to begin with.
        least: the number of the smallest set, which is nearest to the first members by themselves.
        """
        arms, width = theta.shape
        self.theta, self._first, self._least = theta.copy(), theta, least
        self._kept = 1 - 1 / remembered
        self._alone = _Sums(width)
        self._arms = [_Sums(width) for _ in range(arms)]

    def learn(self, rows: ToldRows) -> None:
        """Take rows, in the order in which labels came."""
        count = len(rows)
        if not count:
            return
        ages, fade = self._kept ** np.arange(count - 1, -1, -1.0), self._kept**count
        self._alone.add(rows.context, ages, rows.alone, fade)
        chances = np.maximum(rows.chances, 1e-12)
        for arm, sums in enumerate(self._arms):
            counts = np.where(rows.known[:, arm], ages / chances[:, arm], 0.0)
            sums.add(rows.context, counts, rows.rewards[:, arm] - rows.alone, fade)
        self._solve()

    def promises(self, context: Floats) -> Floats:
        """(N, K) how likely each set's answer is right."""
        return np.asarray(context @ self.theta.T)

    def _solve(self) -> None:
        gram = self._alone.gram
        prior = PRIOR * (gram / self._alone.count + _JITTER * np.eye(len(gram)))
        first = self._first[self._least]
        alone = self._alone.solved(prior, first)
        for arm, sums in enumerate(self._arms):
            self.theta[arm] = alone + sums.solved(prior, self._first[arm] - first)


class _Sums:
    """Of one regression."""

    def __init__(self, width: int):
        self.gram, self._target = np.zeros((width, width)), np.zeros(width)
        self.count = self._squares = 0.0

    def add(self, context: Floats, counts: Floats, values: Floats, fade: float) -> None:
        weighted = context * counts[:, None]
        self.gram = fade * self.gram + weighted.T @ context
        self._target = fade * self._target + weighted.T @ np.where(counts > 0, values, 0.0)
        self.count = fade * self.count + float(counts.sum())
        self._squares = fade**2 * self._squares + float((counts**2).sum())

    def solved(self, prior: Floats, first: Floats) -> Floats:
        """Few rows that count much weigh as so many equal ones would (Kish 1965, "Survey sampling", section 11.7)."""
        scale = self.count / self._squares if self._squares else 0.0
        return np.asarray(np.linalg.solve(self.gram * scale + prior, self._target * scale + prior @ first))
