"""What filling a store comes to, and how it calls and counts what members say of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.fusion.registry import RULES
from quorate.tuning.errors import PredictionError
from quorate.tuning.predictions.run_member import VALUE


@dataclass(frozen=True)
class FillReport:
    """What filling did.

    Attributes:
        kept: members whose predictions were there already.
        computed: members that were run, on all rows or on those of damaged partitions -> why.
    """

    kept: tuple[str, ...]
    computed: Mapping[str, str]


def columns_of(spec: EnsembleSpec, labels: NDArray[Any]) -> tuple[str, ...]:
    """What the numbers are called that a member says of a row: its classes, levels of quantiles, or values."""
    values = tuple(f"{VALUE}{number}" for number in range(labels.shape[1])) if labels.ndim > 1 else (VALUE,)
    if spec.quantiles is not None:
        values = tuple(f"{level:g}" for level in spec.quantiles)
    elif RULES[spec.output_fusion.rule].moments:
        values = (*values, *(f"variance of {value}" for value in values))
    return tuple(spec.classes or values)


def row_bytes_of(inputs: Mapping[str, NDArray[Any]]) -> int:
    """What one row of inputs holds."""
    return sum(array.nbytes for array in inputs.values()) // max(1, len(next(iter(inputs.values()))))


def check_shape(name: str, probs: NDArray[Any], rows: int, columns: Sequence[str]) -> None:
    """Raise PredictionError where a member has not said of so many rows what their columns are."""
    if probs.shape == (rows, len(columns)):
        return
    found = f"shape {probs.shape} for {rows} rows and {len(columns)} columns"
    fix = (
        "give each row class probabilities, as many values as are true of it (and behind them their variances "
        "where rule: mixture_moments or inverse_variance reads these), or quantiles as the spec names"
    )
    raise PredictionError(f"predictions of {name}", found, fix)
