"""Is the ensemble worth it? Each member, the uniform mean and the tuned weights on rows none of them has seen.

Gains are intervals of the paired bootstrap: both sides are judged on the same resampled rows, so what makes rows hard
for all drops out.
"""

# M members, N rows, C classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quorate.fusion.evaluation.significance import Interval, paired_bootstrap
from quorate.tuning.evaluation.row_scores import Answers, answers, mixture
from quorate.tuning.scoring import Floats

Decision = Literal["tuned", "uniform", "single"]


@dataclass(frozen=True)
class Score:
    """One model on the held-out rows; log-loss in nats per row."""

    log_loss: float
    accuracy: float
    f1_macro: float


@dataclass(frozen=True)
class Judgement:
    """What the held-out rows say.

    Attributes:
        rows: how many there were.
        best_member: the member with the lowest log-loss on the validation rows, not on these.
        gain_over_best: how much lower the tuned log-loss is than that member's, nats per row, with a 95 % interval.
        gain_over_uniform: the same over the uniform mean's.
        decision: tuned weights, the uniform mean, or the best member alone.
    """

    rows: int
    members: Mapping[str, Score]
    uniform: Score
    tuned: Score
    best_member: str
    gain_over_best: Interval
    gain_over_uniform: Interval
    decision: Decision

    @property
    def verdict(self) -> str:
        """The decision as a sentence with its reason."""
        best, uniform = self.gain_over_best, self.gain_over_uniform
        over_best = f"{signed(best.difference)} nats per row over {self.best_member} ({span(best)})"
        if self.decision == "single":
            return f"do not ensemble, serve {self.best_member}: the gain of {over_best} is not above 0"
        over_uniform = f"{signed(uniform.difference)} over the uniform mean ({span(uniform)})"
        if self.decision == "uniform":
            return f"ensemble, but the uniform mean will do: {over_best}, {over_uniform}"
        return f"ensemble with the tuned weights: {over_best}, {over_uniform}"


def signed(number: float) -> str:
    """With its sign and four decimals; what rounds to nothing has no minus."""
    return f"{round(number, 4) + 0.0:+.4f}"


def span(interval: Interval) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}"


def judge(
    names: Sequence[str], probs: NDArray[Any], labels: NDArray[np.int64], weights: Floats, best_member: str
) -> Judgement:
    """Compare the tuned weights with every member and the uniform mean.

    Args:
        names: of the M members.
        probs: (M, N, C) on held-out rows.
        labels: (N,) index of the true class.
        weights: (M,) tuned on other rows.
        best_member: chosen on other rows.
    """
    tuned, uniform = answers([mixture(shares, probs) for shares in (weights, equal_shares(len(names)))], labels)
    return judge_answers(names, answers(probs, labels), labels, tuned, uniform, best_member)


def equal_shares(members: int) -> Floats:
    """(M,) weights of the uniform mean."""
    return np.full(members, 1.0 / members)


def judge_answers(
    names: Sequence[str],
    members: Answers,
    labels: NDArray[np.int64],
    tuned: Answers,
    uniform: Answers,
    best_member: str,
) -> Judgement:
    """Compare what any rule made of the members with every member and the uniform mean.

    Args:
        names: of the M members.
        members: (M, N) on held-out rows.
        labels: (N,) index of the true class.
        tuned: (N,) of a rule that was fitted on other rows.
        uniform: (N,) of the uniform mean of the members that the rule fuses.
        best_member: chosen on other rows.
    """
    best_losses = -np.log(members.right[names.index(best_member)])
    tuned_losses, uniform_losses = -np.log(tuned.right), -np.log(uniform.right)
    over_best = paired_bootstrap(best_losses, tuned_losses)
    over_uniform = paired_bootstrap(uniform_losses, tuned_losses)
    decision: Decision = "single" if over_best.low <= 0 else "tuned" if over_uniform.low > 0 else "uniform"
    return Judgement(
        rows=len(labels),
        members={name: _score(one, labels) for name, one in zip(names, members, strict=True)},
        uniform=_score(uniform, labels),
        tuned=_score(tuned, labels),
        best_member=best_member,
        gain_over_best=over_best,
        gain_over_uniform=over_uniform,
        decision=decision,
    )


def _score(given: Answers, labels: NDArray[np.int64]) -> Score:
    from sklearn.metrics import f1_score

    return Score(
        log_loss=-float(np.log(given.right).mean()),
        accuracy=float((given.decided == labels).mean()),
        f1_macro=float(f1_score(labels, given.decided, average="macro", zero_division=0.0)),
    )
