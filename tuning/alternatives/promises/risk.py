"""What answers may lose, and how sure that is to be on new rows."""

from __future__ import annotations

from dataclasses import dataclass

from quorate.tuning.alternatives.base import Outputs
from quorate.tuning.errors import TuningError


@dataclass(frozen=True)
class Risk:
    """What is asked of thresholds; numbers that are no shares are a TuningError.

    Attributes:
        max_loss: of accuracy, by asking few members for rows that they are sure of; None to ask all.
        max_error: share of errors among rows that are answered: the others abstain; None to answer all.
        explore: of a bandit, the share of rows, drawn at random, that ask everybody; a cascade would not.
        confidence: that either holds, over the draw of the rows that thresholds are fitted on.
    """

    max_loss: float | None = None
    max_error: float | None = None
    confidence: float = 0.95
    explore: float = 0.0

    def __post_init__(self) -> None:
        for name, share in (("max_loss", self.max_loss), ("max_error", self.max_error)):
            if share is not None and not 0 <= share < 1:
                raise TuningError(name, f"{share:g}", "give a share from 0 to below 1, such as 0.01")
        if not 0 <= self.explore < 1:
            raise TuningError("explore", f"{self.explore:g}", "give a share from 0 to below 1, such as 0.02")
        if self.explore and self.max_loss is None:
            raise TuningError("explore", "no max_loss", "say what accuracy may be lost: max_loss=0.01")
        if not 0 < self.confidence < 1:
            raise TuningError("confidence", f"{self.confidence:g}", "give a share above 0 and below 1, such as 0.95")


def check_risk(risk: Risk | None, judge: Outputs) -> None:
    """Refuse rows on which no test of a risk is valid: it counts right and wrong rows that are drawn alike.

    Raises:
        TuningError: members predict no single class, or rows depend on each other or count differently.
    """
    if risk is None or (risk.max_loss is None and risk.max_error is None):
        return
    named = "max_error" if risk.max_loss is None else "max_loss"
    if judge.of_values:
        raise TuningError(named, f"the task {judge.task}", "leave it out: it is of rows of one class each")
    if judge.sequences is not None:
        raise TuningError(named, "tokens of sequences", "leave it out: it is of rows that stand alone")
    if judge.groups is not None:
        raise TuningError(named, "rows that belong together", "leave the groups out, or this: it is of single rows")
    if judge.weights is not None:
        raise TuningError(named, "rows that count differently", "leave the weights out: rows are counted")
