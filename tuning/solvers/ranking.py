"""Weights that rank well: NDCG of lists, and a search for it one weight at a time."""

# M members, N lists of up to L entries each, NaN behind the last; K weight vectors

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.scoring import Floats

# Shares of the way to one member's corner, and away from it.
_STEPS = np.array([-0.5, -0.2, -0.08, -0.03, 0.03, 0.08, 0.2, 0.4, 0.7, 1.0])
_PASSES = 8


def ndcg(relevance: NDArray[Any], scores: NDArray[Any], top: int | None = None) -> Floats:
    """(N,) normalised discounted cumulative gain of each list (Jarvelin and Kekalainen 2002).

    The gain is the relevance itself, discounted by log2(place + 1); entries of one score share the mean of the
    discounts of their places (McSherry and Najork 2008), as scikit-learn's ndcg_score has it. A list with nothing
    relevant scores 0, whatever its order.

    Args:
        relevance: (N, L) >= 0, NaN behind a list's last entry.
        scores: (N, L), the highest first in the ranking.
        top: places that count; all when None.
    """
    there, gains = ~np.isnan(relevance), np.nan_to_num(relevance.astype(np.float64))
    discount = 1 / np.log2(np.arange(gains.shape[1]) + 2.0)
    discount[len(discount) if top is None else top :] = 0
    order = np.argsort(np.where(there, -scores, np.inf), axis=1, kind="stable")
    ranked, given = (np.take_along_axis(part, order, axis=1) for part in (np.where(there, scores, np.nan), gains))
    # Runs of one score: each entry gets the mean gain of its run.
    new = np.ones(ranked.shape, dtype=bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    run = new.ravel().cumsum() - 1
    mean = (np.bincount(run, given.ravel()) / np.bincount(run))[run].reshape(given.shape)
    best = np.sort(gains, axis=1)[:, ::-1] @ discount
    return np.asarray(np.where(best > 0, mean @ discount / np.where(best > 0, best, 1), 0.0))


def ranking_weights(
    points: Floats, relevance: NDArray[Any], top: int | None = None, counts: Floats | None = None
) -> Floats:
    """(M,) weights >= 0 with sum 1 whose weighted mean of points ranks with a high NDCG.

    NDCG is a step function of the weights, with no slope: coordinate ascent on the metric itself (Metzler and Croft
    2007, "Linear feature-based models for information retrieval", section 4), from equal weights and from the best
    member alone.

    Args:
        points: (M, N, L) of each member.
        relevance: (N, L).
        top: places that count.
        counts: (N,) how much each list counts.
    """
    members = len(points)
    equal = np.full(members, 1.0 / members)
    alone = np.eye(members)[ndcg_of_weights(np.eye(members), points, relevance, top, counts).argmax()]
    found = [_ascent(start, points, relevance, top, counts) for start in (equal, 0.5 * (alone + equal))]
    return max(found, key=lambda pair: pair[0])[1]


def ndcg_of_weights(
    tried: Floats, points: Floats, relevance: NDArray[Any], top: int | None = None, counts: Floats | None = None
) -> Floats:
    """(K,) mean NDCG of each of weights (K, M)."""
    return np.array(
        [np.average(ndcg(relevance, np.tensordot(one, points, axes=1), top), weights=counts) for one in tried]
    )


def _ascent(
    weights: Floats, points: Floats, relevance: NDArray[Any], top: int | None, counts: Floats | None
) -> tuple[float, Floats]:
    most = float(ndcg_of_weights(weights[None], points, relevance, top, counts)[0])
    for _ in range(_PASSES):
        before = most
        for corner in np.eye(len(weights)):
            tried = np.maximum(weights + _STEPS[:, None] * (corner - weights), 0.0)
            tried /= tried.sum(axis=1, keepdims=True)
            scores = ndcg_of_weights(tried, points, relevance, top, counts)
            if scores.max() > most + 1e-12:
                most, weights = float(scores.max()), tried[int(scores.argmax())]
        if most <= before:
            break
    return most, weights
