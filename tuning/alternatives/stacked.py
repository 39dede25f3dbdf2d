"""Stacking as an alternative: a logistic regression over the logarithms of what members say."""

# M members, N rows, C classes

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from quorate.fusion.errors import FusionError
from quorate.fusion.learned.stacking import fit_stacking
from quorate.fusion.training import Training
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.data.folds import folds_of
from quorate.tuning.errors import TuningError
from quorate.tuning.scoring import log_loss

_PENALTIES = (1e-2, 1e-1)
_FOLDS = 3
# Rows that are fitted on, and numbers that are fitted, at most: beyond them a fit takes minutes.
_ROWS, MOST_NUMBERS = 10_000, 5_000


@dataclass(frozen=True)
class Stacked:
    """Multinomial logistic regression whose penalty is chosen on rows left out."""

    name: ClassVar[str] = "stacking"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        numbers = len(outputs.names) * outputs.classes**2
        if numbers > MOST_NUMBERS:
            raise TuningError("stacking", f"{numbers} numbers to fit", f"it is tried up to {MOST_NUMBERS}")
        some = outputs.sample(_ROWS, seed)
        with threadpool_limits(1):  # thousands of products too small to be shared: threads would wait for each other
            return _stacking(some, self._penalty(some, seed), seed)

    def _penalty(self, outputs: Outputs, seed: int) -> float:
        """By log-loss on a third of the rows."""
        rest, fold = folds_of(outputs.labels, outputs.groups, outputs.times, _FOLDS, seed)[0]
        seen, judged = outputs.rows(rest), outputs.rows(fold)

        def loss(penalty: float) -> float:
            try:
                fused = _stacking(seen, penalty, seed).fuse(outputs.names, judged.probs)
            except FusionError:  # classes that can be told apart want coefficients without end
                return np.inf
            return log_loss(judged.labels, fused.astype(np.float64))

        return min(_PENALTIES, key=loss)


def _stacking(outputs: Outputs, penalty: float, seed: int) -> Recipe:
    # A class without a row would have its bias fall without end: each of these gets one, of which members know nothing.
    missing = np.setdiff1d(np.arange(outputs.classes), outputs.labels)
    blank = np.full((len(outputs.names), len(missing), outputs.classes), 1 / outputs.classes, np.float32)
    probs = np.concatenate([outputs.probs.astype(np.float32, copy=False), blank], axis=1)
    labels = np.concatenate([outputs.labels, missing])
    rule = fit_stacking(
        outputs.names, torch.from_numpy(probs), torch.from_numpy(labels), over="logits", l2=penalty,
        training=Training(seed=seed),  # with members left out: what is served has to do without some
    )  # fmt: skip
    return Recipe(rule.name, outputs.names, None, rule.options, rule.state())
