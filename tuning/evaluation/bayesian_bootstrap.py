"""How sure the rows make us: draws of what a metric would be on other rows, and bounds that hold for many at once.

Bayesian bootstrap (Rubin 1981, "The Bayesian Bootstrap"): rows, or groups of rows, weigh as a flat Dirichlet draws
them. Unlike a standard error it sees that one row of 36 nats in a hundred is bad news whatever the others say.
"""

# N rows, G groups, F numbers a row, B draws, K quantities

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quorate.tuning.scoring import Floats

DRAWS = 4000
# More groups than this are first added up at random into so many: means of large samples lose nothing by it.
_MOST_GROUPS = 2000
# Fewer than this, and a bound also has to pass the exact test.
FEW = 50


def drawn_means(
    rows: Floats, groups: NDArray[Any] | None = None, weights: Floats | None = None, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """(B, F) means of the rows' numbers under drawn weights.

    Args:
        rows: (N, F).
        groups: (N,) rows of one are drawn together; None where each stands alone.
        weights: (N,) how much each row counts; None where all count the same.
        draws: B.
        seed: the same seed gives the same draws.
    """
    random = np.random.default_rng(seed)
    counts = np.ones(len(rows)) if weights is None else weights
    number = group_numbers(groups, len(rows))
    if number.max() >= _MOST_GROUPS:
        number = (random.permutation(number.max() + 1) % _MOST_GROUPS)[number]
    sums = group_sums(np.column_stack([rows * counts[:, None], counts]), number)
    found = random.standard_exponential((draws, len(sums))) @ sums
    return np.asarray(found[:, :-1] / found[:, -1:])


def group_numbers(groups: NDArray[Any] | None, rows: int) -> NDArray[np.intp]:
    """(N,) numbers from 0 on, the same for rows of one group."""
    if groups is None:
        return np.arange(rows)
    return np.asarray(np.unique(groups, return_inverse=True)[1]).reshape(-1)


def group_sums(rows: Floats, number: NDArray[np.intp]) -> Floats:
    """(G, F) sums of the (N, F) rows of each group, by (N,) ``group_numbers``."""
    sums = np.zeros((int(number.max()) + 1, rows.shape[1]))
    np.add.at(sums, number, rows)
    return sums


def bounds(
    draws: Floats, estimates: Floats, groups: int, confidence: float = 0.95, one_sided: bool = False
) -> tuple[Floats, Floats]:
    """Ends (K,) of intervals that hold for all K quantities at once (Besag et al. 1995, section 6.3: by ranks).

    Of few groups they are as much wider as Student's t is than the normal (Hesterberg 2015, "What Teachers Should Know
    about the Bootstrap", section 4.3: the expanded percentile interval).

    Args:
        draws: (B, K).
        estimates: (K,) of all rows.
        groups: G.
        confidence: that all of them hold.
        one_sided: only the lower ends have to; the upper ones are infinite.
    """
    ordered = np.sort(draws, axis=0)
    places = (np.argsort(np.argsort(draws, axis=0), axis=0) + 1) / (len(draws) + 1)
    extreme = (places if one_sided else np.minimum(places, 1 - places)).min(axis=1)
    level = max(float(np.quantile(extreme, 1 - confidence)), 1 / (len(draws) + 1))
    wider = float(stats.t.ppf(level, max(groups - 1, 1)) / stats.norm.ppf(level))
    wider *= float(np.sqrt((groups + 1) / max(groups - 1, 1)))  # a draw's spread is that of G + 1 rows
    low = estimates - wider * (estimates - np.quantile(ordered, level, axis=0))
    if one_sided:
        return np.asarray(low), np.full(len(low), np.inf)
    return np.asarray(low), np.asarray(estimates + wider * (np.quantile(ordered, 1 - level, axis=0) - estimates))


def exactly_above(gains: Floats, confidence: float = 0.95, seed: int = 0) -> NDArray[np.bool_]:
    """(K,) whether the mean gain is above 0 by the sign-flip test, for all K at once (Westfall and Young 1993: max t).

    Exact where gains are as likely as losses of the same size; nothing is assumed of how they are spread.

    Args:
        gains: (G, K) of each group of rows.
    """
    random = np.random.default_rng(seed)
    spread = np.sqrt((gains**2).sum(axis=0))
    scaled = gains / np.where(spread > 0, spread, 1)
    flips = random.choice([-1.0, 1.0], (DRAWS, len(gains)))
    most = (flips @ scaled).max(axis=1)
    p_values = (1 + (most[:, None] >= scaled.sum(axis=0) - 1e-12).sum(axis=0)) / (DRAWS + 1)
    return np.asarray(p_values <= 1 - confidence)
