"""ASHA: trainings that are behind at a rung stop there (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning", algorithm 2), judged against the generations that are complete, so that who arrives first changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

REDUCTION = 3


def rungs(epochs: int, reduction: int = REDUCTION) -> tuple[int, ...]:
    """Epochs at which a training is looked at: a third of all, a ninth, ..., the earliest first.

    None is in the first tenth, in which the learning rate still rises: losses there say nothing of those at the end.
    """
    found = []
    at = epochs // reduction
    while at >= max(1.0, epochs / 10):
        found.append(at)
        at //= reduction
    return tuple(reversed(found))


def cutoffs(
    histories: Sequence[Sequence[Mapping[str, Any]]], epochs: int, reduction: int = REDUCTION
) -> dict[int, float]:
    """The log-loss that a training must have reached by each rung: that of the best third there.

    Args:
        histories: of the complete generations' trainings, each a list of epochs with ``validation_log_loss``.
        epochs: of a training that is not stopped.
        reduction: one in this many goes on.

    Returns:
        Rung -> log-loss; no entry for a rung that too few have reached to tell.
    """
    found = {}
    for rung in rungs(epochs, reduction):
        reached = sorted(best_by(history, rung) for history in histories if len(history) >= rung)
        if len(reached) >= reduction:
            found[rung] = reached[len(reached) // reduction - 1]
    return found


def best_by(history: Sequence[Mapping[str, Any]], epoch: int) -> float:
    """The lowest log-loss up to an epoch; infinite where none was finite."""
    losses = [one["validation_log_loss"] for one in history[:epoch]]
    return min((loss for loss in losses if loss is not None and math.isfinite(loss)), default=math.inf)
