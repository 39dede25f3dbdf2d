"""The log-linear pool (Genest and Zidek 1986, "Combining Probability Distributions")."""

# M members, B batch, C classes

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError
from quorate.fusion.numerics.scratch import in_blocks, scratch
from quorate.fusion.numerics.tracing import for_numpy
from quorate.fusion.numerics.weighted_sum import weighted_sum
from quorate.fusion.rules.weighting import WeightedRule


class GeometricMean(WeightedRule):
    """Product of p_m ** w_m, normalised: what every member finds unlikely is unlikely.

    A probability below the floor counts as the floor, so that one member's zero (or a class that it does not know)
    weighs much but is no veto.
    """

    name = "geometric_mean"

    def __init__(self, num_members: int, weights: Sequence[float] | None = None, floor: float = 1e-12):
        """Args:
            num_members: M.
            weights: one per member, finite and >= 0; None when all count the same.
            floor: the least probability, between 1e-37 and 1.

        Raises:
            RuleOptionError: a weight or the floor is out of range.
        """
        super().__init__(num_members, weights)
        if not isinstance(floor, (int, float)) or not 1e-37 <= floor < 1:
            raise RuleOptionError(self.name, "floor", floor, "give a probability from 1e-37 to below 1")
        self.floor = float(floor)
        self.options = {"floor": self.floor}

    def _values(self, outputs: Tensor, shares: Tensor, present: Tensor | None) -> Tensor:
        def formula(rows: slice) -> Tensor:
            pooled = weighted_sum(shares if shares.dim() == 1 else shares[:, rows], self._logs(outputs[:, rows]))
            return pooled.softmax(dim=-1).float()

        return in_blocks(formula, outputs)

    def _logs(self, outputs: Tensor) -> Tensor:
        if not for_numpy(outputs):
            return outputs.clamp(min=self.floor).log()
        # numpy's float32 logarithm takes half of torch's time, and torch's clamp a quarter of numpy's.
        logs = scratch(tuple(outputs.shape), np.float32)
        torch.clamp(outputs, min=self.floor, out=torch.from_numpy(logs))
        return torch.from_numpy(np.log(logs, out=logs))
