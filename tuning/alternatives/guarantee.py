"""What a fusion may promise beside its answer: conformal thresholds, for each set of members that may be left."""

# N rows, C classes

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.calibration.conformal import fit_conformal, prediction_intervals, prediction_sets
from quorate.tuning.errors import TuningError

# Who answered (None for everybody) to what is served then, (N, C).
Fuse = Callable[[Collection[str] | None], NDArray[np.float32]]


@dataclass(frozen=True)
class Guarantee:
    """Sets of classes, or intervals of values, that hold the truth with a probability.

    Attributes:
        coverage: the probability.
        by_class: it holds for the rows of each class.
        thresholds: by the members that answered.
        checked: the share of rows whose truth was in what was fitted on other rows, everybody there.
        size: classes in a set, or the width of an interval, on average of those.
        values: it is intervals.
    """

    coverage: float
    by_class: bool
    thresholds: Mapping[tuple[str, ...], float | NDArray[np.float64]]
    checked: float
    size: float
    values: bool

    def fields(self, classes: Sequence[str]) -> dict[str, Any]:
        """A spec's ``conformal``."""

        def numbers(threshold: float | NDArray[np.float64]) -> Any:
            plain = np.asarray(threshold).tolist()
            return dict(zip(classes, plain, strict=True)) if isinstance(plain, list) else plain

        listed = [{"members": list(some), "threshold": numbers(one)} for some, one in self.thresholds.items()]
        return {"coverage": self.coverage, "by_class": self.by_class, "thresholds": listed}

    def sentence(self) -> str:
        """What was found."""
        what = f"intervals {self.size:.4g} wide" if self.values else f"sets of {self.size:.2f} classes"
        each = " of each class" if self.by_class else ""
        return (
            f"{what} on average hold the truth with probability {self.coverage:g}{each}; fitted on other rows they "
            f"held it in {self.checked:.1%}"
        )


def fit_guarantee(
    fuse: Fuse,
    labels: NDArray[Any],
    everyone: tuple[str, ...],
    left: Sequence[tuple[str, ...]],
    coverage: float,
    by_class: bool = False,
    seed: int = 0,
) -> Guarantee:
    """Thresholds from rows that neither members nor fusion were fitted on.

    Args:
        fuse: the fusion's answers to them.
        labels: (N,) index of the true class, or float of the true value.
        everyone: the members that are asked.
        left: other sets of members that may be all that answers.
        coverage: above 0 and below 1.
        by_class: thresholds of each class.
        seed: of the halves that coverage is checked on.

    Raises:
        TuningError: too few rows to promise so much.
    """
    fused, values = fuse(None), labels.dtype.kind == "f"
    whole = fit_conformal(fused, labels, coverage, by_class)
    if not np.isfinite(whole).any():
        least = int(np.ceil(round(coverage / (1 - coverage), 9)))
        raise TuningError(
            "coverage", f"{coverage:g} with {len(labels)} rows", f"give {least} rows to judge on at least"
        )
    found = {everyone: whole} | {some: fit_conformal(fuse(some), labels, coverage, by_class) for some in left}
    if values:
        kept = {some: one for some, one in found.items() if np.isfinite(one).all()}
    else:  # no score of a class is above 1: one with too few rows to promise anything is in every set
        kept = {some: np.minimum(one, 1.0) for some, one in found.items()}
    return Guarantee(coverage, by_class, kept, *_checked(fused, labels, coverage, by_class, seed), values)


def _checked(
    fused: NDArray[np.float32], labels: NDArray[Any], coverage: float, by_class: bool, seed: int
) -> tuple[float, float]:
    """How many of each half were covered by what the other half gave, and how large sets or intervals are."""
    order = np.random.default_rng(seed).permutation(len(labels))
    halves = order[::2], order[1::2]
    covered, sizes = [], []
    for fitted, other in (halves, halves[::-1]):
        threshold = fit_conformal(fused[fitted], labels[fitted], coverage, by_class)
        truth = labels[other]
        if truth.dtype.kind == "f":
            low, high = prediction_intervals(fused[other], threshold).T
            covered.append((low <= truth) & (truth <= high))
            sizes.append(high - low)
        else:
            sets = prediction_sets(fused[other], threshold)
            covered.append(sets[np.arange(len(truth)), truth])
            sizes.append(sets.sum(axis=1))
    return float(np.concatenate(covered).mean()), float(np.concatenate(sizes).mean())
