"""Weights solved for who is there: a row that exactly these members answered is fused with weights of its own.

Rescaling what is left of the full weights keeps ratios that were chosen beside the missing member; two members that
shared a third one's errors may both count for too little once it is gone.
"""

# M members, B batch, P patterns

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from quorate.fusion.errors import RuleOptionError


class WeightPatterns:
    """Shares of the members for some sets of members that may be left."""

    def __init__(self, rule: str, num_members: int, patterns: Sequence[Mapping[int, float]]):
        """Args:
            rule: for errors.
            num_members: M.
            patterns: each maps the members that answered, by index, to weights; a member it leaves out is missing.

        Raises:
            RuleOptionError: weights that no row can be fused with, or two patterns of the same members.
        """
        sets = [frozenset(pattern) for pattern in patterns]
        if len(set(sets)) < len(sets):
            raise RuleOptionError(rule, "patterns", "one set of members twice", "give each set of members once")
        for pattern in patterns:
            weights = list(pattern.values())
            if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not 0 < sum(weights) < math.inf:
                raise RuleOptionError(rule, "patterns", weights, "give finite weights >= 0 with a sum above 0")
        self.patterns = tuple(dict(pattern) for pattern in patterns)
        self._sets = torch.zeros(len(patterns), num_members, dtype=torch.bool)
        self._shares = torch.zeros(len(patterns), num_members, dtype=torch.float64)
        for row, pattern in enumerate(patterns):
            total = math.fsum(pattern.values())
            for member, weight in pattern.items():
                self._sets[row, member] = True
                self._shares[row, member] = weight / total

    def replaced(self, shares: Tensor, counted: Tensor, present: Tensor) -> Tensor:
        """Shares with those of a pattern in every row that has one.

        Args:
            shares: (M, B) float64, the full weights rescaled.
            counted: (M,) bool, the members that have weight when all are there; only these make a pattern.
            present: (M, B) bool.

        Returns:
            (M, B) float64, sums to one over M.
        """
        taking_part = present & counted.unsqueeze(1)
        sets, own = self._sets.to(present.device), self._shares.to(present.device)
        fits = (sets.unsqueeze(2) == taking_part.unsqueeze(0)).all(dim=1)  # (P, B), at most one P a row
        return torch.where(fits.any(dim=0), own[fits.int().argmax(dim=0)].T, shares)

    def to_spec(self, members: Sequence[str]) -> list[dict[str, float]]:
        """The option as a spec holds it."""
        return [{members[index]: pattern[index] for index in sorted(pattern)} for pattern in self.patterns]


def read_patterns(rule: str, members: Sequence[str], found: Any) -> list[dict[int, float]]:
    """The option ``patterns`` of a spec, a list of mappings from members to weights, by the members' indices.

    Raises:
        RuleOptionError: it is no such list, or names a member that is never asked.
    """
    fix = "give a list of mappings from the members that answered to numbers, such as [{a: 0.7, b: 0.3}]"
    if not isinstance(found, (list, tuple)):
        raise RuleOptionError(rule, "patterns", found, fix)
    index = {name: number for number, name in enumerate(members)}
    read = []
    for pattern in found:
        numbers = isinstance(pattern, Mapping) and all(
            isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in pattern.values()
        )
        if not numbers or not pattern:
            raise RuleOptionError(rule, "patterns", pattern, fix)
        unknown = sorted(str(name) for name in pattern if name not in index)
        if unknown:
            known = f"name only members that are asked, of weight above 0: {', '.join(members)}"
            raise RuleOptionError(rule, "patterns", unknown, known)
        read.append({index[name]: float(weight) for name, weight in pattern.items()})
    return read
