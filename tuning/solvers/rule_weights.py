"""Weights, and thresholds, of any rule: searched by the loss itself, which may be a step function.

CMA-ES from the best of several starts, then one number at a time until nothing gets better (coordinate ascent: Metzler
and Croft 2007, "Linear feature-based models for information retrieval", section 4). Weights that are searched for a
metric fit chance too (Purucker and Beel 2023, "CMA-ES for Post Hoc Ensembling in AutoML"): draw them back on rows left
out.
"""

# M members, T thresholds, D = M + T numbers searched, K candidates

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quorate.tuning.scoring import Floats
from quorate.tuning.solvers.evolution import evolve, on_simplex

Losses = Callable[[Floats], Floats]
# Shares of the way to one member's corner, and away from it; the last leaves all others out.
_SHARES = np.array([-0.5, -0.2, -0.08, -0.03, 0.03, 0.08, 0.2, 0.4, 0.7, 1.0])
# Of a number between 0 and 1.
_CHANGES = np.array([-0.3, -0.1, -0.03, -0.01, 0.01, 0.03, 0.1, 0.3])
_LEAST_THRESHOLD = 1e-3
# What is less is rounding.
_LEAST_GAIN = 1e-12


@dataclass(frozen=True)
class Numbers:
    """What is searched: one weight a member, and behind them thresholds.

    Attributes:
        members: M.
        thresholds: T, each from 0 to 1.
        reliabilities: weights are numbers from 0 to 1 that count by themselves; else only their ratios do.
    """

    members: int
    thresholds: int = 0
    reliabilities: bool = False

    @property
    def steps(self) -> Floats:
        """(D,) how far the first candidates are from the start."""
        weight = 0.2 if self.reliabilities else 0.5 / self.members
        return np.array([weight] * self.members + [0.1] * self.thresholds)

    def usable(self, candidates: Floats) -> Floats:
        """(K, D) any numbers to those that a rule takes, mirrored at the borders: there is no plateau behind them."""
        weights, thresholds = np.split(candidates, [self.members], axis=1)
        weights = _mirrored(weights) if self.reliabilities else on_simplex(weights)
        return np.concatenate([weights, np.maximum(_mirrored(thresholds), _LEAST_THRESHOLD)], axis=1)

    def around(self, found: Floats, number: int) -> Floats:
        """(K, D) candidates that differ in one number (and in all other weights, where these are shares)."""
        if number < self.members and not self.reliabilities:
            away = -found[number] / (1 - found[number]) if found[number] < 1 else 0.0  # leaves the member out
            steps = np.append(_SHARES, away)[:, None]
            corner = np.eye(self.members)[number]
            weights = np.maximum(found[: self.members] + steps * (corner - found[: self.members]), 0.0)
            return self.usable(np.hstack([weights, np.tile(found[self.members :], (len(steps), 1))]))
        tried = np.tile(found, (len(_CHANGES) + 2, 1))
        tried[:, number] = np.clip([*(found[number] + _CHANGES), 0.0, 1.0], 0.0, 1.0)
        return self.usable(tried)

    def towards(self, found: Floats, other: Floats, shares: Floats) -> Floats:
        """(K, D) so far on the way from some numbers to others."""
        return np.asarray((1 - shares[:, None]) * found + shares[:, None] * other)

    def equal(self, found: Floats) -> Floats:
        """(D,) the same with the weights' mean for each."""
        weights = np.full(self.members, found[: self.members].mean())
        return np.concatenate([weights, found[self.members :]])


def search_numbers(losses: Losses, numbers: Numbers, starts: Floats, evaluations: int, seed: int) -> Floats:
    """(D,) the best of all candidates asked about, the starts among them; the first of those that are as good.

    Args:
        losses: (K, D) usable numbers to (K,), lower is better; infinity for what cannot be used.
        starts: (K, D), the preferred first.
        evaluations: candidates that are asked about, about.
        seed: same seed, same numbers.
    """
    asked = 0

    def counted(candidates: Floats) -> Floats:
        nonlocal asked
        asked += len(candidates)
        return losses(numbers.usable(candidates))

    found = counted(starts)
    best, least = starts[int(found.argmin())], float(found.min())
    each = 4 + int(3 * np.log(len(best)))  # candidates of a generation
    generations = max(1, evaluations // 2 // each)
    evolved = numbers.usable(evolve(counted, best, numbers.steps, generations, seed)[None])[0]
    after = float(losses(evolved[None])[0])
    if after < least - _LEAST_GAIN:
        best, least = evolved, after
    while asked < evaluations:
        before = least
        for number in range(len(best)):
            tried = numbers.around(best, number)
            found = counted(tried)
            if found.min() < least - _LEAST_GAIN:
                best, least = tried[int(found.argmin())], float(found.min())
        if least >= before:
            break
    return np.asarray(best)


def _mirrored(values: Floats) -> Floats:
    """Any numbers into 0 to 1."""
    return np.asarray(1 - np.abs(1 - np.abs(values) % 2))
