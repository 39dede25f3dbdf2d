"""Alternatives that first make members mean what they say: a floor for each, and a temperature or a scale and a bias by
class, fitted by log-loss.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.calibration.calibration import Calibration, fit_calibration
from quorate.fusion.errors import FusionError
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.one_error_more import one_error_more
from quorate.tuning.alternatives.pools import by_name, shrunk_weights
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.data.folds import Fold, folds_of
from quorate.tuning.scoring import Floats, true_class

# A few numbers are known well enough from so many rows.
_ROWS = 5000
# A scale and a bias for each class want so many rows a number, and are looked for up to so many numbers.
_ROWS_A_NUMBER, _MOST_NUMBERS = 25, 100
_FOLDS, _KINDS = 3, ("temperature", "vector")


class Calibrator:
    """For each member a floor, then a temperature, or a scale and a bias by class where those do better on rows left
    out; of the rows asked for last they are kept.
    """

    def __init__(self) -> None:
        self._last: tuple[Outputs, list[Calibration], Floats] | None = None

    def fit(self, outputs: Outputs, seed: int) -> tuple[list[Calibration], Floats]:
        """Of each member, and the true-class columns (M, N) of these rows under them."""
        if self._last is None or self._last[0] is not outputs:
            some = outputs.sample(_ROWS, seed)
            folds = folds_of(some.labels, some.groups, some.times, _FOLDS, seed) if _has_rows_for_vectors(some) else []
            found = [_calibration(member, some.labels, folds) for member in some.probs]
            calibrated = [_applied(one, member) for one, member in zip(found, outputs.probs, strict=True)]
            columns = np.concatenate([true_class(member[None], outputs.labels) for member in calibrated])
            self._last = outputs, found, columns
        return self._last[1:]


@dataclass(frozen=True)
class CalibratedSingle:
    """The member of least log-loss once it is calibrated, alone."""

    calibrator: Calibrator
    name: ClassVar[str] = "calibrated_single"
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        found, columns = self.calibrator.fit(outputs, seed)
        best = int(np.average(np.log(columns), axis=1, weights=outputs.weights).argmax())
        name = outputs.names[best]
        return Recipe("mean", (name,), member_calibration={name: found[best]})


@dataclass(frozen=True)
class CalibratedPool:
    """The weighted mean of least log-loss over calibrated members."""

    calibrator: Calibrator
    name: ClassVar[str] = "calibrated"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        found, columns = self.calibrator.fit(outputs, seed)
        weights = by_name(outputs.names, shrunk_weights(columns, outputs, seed))
        by_member = dict(zip(outputs.names, found, strict=True))
        return Recipe("weighted_mean", outputs.names, weights, member_calibration=by_member)


def _applied(calibration: Calibration, probs: NDArray[Any]) -> NDArray[np.float32]:
    """(N, C) of one member, calibrated."""
    return calibration.apply(torch.from_numpy(np.ascontiguousarray(probs, dtype=np.float32))).numpy()


def _calibration(probs: NDArray[Any], labels: NDArray[np.int64], folds: Sequence[Fold]) -> Calibration:
    kind = "vector" if folds and _is_better_by_class(probs, labels, folds) else "temperature"
    return _fitted(kind, probs, labels)


def _fitted(kind: str, probs: NDArray[Any], labels: NDArray[np.int64]) -> Calibration:
    (probs,), labels, _ = one_error_more(probs[None], labels)
    floor = fit_calibration("floor", probs, labels).floor
    floored = _applied(Calibration(floor=floor), probs)
    return replace(fit_calibration(kind, floored, labels), floor=floor)


def _has_rows_for_vectors(outputs: Outputs) -> bool:
    numbers = 2 * outputs.classes
    least = np.bincount(outputs.labels, minlength=outputs.classes).min()
    return numbers <= _MOST_NUMBERS and len(outputs) >= numbers * _ROWS_A_NUMBER and int(least) >= _FOLDS


def _is_better_by_class(probs: NDArray[Any], labels: NDArray[np.int64], folds: Sequence[Fold]) -> bool:
    """Whether a scale and a bias by class beat a temperature by more than a standard error on rows left out."""
    gains = []
    try:
        for rest, fold in folds:
            one, many = (_applied(_fitted(kind, probs[rest], labels[rest]), probs[fold]) for kind in _KINDS)
            columns = true_class(np.stack([one, many]), labels[fold])
            gains.append(np.log(columns[1]) - np.log(columns[0]))
    except FusionError:  # classes that can be told apart want numbers without end
        return False
    found = np.concatenate(gains)
    return bool(found.mean() > found.std() / np.sqrt(len(found)))
