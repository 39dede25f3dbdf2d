"""Alternatives that first make members mean what they say: a floor and a temperature for each, fitted by log-loss."""

# M members, N rows, C classes

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.calibration.calibration import Calibration, fit_calibration
from quorate.tuning.alternatives.base import Kind, Outputs
from quorate.tuning.alternatives.pools import by_name, shrunk_weights
from quorate.tuning.alternatives.recipe import Recipe
from quorate.tuning.scoring import true_class

# Two numbers are known well enough from so many rows.
_ROWS = 5000


@dataclass(frozen=True)
class CalibratedSingle:
    """The member of least log-loss once it is calibrated, alone."""

    name: ClassVar[str] = "calibrated_single"
    kind: ClassVar[Kind] = "single"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        found = calibrations(outputs, seed)
        columns = true_class(calibrated(outputs.probs, found), outputs.labels)
        best = int(np.average(np.log(columns), axis=1, weights=outputs.weights).argmax())
        name = outputs.names[best]
        return Recipe("mean", (name,), member_calibration={name: found[best]})


@dataclass(frozen=True)
class CalibratedPool:
    """The weighted mean of least log-loss over calibrated members."""

    name: ClassVar[str] = "calibrated"
    kind: ClassVar[Kind] = "ensemble"
    fitted: ClassVar[bool] = True

    def fit(self, outputs: Outputs, seed: int) -> Recipe:
        found = calibrations(outputs, seed)
        columns = true_class(calibrated(outputs.probs, found), outputs.labels)
        weights = by_name(outputs.names, shrunk_weights(columns, outputs, seed))
        return Recipe(
            "weighted_mean", outputs.names, weights, member_calibration=dict(zip(outputs.names, found, strict=True))
        )


def calibrations(outputs: Outputs, seed: int) -> list[Calibration]:
    """A floor, and then a temperature, for each member."""
    some = outputs.sample(_ROWS, seed)
    return [_calibration(member, some.labels) for member in some.probs]


def calibrated(probs: NDArray[Any], found: list[Calibration]) -> NDArray[np.float32]:
    """(M, N, C) members' outputs, each under its calibration."""
    tensors = [torch.from_numpy(np.ascontiguousarray(member, dtype=np.float32)) for member in probs]
    return np.stack([one.apply(tensor).numpy() for one, tensor in zip(found, tensors, strict=True)])


def _calibration(probs: NDArray[Any], labels: NDArray[np.int64]) -> Calibration:
    floor = fit_calibration("floor", probs, labels).floor
    floored = (1 - floor) * probs.astype(np.float64) + floor / probs.shape[1]
    return Calibration(fit_calibration("temperature", floored, labels).scale, (), floor)
