"""How sure an answer is: sets of classes or intervals of values that hold the truth with a stated probability."""

# M members of the fusion, B rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from quorate.deployments.engine.fusions.presence import Mask
from quorate.deployments.errors import SpecError
from quorate.deployments.spec.fields.fusion import ConformalSpec
from quorate.fusion.calibration.conformal import Columns, prediction_intervals, prediction_sets
from quorate.fusion.registry import RULES


@dataclass(frozen=True)
class Conformal:
    """Thresholds of one fusion.

    Attributes:
        coverage: the probability that the truth is in the set, or the interval.
        classes: names of the C columns; none where the answer is values.
        thresholds: (M,) flags, who answered, and (C,) or (1,) numbers for rows that exactly these answered; the set
            that most rows have first.
        columns: what a row of the answer holds, where that is no classes.
    """

    coverage: float
    classes: tuple[str, ...]
    thresholds: Sequence[tuple[Mask, NDArray[np.float64]]]
    columns: Columns = "quantiles"

    def parameters(self, values: NDArray[np.float32], there: Mask) -> dict[str, str | float]:
        """What the answer says of itself, rows in the order of ``values``; null for a row of which nothing is known.

        Args:
            values: (B, C) probabilities, (B, K) values, (B, Q) quantiles, or (B, 2 K) means with variances.
            there: (M, B) who was fused; nobody in a row that was fused from less than it seems.

        Raises:
            SpecError: thresholds are of another number of values.
        """
        limits, known = np.full(values.shape, np.nan), np.zeros(len(values), dtype=bool)
        for some, threshold in self.thresholds:
            rows = (there == some[:, None]).all(axis=0)
            if len(threshold) not in (1, values.shape[1]):
                odd = f"{len(threshold)} numbers for {values.shape[1]} values"
                raise SpecError("conformal.thresholds", odd, "run quorate tune, which fits and writes them")
            limits[rows], known = threshold, known | rows
            if known.all():
                break
        if self.classes:
            names = np.array(self.classes, dtype=object)
            found = [names[kept].tolist() for kept in prediction_sets(values, limits)]
        else:
            found = prediction_intervals(values, limits, self.columns).tolist()
        said = found if known.all() else [one if is_known else None for one, is_known in zip(found, known, strict=True)]
        name = "prediction_sets" if self.classes else "prediction_intervals"
        return {name: orjson.dumps(said).decode(), "conformal_coverage": self.coverage}


def build_conformal(
    spec: ConformalSpec, rule: str, asked: Sequence[str], classes: tuple[str, ...], field: str
) -> Conformal:
    """What a fusion's spec asks for.

    Args:
        rule: the fusion's.
        asked: the members in the order of the rule; others are never there.
        classes: of the ensemble where members give probabilities.
        field: the fusion's, for errors.

    Raises:
        SpecError: nothing is fitted.
    """
    if not spec.thresholds:
        raise SpecError(
            f"{field}.conformal.thresholds", "there are none", "run quorate tune, which fits and writes them"
        )

    def numbers(threshold: Any) -> NDArray[np.float64]:
        if isinstance(threshold, Mapping):
            return np.array([threshold[name] for name in classes])
        return np.atleast_1d(np.asarray(threshold, dtype=np.float64))

    by_set = [(np.array([name in one.members for name in asked]), numbers(one.threshold)) for one in spec.thresholds]
    by_set.sort(key=lambda one: -int(one[0].sum()))  # everybody, nearly always
    entry = RULES[rule]
    columns: Columns = "moments" if entry.moments else "quantiles" if entry.ascending else "values"
    return Conformal(spec.coverage, classes, by_set, columns)
