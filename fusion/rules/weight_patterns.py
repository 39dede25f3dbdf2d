"""Weights solved for who is there: a row that exactly these members answered is pooled with weights of its own.

A rule that a member is missing from goes on with the numbers it was given or taught beside that member. Rescaling
weights keeps ratios that were chosen beside it: two members that shared a third one's errors may both count for too
little once it is gone. A learned rule has seen few rows of just these members.
"""

# M members, B batch, C classes, P patterns

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quorate.fusion.base import Fused, FusedArrays, Rule
from quorate.fusion.errors import RuleOptionError
from quorate.fusion.registry import PATTERNS
from quorate.fusion.rules.weighting import pool


class Patterned(Rule):
    """A rule, but rows that exactly the members of a pattern answered are their linear pool under its weights.

    A member's contribution in such a row is its share; coverage stays the rule's, so that who is missing shows.
    """

    name = PATTERNS

    def __init__(self, rule: Rule, patterns: Sequence[Mapping[int, float]]):
        """Args:
            rule: fuses all other rows.
            patterns: each maps the members that answered, by index, to weights; a member it leaves out is missing, or
                has weight 0 in the rule.

        Raises:
            RuleOptionError: weights that no row can be fused with, two patterns of the same members, or one that no
                row can have: all members, or one of weight 0.
        """
        self.rule, self.num_members = rule, rule.num_members
        self.patterns = tuple(dict(pattern) for pattern in patterns)
        weights = rule.spec_weights or [1.0] * rule.num_members
        self._counted = torch.tensor([weight > 0 for weight in weights])
        _check(rule.name, self.patterns, {member for member, weight in enumerate(weights) if weight > 0})
        self._sets = torch.zeros(len(patterns), self.num_members, dtype=torch.bool)
        self._shares = torch.zeros(len(patterns), self.num_members, dtype=torch.float64)
        for row, pattern in enumerate(self.patterns):
            total = math.fsum(pattern.values())
            for member, weight in pattern.items():
                self._sets[row, member] = True
                self._shares[row, member] = weight / total

    def fuse_arrays(self, outputs: NDArray[np.float32], present: NDArray[np.bool_] | None = None) -> FusedArrays:
        """As the rule does, with what makes it fast, where nobody is missing."""
        if (present is None or present.all()) and np.isfinite(outputs.sum()):
            return self.rule.fuse_arrays(outputs, present)
        return super().fuse_arrays(outputs, present)

    def _fuse_complete(self, outputs: Tensor) -> Fused:
        return self.rule.fuse(outputs)

    def _fuse(self, outputs: Tensor, present: Tensor) -> Fused:
        fused = self.rule.fuse(outputs, present)
        taking_part = present & self._counted.to(present.device).unsqueeze(1)
        sets, own = self._sets.to(present.device), self._shares.to(present.device)
        found = (sets.unsqueeze(2) == taking_part.unsqueeze(0)).all(dim=1)  # (P, B), at most one P a row
        fits, shares = found.any(dim=0), own[found.int().argmax(dim=0)].T  # (B,) and (M, B)
        return Fused(
            torch.where(fits.unsqueeze(-1), pool(outputs, shares), fused.values),
            torch.where(fits, shares.float(), fused.contributions),
            fused.coverage,
            None if fused.abstained is None else fused.abstained & ~fits,
        )

    def state(self) -> dict[str, Tensor]:
        return self.rule.state()

    def to_spec(self, members: Sequence[str]) -> dict[str, Any]:
        spec = self.rule.to_spec(members)
        named = [{members[index]: pattern[index] for index in sorted(pattern)} for pattern in self.patterns]
        return {**spec, "options": {**spec.get("options", {}), PATTERNS: named}}


def _check(rule: str, patterns: Sequence[Mapping[int, float]], counted: set[int]) -> None:
    """Raises as the constructor says."""
    sets = [frozenset(pattern) for pattern in patterns]
    if len(set(sets)) < len(sets):
        raise RuleOptionError(rule, PATTERNS, "one set of members twice", "give each set of members once")
    for pattern in patterns:
        weights = list(pattern.values())
        if any(not math.isfinite(weight) or weight < 0 for weight in weights) or not 0 < sum(weights) < math.inf:
            raise RuleOptionError(rule, PATTERNS, weights, "give finite weights >= 0 with a sum above 0")
        if not set(pattern) < counted:
            fix = "a pattern names some of the members of weight above 0, not all; those are what the rule is for"
            raise RuleOptionError(rule, PATTERNS, dict(pattern), fix)


def read_patterns(rule: str, members: Sequence[str], found: Any) -> list[dict[int, float]]:
    """The option ``patterns`` of a spec, a list of mappings from members to weights, by the members' indices.

    Raises:
        RuleOptionError: it is no such list, or names a member that is never asked.
    """
    fix = "give a list of mappings from the members that answered to numbers, such as [{a: 0.7, b: 0.3}]"
    if not isinstance(found, (list, tuple)):
        raise RuleOptionError(rule, PATTERNS, found, fix)
    index = {name: number for number, name in enumerate(members)}
    read = []
    for pattern in found:
        numbers = isinstance(pattern, Mapping) and all(
            isinstance(weight, (int, float)) and not isinstance(weight, bool) for weight in pattern.values()
        )
        if not numbers or not pattern:
            raise RuleOptionError(rule, PATTERNS, pattern, fix)
        unknown = sorted(str(name) for name in pattern if name not in index)
        if unknown:
            known = f"name only members that are asked, of weight above 0: {', '.join(members)}"
            raise RuleOptionError(rule, PATTERNS, unknown, known)
        read.append({index[name]: float(weight) for name, weight in pattern.items()})
    return read
