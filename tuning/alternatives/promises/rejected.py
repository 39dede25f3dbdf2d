"""Rows that an alternative is not sure enough of abstain, so that few of those that it answers are wrong."""

# J rows, C classes

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.calibration.decision import Decision, fit_rejection


@dataclass(frozen=True)
class Rejected:
    """What was fitted, and what is known of it.

    Attributes:
        below: rows whose largest probability is less abstain.
        max_error, confidence: what was tested: the share of errors among the others.
        answered, errors: shares of rows, and of errors among these, by thresholds fitted on other rows.
    """

    below: float
    max_error: float
    confidence: float
    answered: float
    errors: float

    @property
    def decision(self) -> Decision:
        return Decision(reject_below=self.below)

    def sentence(self) -> str:
        """What it promises and costs."""
        return (
            f"rows with a probability below {self.below:.4f} abstain: of the others at most {self.max_error:.2%} are "
            f"wrong with probability {self.confidence:g}; fitted on other rows it answered {self.answered:.1%}, "
            f"{self.errors:.2%} of them wrongly"
        )


def fit_rejected(
    fused: NDArray[np.float32], labels: NDArray[np.int64], max_error: float, confidence: float, seed: int = 0
) -> Rejected | None:
    """Fit it on rows that neither members nor fusion were fitted on; None where no threshold is shown to do.

    Args:
        fused: (J, C) probabilities.
        labels: (J,).
        max_error: share of errors among answered rows.
        confidence: over the draw of these rows.
        seed: of the halves that it is checked on.
    """
    below = _threshold(fused, labels, max_error, confidence)
    if below is None:
        return None
    order = np.random.default_rng(seed).permutation(len(labels))
    halves = order[::2], order[1::2]
    answered = np.zeros(len(labels), dtype=np.bool_)
    for fitted, other in (halves, halves[::-1]):
        least = _threshold(fused[fitted], labels[fitted], max_error, confidence)
        answered[other] = least is not None and fused[other].max(axis=1) >= least
    wrong = fused.argmax(axis=1) != labels
    errors = float(wrong[answered].mean()) if answered.any() else 0.0
    return Rejected(below, max_error, confidence, float(answered.mean()), errors)


def _threshold(
    fused: NDArray[np.float32], labels: NDArray[np.int64], max_error: float, confidence: float
) -> float | None:
    """Half-way to the next row that abstains: rounding on another device moves no row across it."""
    found = fit_rejection(fused, labels, max_error, confidence).threshold
    if not np.isfinite(found):
        return None
    sure = fused.max(axis=1).astype(np.float64)
    others = sure[sure < found]
    return float((found + others.max()) / 2) if len(others) else float(found)
