"""From probabilities to decisions: a threshold per class, and when to abstain."""

# N rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.fusion.base import Fused
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.evaluation.risk_control import check_confidence, passed, share_p_value

ABSTAINED = -1
# Shares of rows to answer that are tested, and how many of these a test begins at.
_TRIED, _STARTS = 50, 5


@dataclass(frozen=True)
class Rejection:
    """Abstain below ``threshold`` (of the most probable class).

    Attributes:
        threshold: of the largest probability in a row; infinity where no row may be answered.
        coverage: share of the rows it was chosen on that are answered.
        risk: share of errors among those; 0 where none is answered.
    """

    threshold: float
    coverage: float
    risk: float

    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.int64]:
        """(N, C) to (N,) the most probable class, -1 where the row abstains."""
        choice = probabilities.argmax(axis=-1)
        return np.where(probabilities.max(axis=-1) >= self.threshold, choice, ABSTAINED)


@dataclass(frozen=True)
class Decision:
    """What follows from fused probabilities.

    Attributes:
        thresholds: one for all classes or C of them: 1 for each class that reaches its own, 0 for the others; none to
            leave probabilities as they are.
        reject_below: a row whose largest probability is less abstains (Chow 1970, "On Optimum Recognition Error and
            Reject Tradeoff"); 0 rejects nobody.
    """

    thresholds: tuple[float, ...] = ()
    reject_below: float = 0.0

    @classmethod
    def from_spec(
        cls, thresholds: float | Mapping[str, float] | None, reject_below: float | None, classes: Sequence[str]
    ) -> Decision:
        """What a spec says: one threshold, or by class, or none."""
        if isinstance(thresholds, Mapping):
            return cls(tuple(thresholds[name] for name in classes), reject_below or 0.0)
        return cls(() if thresholds is None else (thresholds,), reject_below or 0.0)

    def to_spec(self, classes: Sequence[str]) -> dict[str, Any]:
        """The same as a spec holds it."""
        found: dict[str, Any] = {"reject_below": self.reject_below} if self.reject_below else {}
        if len(self.thresholds) == 1:
            found["thresholds"] = self.thresholds[0]
        elif self.thresholds:
            found["thresholds"] = dict(zip(classes, self.thresholds, strict=True))
        return found

    def apply(self, fused: Fused) -> Fused:
        """Decide: values (B, C) become decisions, or zeros in rows that abstain."""
        unsure = fused.values.amax(dim=-1) < self.reject_below
        abstained = unsure if fused.abstained is None else fused.abstained | unsure
        values = fused.values
        if self.thresholds:
            values = (values >= torch.tensor(self.thresholds, device=values.device)).float()
        values = values.masked_fill(abstained.unsqueeze(-1), 0.0)
        return Fused(values, fused.contributions, fused.coverage, abstained)


def fit_rejection(
    probabilities: NDArray[Any], labels: NDArray[Any], max_risk: float, confidence: float | None = None
) -> Rejection:
    """The threshold that answers the most rows at an error of at most ``max_risk`` among them.

    El-Yaniv and Wiener 2010, "On the Foundations of Noise-free Selective Classification": the risk-coverage curve.

    Args:
        probabilities: (N, C) on held-out rows.
        labels: (N,) class indices.
        max_risk: from 0 to 1.
        confidence: with which it holds on new rows, over the draw of these ones, such as 0.95; None where it is to
            hold on these rows, and on others within sampling error.

    Raises:
        RuleOptionError: max_risk or confidence is out of range.
    """
    if not 0 <= max_risk <= 1:
        raise RuleOptionError("rejection", "max_risk", max_risk, "give a share from 0 to 1")
    check_confidence("rejection", confidence)
    sure = probabilities.max(axis=-1)
    order = np.argsort(-sure, kind="stable")
    wrong = (probabilities.argmax(axis=-1) != labels)[order]
    risk = np.cumsum(wrong) / np.arange(1, len(order) + 1)
    ranked = sure[order]
    # A threshold cannot part rows that are equally sure.
    last_of_equals = np.append(ranked[1:] != ranked[:-1], True)
    allowed = np.flatnonzero((risk <= max_risk) & last_of_equals)
    if confidence is not None:
        allowed = _proven(np.cumsum(wrong), last_of_equals, max_risk, 1 - confidence)
    if not allowed.size:
        return Rejection(float("inf"), 0.0, 0.0)
    cut = int(allowed[-1])
    return Rejection(float(ranked[cut]), (cut + 1) / len(order), float(risk[cut]))


def _proven(errors: NDArray[np.int64], ends: NDArray[np.bool_], max_risk: float, delta: float) -> NDArray[np.intp]:
    """Last rows of the thresholds at which the risk is shown to be at most that.

    Args:
        errors: (N,) so far, the surest rows first.
        ends: (N,) rows after which a threshold may stand.
    """
    every = np.flatnonzero(ends)
    wanted = np.linspace(0, len(errors) - 1, _TRIED + 1)[1:]
    cuts = np.unique(every[np.minimum(np.searchsorted(every, wanted), len(every) - 1)])
    starts = sorted({len(cuts) * number // _STARTS for number in range(_STARTS)})
    good = passed(
        lambda number: share_p_value(int(errors[cuts[number]]), int(cuts[number]) + 1, max_risk),
        starts, len(cuts), delta,
    )  # fmt: skip
    return np.asarray(cuts[good], dtype=np.intp)


def fit_thresholds(scores: NDArray[Any], truth: NDArray[Any], together: bool = False) -> list[float]:
    """For each class the threshold of highest F1, for ``Threshold(threshold=...)``; exact, over all scores that occur.

    Args:
        scores: (N, C) fused scores of held-out rows.
        truth: (N, C) bool, the classes that hold; several may, or none.
        together: the F1 of all classes' decisions counted together (micro), not of each class (macro).

    Returns:
        C numbers: the smallest score to accept. Infinity cannot stand in a spec, so a class that never holds gets the
        next float above its largest score.
    """
    classes = [_Cuts(scores[:, c].astype(np.float64), truth[:, c].astype(bool)) for c in range(scores.shape[1])]
    return _micro(classes) if together else [one.threshold(one.best_f1()) for one in classes]


class _Cuts:
    """One class's rows, the highest score first, and what follows from cutting after each; none for a score's ties.

    Attributes:
        said, right: (n,) rows above each cut, and those of them that are true; the first cut is above all rows.
    """

    def __init__(self, scores: NDArray[np.float64], truth: NDArray[np.bool_]):
        order = np.argsort(-scores, kind="stable")
        self._ranked, hits = scores[order], np.cumsum(truth[order])
        ends = np.flatnonzero(np.append(self._ranked[1:] != self._ranked[:-1], True))
        self.said, self.right = np.append(0, ends + 1), np.append(0, hits[ends])
        self.true = int(hits[-1])

    def best_f1(self) -> int:
        """Number of the cut."""
        return int((2 * self.right / np.maximum(self.said + self.true, 1)).argmax())

    def threshold(self, cut: int) -> float:
        if not cut:
            return float(np.nextafter(np.float32(self._ranked[0]), np.float32(np.inf)))
        return float(self._ranked[self.said[cut] - 1])


def _micro(classes: Sequence[_Cuts]) -> list[float]:
    """Thresholds of the highest ratio of sums; by parts, each ratio the price of the next (Dinkelbach 1967, "On
    Nonlinear Fractional Programming"), which ends at the best there is.
    """
    cuts, ratio = [one.best_f1() for one in classes], -1.0
    while True:
        right = sum(one.right[cut] for one, cut in zip(classes, cuts, strict=True))
        named = sum(one.said[cut] + one.true for one, cut in zip(classes, cuts, strict=True))
        better = float(2 * right / named) if named else 0.0
        if better <= ratio + 1e-12:
            return [one.threshold(cut) for one, cut in zip(classes, cuts, strict=True)]
        ratio = better
        cuts = [int((2 * one.right - ratio * one.said).argmax()) for one in classes]
