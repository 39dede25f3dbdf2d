"""A bandit instead of an ensemble: what cheap members say chooses which dear ones a row asks, above a floor.

Members and weights are those of a linear pool; whom to ask first, the sets to choose among and the models of what they
promise are fitted on solving rows, of which every member's answer is known, and the price of asking on the rows that
judge, by tests that no more accuracy is lost on new rows than is stated (``risk_control``).
"""

# M members, N solving rows, J judging rows, C classes, K sets

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.learned.bandit import Bandit, fit_bandit, kept_price, proven_price
from quorate.tuning.alternatives.base import Outputs, answers_of, recipe_of
from quorate.tuning.alternatives.out_of_sample import Numbers, OutOfSample
from quorate.tuning.alternatives.promises.cascaded import Cascaded, asked_only
from quorate.tuning.alternatives.promises.risk import Risk
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.errors import TuningError

BANDIT = "bandit"
# So many dear members have at most so many sets to choose among that each is tried; of more, those that are nested.
_ALL_SETS = 4
# Fewer rows say too little of a dozen numbers for each set.
_FEWEST_ROWS = 300
# A policy that asks more members of a row than this share of them is none.
_LEAST_SAVED = 0.999


@dataclass(frozen=True)
class FittedPolicy:
    """On solving rows.

    Attributes:
        rule: fitted on all of them, without a price.
        cost: of a row, of all members' 1, as the best price on one half of them comes out on the other.
    """

    rule: Bandit
    cost: float


def fit_policy(
    pool: Recipe | None, solve: Outputs, costs: Mapping[str, float] | None, risk: Risk
) -> FittedPolicy | None:
    """The cheapest of those that ask one member first; None where there are too few members or rows.

    Args:
        pool: linear; of one that calibrates its members, which a record does not, there is none.
        costs: of a row by member; each costs the same when None.
    """
    if pool is None:
        return None
    linear = asked_only(pool)
    if len(linear.members) < 3 or linear.member_calibration or len(solve) < _FEWEST_ROWS or risk.max_loss is None:
        return None
    read, labels = torch.from_numpy(linear.calibrated(solve.names, solve.probs)), torch.from_numpy(solve.labels)
    weights = [1.0 if linear.weights is None else linear.weights[name] for name in linear.members]
    price = {name: 1.0 if costs is None else max(costs[name], 1e-9) for name in linear.members}
    fits = _Fits(linear.members, read, labels, weights, price, risk)
    first = min(linear.members, key=fits.cost)
    return FittedPolicy(fits.rule(first, slice(None)), fits.cost(first))


@dataclass
class _Fits:
    members: tuple[str, ...]
    read: Tensor
    labels: Tensor
    weights: Sequence[float]
    price: Mapping[str, float]
    risk: Risk

    def __post_init__(self) -> None:
        self._known: dict[str, float] = {}

    def rule(self, first: str, rows: slice) -> Bandit:
        others = sorted((name for name in self.members if name != first), key=lambda name: self.price[name])
        return fit_bandit(
            self.members, [first], _sets(others), self.read[:, rows], self.labels[rows], weights=self.weights,
            costs=self.price, explore=self.risk.explore,
        )  # fmt: skip

    def cost(self, first: str) -> float:
        """Fitted on every second row, at the highest price that keeps the floor on these, and counted on the others."""
        if first not in self._known:
            fitted, other = slice(0, None, 2), slice(1, None, 2)
            rule = kept_price(
                self.rule(first, fitted), self.read[:, fitted], self.labels[fitted], self.risk.max_loss or 0.0
            )
            self._known[first] = share_paid(rule, self.read[:, other], self.price)
        return self._known[first]


def share_paid(rule: Bandit, read: Tensor, price: Mapping[str, float]) -> float:
    """What rows cost on average, of what all members cost."""
    chances = rule.chances(read, torch.ones(read.shape[:2], dtype=torch.bool)).mean(dim=0)
    asked = zip(chances.tolist(), rule.arms, strict=True)
    paid = sum(price[n] for n in rule.first) + sum(share * sum(price[n] for n in arm) for share, arm in asked)
    whole = sum(price[name] for name in rule.members)
    return float(paid / whole)


def _sets(others: Sequence[str]) -> list[list[str]]:
    """Nobody, and sets of dear members up to all of them; ``others`` from the cheapest."""
    if len(others) <= _ALL_SETS:
        return [list(some) for size in range(len(others) + 1) for some in combinations(others, size)]
    nested = [list(others[:size]) for size in range(len(others) + 1)]
    return [*nested, *([name] for name in others[1:])]


def fit_bandited(
    policy: FittedPolicy, pool: OutOfSample, beside: OutOfSample, solve: Outputs, judge: Outputs, numbers: Numbers,
    risk: Risk, seed: int = 0,
) -> OutOfSample:  # fmt: skip
    """The policy at a price that is shown to keep the floor; its answers to judging rows are by that of their other
    half.

    Arguments are those of ``fit_cascaded``.

    Raises:
        TuningError: no price passes the test.
    """
    recipe = recipe_of(pool.fitted)
    assert recipe is not None
    assert risk.max_loss is not None
    linear = asked_only(recipe)
    read, labels = torch.from_numpy(linear.calibrated(judge.names, judge.probs)), torch.from_numpy(judge.labels)
    right = torch.from_numpy(answers_of(beside.fitted, judge).argmax(axis=1) == judge.labels)

    def proven(rows: Tensor) -> Bandit | None:
        return proven_price(
            policy.rule, read[:, rows], labels[rows], max_loss=risk.max_loss or 0.0, confidence=risk.confidence,
            beside=right[rows], seed=seed,
        )  # fmt: skip

    whole, everyone = proven(torch.arange(len(labels))), torch.ones(read.shape[:2], dtype=torch.bool)
    shares = None if whole is None else whole.chances(read, everyone).mean(dim=0).tolist()
    if whole is None or shares is None or shares[whole.everyone] > _LEAST_SAVED:
        found = f"no price is shown to lose at most {risk.max_loss:g} with probability {risk.confidence:g}"
        raise TuningError(BANDIT, f"{found} on {len(judge)} rows", "give more rows, or allow a larger loss")
    fused, lost = _checked(
        policy.rule, [proven(rows) for rows in _halves(len(labels), seed)], read, labels, right, seed
    )
    asks = 1 + sum(share * len(arm) for share, arm in zip(shares, whole.arms, strict=True))
    alternative = Cascaded(
        beside.alternative.name, risk.max_loss, risk.confidence, lost, asks, len(linear.members), BANDIT
    )  # fmt: skip
    made = Recipe(BANDIT, linear.members, None, dict(whole.options), whole.state())
    return OutOfSample(
        alternative, made, _solving(made, pool, solve, numbers), numbers(judge, fused), [], (1.0, *shares)
    )  # fmt: skip


def _halves(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[::2].sort().values, order[1::2].sort().values


def _checked(
    rule: Bandit, made: Sequence[Bandit | None], read: Tensor, labels: Tensor, right: Tensor, seed: int
) -> tuple[NDArray[np.float32], float]:
    """(J, C) answers of each half at the other's price, everybody asked where it has none; what accuracy they lose."""
    fused = torch.empty(read.shape[1:])
    for one, other in zip(made, reversed(_halves(len(labels), seed)), strict=True):
        fused[other] = (one or rule.at_price(-2.0)).fuse(read[:, other]).values
    answered = fused.argmax(dim=1) == labels
    return fused.numpy(), float((right.float() - answered.float()).mean())


def _solving(made: Recipe, pool: OutOfSample, solve: Outputs, numbers: Numbers) -> NDArray[np.float64]:
    """Of solving rows in folds, which the models have seen: a dozen numbers of each set."""
    found = np.full_like(pool.solving, np.nan)
    for part in pool.parts:
        held_out = solve.rows(part.fold)
        found[part.fold] = numbers(held_out, made.fuse(held_out.names, held_out.probs))
    return found
