"""Which members structures choose from: those that help the best ensemble, and the cheap ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quorate.tuning.scoring import member_losses
from quorate.tuning.solvers.greedy import greedy_path


def choose_candidates(
    names: Sequence[str],
    probs: NDArray[np.float32],
    labels: NDArray[np.int64],
    cost: Mapping[str, float],
    count: int,
) -> tuple[str, ...]:
    """The members that structures choose from.

    Half are those that greedy selection takes first; then come those that no other member betters in both log-loss and
    cost, from the cheapest; then whoever has the lowest log-loss.

    Args:
        probs: (M, N, C) on the validation rows.
        labels: (N,).
        cost: of each member, such as its bytes.
        count: at most so many.
    """
    losses = dict(zip(names, member_losses(probs, labels).tolist(), strict=True))
    by_loss = sorted(names, key=lambda name: (losses[name], name))
    greedy = list(dict.fromkeys(names[index] for index in greedy_path(probs, labels).order))
    frugal = [n for n in by_loss if all(losses[o] >= losses[n] or cost[o] > cost[n] for o in names)]
    order = [*greedy[: -(-count // 2)], *sorted(frugal, key=lambda n: cost[n]), *greedy, *by_loss]
    chosen = set(list(dict.fromkeys(order))[:count])
    return tuple(name for name in names if name in chosen)
