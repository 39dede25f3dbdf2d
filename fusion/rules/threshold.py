"""Accept every class that reaches its threshold: for binary alarms, several labels at once, and k-of-M decisions."""

# M members, B batch, C classes

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.tracing import require
from quorate.fusion.rules.weighting import WeightedRule, pool


class Threshold(WeightedRule):
    """1 for each class that is accepted, 0 for the others; each class is decided by itself.

    Without ``at_least`` a class is accepted where the (weighted) mean of the members reaches its threshold. With
    ``at_least: k`` it is accepted where at least k of the members reach it, each by itself (k-of-M; weights then only
    say, by 0, who takes no part). With ``reject`` a row in which no class is accepted abstains: over probabilities
    that sum to one this is Chow's reject option (Chow 1970, "On Optimum Recognition Error and Reject Tradeoff").
    """

    name = "threshold"

    def __init__(
        self,
        num_members: int,
        weights: Sequence[float] | None = None,
        threshold: float | Sequence[float] = 0.5,
        at_least: int | None = None,
        reject: bool = False,
    ):
        """Args:
            num_members: M.
            weights: one per member, finite and >= 0; None when all count the same.
            threshold: one for all classes, or C of them in the order of the classes.
            at_least: k, from 1 to the number of members with weight.
            reject: abstain from rows without any accepted class.

        Raises:
            RuleOptionError: an option is out of range.
        """
        super().__init__(num_members, weights)
        values = [threshold] if isinstance(threshold, (int, float)) else list(threshold)
        if not values or any(not isinstance(t, (int, float)) or not math.isfinite(t) for t in values):
            raise RuleOptionError(self.name, "threshold", threshold, "give one finite number, or one per class")
        voters = int((self.shares > 0).sum())
        if at_least is not None and (type(at_least) is not int or not 1 <= at_least <= voters):
            raise RuleOptionError(self.name, "at_least", at_least, f"give a whole number from 1 to {voters}")
        if not isinstance(reject, bool):
            raise RuleOptionError(self.name, "reject", reject, "give true or false")
        self.threshold = torch.tensor(values, dtype=torch.float32)
        self.at_least, self.reject = at_least, reject
        # As they were given: float32 would turn 0.6 into 0.60000002 in the spec.
        self.options = {
            "threshold": values[0] if isinstance(threshold, (int, float)) else values,
            "at_least": at_least,
            "reject": reject,
        }

    def _decide(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor | None]:
        values = self._values(outputs, shares, present)
        return values, ((values == 0).all(dim=-1) if self.reject else None)

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        threshold = self.threshold.to(outputs.device)
        if threshold.shape[0] not in (1, outputs.shape[-1]):
            found = f"{threshold.shape[0]} numbers"
            raise RuleOptionError(self.name, "threshold", found, f"give one, or {outputs.shape[-1]}: one per class")
        if self.at_least is None:
            return (pool(outputs.detach(), shares) >= threshold).float()
        takes_part = (shares > 0).unsqueeze(-1)
        takes_part = takes_part.unsqueeze(-1) if shares.dim() == 1 else takes_part
        enough = (shares > 0).sum(dim=0) >= self.at_least
        require(enough, f"{self.at_least} members in every row (at_least)", "a row with fewer")
        return (((outputs >= threshold) & takes_part).sum(dim=0) >= self.at_least).float()
