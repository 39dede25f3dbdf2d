"""What a fusion may promise beside its answer: conformal thresholds, for each set of members that may be left."""

# N rows, C classes, K values

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.calibration.conformal import Columns, fit_conformal, prediction_intervals, prediction_sets
from quorate.tuning.errors import TuningError

# Who answered (None for everybody) to what is served then, (N, C).
Fuse = Callable[[Collection[str] | None], NDArray[np.float32]]
_LEAST_SCALE = 1e-12


@dataclass(frozen=True)
class Guarantee:
    """Sets of classes, or intervals of values, that hold the truth with a probability.

    Attributes:
        coverage: the probability.
        by_class: it holds for the rows of each class.
        thresholds: by the members that answered.
        checked: the share of rows whose truth was in what was fitted on other rows, everybody there; of labels by
            class, the share of the true ones.
        size: classes in a set, or the width of an interval, on average of those.
        columns: what it is of.
    """

    coverage: float
    by_class: bool
    thresholds: Mapping[tuple[str, ...], float | NDArray[np.float64]]
    checked: float
    size: float
    columns: Columns

    def fields(self, classes: Sequence[str]) -> dict[str, Any]:
        """A spec's ``conformal``."""

        def numbers(threshold: float | NDArray[np.float64]) -> Any:
            plain = np.asarray(threshold).tolist()
            by_name = isinstance(plain, list) and self.columns in ("classes", "labels")
            return dict(zip(classes, plain, strict=True)) if by_name else plain

        listed = [{"members": list(some), "threshold": numbers(one)} for some, one in self.thresholds.items()]
        return {"coverage": self.coverage, "by_class": self.by_class, "thresholds": listed}

    def sentence(self) -> str:
        """What was found."""
        of_classes = self.columns in ("classes", "labels")
        what = f"sets of {self.size:.2f} {self.columns}" if of_classes else f"intervals {self.size:.4g} wide"
        truth = "each true label" if self.by_class else "all true labels"
        held = truth if self.columns == "labels" else "the truth"
        each = " of each class" if self.by_class and self.columns == "classes" else ""
        return (
            f"{what} on average hold {held} with probability {self.coverage:g}{each}; fitted on other rows they "
            f"held it in {self.checked:.1%}"
        )


@dataclass(frozen=True)
class Fit:
    """How thresholds are fitted.

    Attributes:
        columns: what fused rows hold.
        coverage: above 0 and below 1.
        by_class: thresholds of each class.
        scales: (K,) of several values, from other rows.
    """

    columns: Columns
    coverage: float
    by_class: bool = False
    scales: NDArray[np.float64] | None = None

    def threshold(self, fused: NDArray[Any], truth: NDArray[Any]) -> float | NDArray[np.float64]:
        return fit_conformal(fused, truth, self.coverage, self.by_class, self.columns, self.scales)

    def held(self, fused: NDArray[Any], truth: NDArray[Any], threshold: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Whether each row's truth is in its set, or interval (of labels by class, each true one), and their sizes."""
        if self.columns == "classes":
            sets = prediction_sets(fused, threshold)
            return sets[np.arange(len(truth)), truth], sets.sum(axis=1)
        if self.columns == "labels":
            sets = prediction_sets(fused, threshold)
            inside = sets[truth > 0] if self.by_class else np.all(sets | (truth == 0), axis=1)
            return np.asarray(inside), sets.sum(axis=1)
        ends = prediction_intervals(fused, threshold, self.columns).reshape(len(truth), -1, 2)
        values = truth.reshape(len(truth), -1)
        within = (ends[..., 0] <= values) & (values <= ends[..., 1])
        return np.all(within, axis=1), (ends[..., 1] - ends[..., 0]).mean(axis=1)


def scales_of(fused: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """(K,) how far each of several values is off, of (N, K); one for all where nothing is."""
    off = np.sqrt(((fused.astype(np.float64) - truth.reshape(fused.shape)) ** 2).mean(axis=0))
    largest = float(off.max())
    return np.maximum(off, 1e-6 * largest) if largest > _LEAST_SCALE else np.ones(len(off))


def fit_guarantee(
    fuse: Fuse,
    labels: NDArray[Any],
    everyone: tuple[str, ...],
    left: Sequence[tuple[str, ...]],
    fit: Fit,
    seed: int = 0,
) -> Guarantee:
    """Thresholds from rows that neither members nor fusion were fitted on.

    Args:
        fuse: the fusion's answers to them.
        labels: (N,) index of the true class, or float of the true value; (N, K) of several labels or values.
        everyone: the members that are asked.
        left: other sets of members that may be all that answers.
        fit: how.
        seed: of the halves that coverage is checked on.

    Raises:
        TuningError: too few rows to promise so much.
    """
    fused, coverage = fuse(None), fit.coverage
    whole = fit.threshold(fused, labels)
    if not np.isfinite(whole).any():
        least = int(np.ceil(round(coverage / (1 - coverage), 9)))
        raise TuningError(
            "coverage", f"{coverage:g} with {len(labels)} rows", f"give {least} rows to judge on at least"
        )
    found = {everyone: whole} | {some: fit.threshold(fuse(some), labels) for some in left}
    if fit.columns in ("classes", "labels"):  # no score is above 1: with too few rows to promise, all are in every set
        kept = {some: np.minimum(one, 1.0) for some, one in found.items()}
    else:
        kept = {some: one for some, one in found.items() if np.isfinite(one).all()}
    return Guarantee(coverage, fit.by_class, kept, *_checked(fused, labels, fit, seed), fit.columns)


def _checked(fused: NDArray[np.float32], labels: NDArray[Any], fit: Fit, seed: int) -> tuple[float, float]:
    """How many of each half were covered by what the other half gave, and how large sets or intervals are."""
    order = np.random.default_rng(seed).permutation(len(labels))
    halves = order[::2], order[1::2]
    covered, sizes = [], []
    for fitted, other in (halves, halves[::-1]):
        threshold = fit.threshold(fused[fitted], labels[fitted])
        inside, size = fit.held(fused[other], labels[other], threshold)
        covered.append(inside)
        sizes.append(size)
    return float(np.concatenate(covered).mean()), float(np.concatenate(sizes).mean())
