"""The best mixture so far: follow the regularised leader under log-loss.

Regulariser and rows are one likelihood: the prior counts as ``strength`` rows that each saw one member alone, as in the
universal portfolio of Cover and Ordentlich (1996, "Universal portfolios with side information", section 4), where it
counts half a row a member; with less the best mixture of few members is found sooner. Its regret is bounded by what was
seen (Kalai and Vempala 2005, "Efficient algorithms for online decision problems", lemma 3.1; McMahan 2017, "A survey of
algorithms and analysis for adaptive online learning", section 3), whatever the rows are: no bound on gradients is
assumed, under log-loss there is none.
"""

# M members, N rows

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Solved again when there are so many new rows, or so large a part of all: the cost of a row stays what it is.
EVERY, PART = 16, 16
# How far from the best mixture the solved one may be, in nats a row; what it is counts in the bound.
GAP = 0.0005
# So many rows a member the prior counts as.
STRENGTH = 0.2
# One that follows what is new forgets the older half of so many rows.
RECENT = 4096
# Rows that are kept fill no more than this; then the leader begins anew, with its weights for a prior.
KEPT_BYTES = 128 << 20
STEPS, _HASTY = 60, 3


class Leader:
    """The best mixture of all rows since it began, the prior among them.

    Attributes:
        weights: (M,) as solved last.
        rows: how many, and of how many they were ``solved``.
    """

    def __init__(self, prior: Floats, strength: float = STRENGTH):
        """Args:
        prior: (M,) above 0, with sum 1.
        strength: as how many rows a member it counts.
        """
        self.strength = len(prior) * strength
        self._kept = np.empty((256, len(prior)))
        self._past = 0.0  # the bound of the times before it began anew, and
        self._past_best = 0.0  # the loss of the best mixture in each of these
        self.begin_anew(prior)

    def learn(self, rows: Floats) -> None:
        """Take (N, M) probabilities of what was true, above 0."""
        if self.rows + len(rows) > len(self._kept):
            self._make_room(len(rows))
        self._kept[self.rows : self.rows + len(rows)] = rows
        self.rows += len(rows)
        if self.rows - self.solved >= max(EVERY, self.rows // PART):
            self._solve()

    def begin_anew(self, prior: Floats) -> None:
        """Forget all rows, and what is said of them."""
        self.prior, self.weights = prior.copy(), prior.copy()
        self.rows = self.solved = 0
        self._paid = 0.0  # instability and gaps, up to the last solution

    def regret_bound(self) -> float:
        """Of the loss of ``weights`` over all rows, in nats, over that of any fixed mixture.

        With b the prior's strength and u any mixture, u' = (1 - d) u + d prior and d = b / (N + b) loses at most b nats
        more than u, and the prior's rows under u' cost at most b log(1 / d). To this come, from lemma 3.1, the loss of
        the weights that were used less that of those that were solved next, and how far these were from the best.
        """
        unsolved = self._instability(*self._solved_again()) if self.solved < self.rows else 0.0
        own = self.strength * (1 + math.log1p(self.rows / self.strength))
        return self._past + own + self._paid + unsolved

    def best_loss(self) -> float:
        """A loss over all rows in nats that no fixed mixture is below; of each time since it began anew."""
        if not self.rows:
            return self._past_best
        rows = self._kept[: self.rows]
        faint = np.full(len(self.prior), 1e-3 / len(self.prior))  # holds weights off 0, where Newton has no units
        weights, _ = solve(rows, faint, 0.9 * self.weights + 0.1 * self.prior, 0.01)
        shares = rows @ weights
        gap = float((rows / shares[:, None]).sum(axis=0).max()) - len(rows)
        return self._past_best - float(np.log(shares).sum()) - max(0.0, gap)

    def _solved_again(self) -> tuple[Floats, float]:
        return solve(self._kept[: self.rows], self.strength * self.prior, self.weights, GAP * self.rows)

    def _instability(self, weights: Floats, gap: float) -> float:
        """What the rows since the last solution cost under its weights, less what they cost under the next."""
        new = self._kept[self.solved : self.rows]
        return float(np.log(new @ weights).sum() - np.log(new @ self.weights).sum()) + gap

    def _solve(self) -> None:
        weights, gap = self._solved_again()
        self._paid += self._instability(weights, gap)
        self.weights, self.solved = weights, self.rows

    def _make_room(self, count: int) -> None:
        if self._kept.nbytes * 2 <= KEPT_BYTES:
            self._kept = np.concatenate([self._kept, np.empty_like(self._kept)])
        else:
            self._solve()
            self._past, self._past_best = self.regret_bound(), self.best_loss()
            self.begin_anew(0.9 * self.weights + 0.1 * self.prior)


class RecentLeader(Leader):
    """Nearly the best mixture of the latest rows; its regret has no bound.

    Each solution starts at the one before, which is near: two steps do.
    """

    def _solved_again(self) -> tuple[Floats, float]:
        return solve(self._kept[: self.rows], self.strength * self.prior, self.weights, GAP * self.rows, _HASTY)

    def _make_room(self, count: int) -> None:
        if len(self._kept) < RECENT:
            super()._make_room(count)
            return
        gone = self.rows // 2
        self._kept[: self.rows - gone] = self._kept[gone : self.rows]
        self.rows, self.solved = self.rows - gone, max(self.solved - gone, 0)


def solve(rows: Floats, counts: Floats, start: Floats, gap: float, steps: int = STEPS) -> tuple[Floats, float]:
    """Minimise -sum log(w'x) - sum counts log w on the simplex, by Newton's method in units of the weights.

    With N + sum counts times sum w added the minimum over w > 0 has the sum 1 by itself.

    Args:
        rows: (N, M) above 0.
        counts: (M,) above 0.
        start: (M,) above 0, to start from.
        gap: how far above the minimum is near enough.
        steps: after so many what there is has to do.

    Returns:
        (M,) weights, and how far the objective is above the minimum at most (Jaggi 2013, "Revisiting Frank-Wolfe",
        section 2).
    """
    total = len(rows) + float(counts.sum())
    weights = start / start.sum()
    for left in reversed(range(steps)):
        scaled = rows * weights
        scaled /= (rows @ weights)[:, None]
        slopes = scaled.sum(axis=0) + counts  # times the weight
        found = max(0.0, float((slopes / weights).max()) - total)
        if found <= gap or not left:
            break
        slope = total * weights - slopes
        step = -np.linalg.solve(scaled.T @ scaled + np.diag(counts), slope)
        weights = weights * (1 + _length(scaled, counts, total * weights, step, float(slope @ step)) * step)
        weights /= weights.sum()
    return weights, found


def _length(scaled: Floats, counts: Floats, linear: Floats, step: Floats, slope: float) -> float:
    """How far to go: as far as weights stay above a twentieth of theirs, halved until it pays."""
    most = float(step.min())
    length = min(1.0, 0.95 / -most) if most < 0 else 1.0
    change = scaled @ step
    for _ in range(30):
        gained = -np.log1p(length * change).sum() - counts @ np.log1p(length * step) + length * (linear @ step)
        if gained <= 0.01 * length * slope:
            return length
        length /= 2
    return 0.0
