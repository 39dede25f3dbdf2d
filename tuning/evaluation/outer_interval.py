"""How often the outer two of predicted quantiles hold the truth: whether they mean what they say."""

# N rows, Q quantiles

from __future__ import annotations

from dataclasses import dataclass

from quorate.tuning.alternatives.base import Outputs, answers_of
from quorate.tuning.evaluation.verdict import Choice


@dataclass(frozen=True)
class OuterInterval:
    """From the lowest of the quantiles to the highest.

    Attributes:
        low, high: their levels.
        held: the share of held-out rows whose truth is between them.
    """

    low: float
    high: float
    held: float

    def sentence(self) -> str:
        """What was found, and what would be right."""
        return (
            f"the quantiles {self.low:g} to {self.high:g} held {self.held:.1%} of the held-out rows, "
            f"{self.high - self.low:.1%} would be right"
        )


def outer_interval(choice: Choice, judge: Outputs) -> OuterInterval | None:
    """Of the recommended alternative; None where it is of no quantiles, or fewer than two."""
    recipe = choice.recipes.get(choice.recommended)
    if recipe is None or len(judge.levels) < 2:
        return None
    fused = answers_of(recipe, judge)
    held = (fused[:, 0] <= judge.labels) & (judge.labels <= fused[:, -1])
    return OuterInterval(judge.levels[0], judge.levels[-1], float(held.mean()))
